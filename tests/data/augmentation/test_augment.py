"""The augmentations: what they must keep, and the distributions of what they draw."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from emosynth_jax.data.augmentation.affine import affine
from emosynth_jax.data.augmentation.augment import (
  augment,
  cutout,
  mixup,
  random_crop,
  random_erasing,
)

EVERYTHING = dict(zoom=0.2, shear=0.2, shift=0.1, rotation=15.0, flip=True)


def random_images(shape, dtype=np.float32, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


# augment, and what holds for every operation.

OPERATIONS = {
  "affine": functools.partial(affine, **EVERYTHING),
  "random_erasing": functools.partial(random_erasing, probability=0.7),
  "random_crop": functools.partial(random_crop, padding=4, fill="reflect"),
  "cutout": functools.partial(cutout, side=5),
  "augment": lambda key, images: augment(
    key,
    images.astype(jnp.uint8),
    **EVERYTHING,
    crop_padding=2,
    cutout_side=4,
    erasing_probability=0.7,
  ),
}

jit_once = functools.cache(jax.jit)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
class TestEveryOperation:
  images = random_images((16, 12, 10, 3))

  def test_same_key_same_images_other_key_others(self, operation):
    run = jit_once(operation)
    first, again, other = (run(jax.random.key(k), self.images) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any(axis=(1, 2, 3)).sum() > 4

  def test_images_do_not_touch_each_other(self, operation):
    run = jit_once(operation)
    whole = np.asarray(run(jax.random.key(1), self.images))
    for i in (0, 7, 15):
      # All others replaced: image i must not notice.
      others = random_images(self.images.shape, seed=9)
      others[i] = self.images[i]
      alone = np.asarray(run(jax.random.key(1), others))
      np.testing.assert_array_equal(alone[i], whole[i])
      assert (alone != whole).any()

  def test_stays_within_the_pixels(self, operation):
    result = np.asarray(jit_once(operation)(jax.random.key(1), self.images))
    assert result.min() >= 0
    assert result.max() <= 255
    assert result.shape == self.images.shape
    assert result.dtype == np.float32

  def test_equal_images_are_changed_differently(self, operation):
    equal = np.broadcast_to(self.images[:1], self.images.shape)
    result = np.asarray(jit_once(operation)(jax.random.key(1), equal))
    assert len(np.unique(result.reshape(16, -1), axis=0)) > 8


@pytest.mark.parametrize("jitted", [False, True])
def test_augment_without_ranges_is_the_exact_identity(jitted):
  images = random_images((4, 7, 5, 3), np.uint8)
  result = (jax.jit(augment) if jitted else augment)(jax.random.key(0), images)
  assert result.dtype == jnp.float32
  np.testing.assert_array_equal(result, images)


def test_augment_is_affine_then_erasing():
  images = random_images((64, 12, 10, 1), np.uint8)
  result = np.asarray(
    jax.jit(
      functools.partial(
        augment,
        shift=0.5,
        erasing_probability=0.5,
        erasing_area=(0.2, 0.3),
        erasing_aspect=(0.5, 2),
        erasing_value=-1.0,
      )
    )(jax.random.key(0), images)
  )
  # Shifted after erasing, interpolation would leave values between -1 and 0, and
  # repeat an erased edge over more than a third of the image.
  erased = result == -1
  assert not ((result < 0) & ~erased).any()
  share = erased.mean(axis=(1, 2, 3))
  assert ((share == 0) | ((share > 0.1) & (share < 0.4))).all()
  assert 16 < (share > 0).sum() < 48
  assert (result[~erased] != np.float32(images)[~erased]).mean() > 0.5


def test_augment_compiles_once_for_all_steps_and_runs_within_a_scan():
  images = jnp.asarray(random_images((4, 8, 8, 1), np.uint8))
  keys = jax.random.split(jax.random.key(0), 3)
  traces = []

  @jax.jit
  def step(key, images):
    traces.append(0)
    return augment(key, images, **EVERYTHING, erasing_probability=0.5)

  each = [step(key, images) for key in keys]
  assert len(traces) == 1
  _, scanned = jax.jit(
    lambda keys: jax.lax.scan(lambda carry, key: (carry, step(key, images)), 0, keys)
  )(keys)
  np.testing.assert_allclose(scanned, np.stack(each), atol=1e-2)


def test_bfloat16_is_interpolated_in_float32_and_returned_as_it_came():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(16, 12, 10, 3)), jnp.bfloat16)
  # Without jit, which keeps bfloat16 values in float32 between operations anyway.
  run = functools.partial(OPERATIONS["affine"], jax.random.key(2))
  result = run(images)
  assert result.dtype == jnp.bfloat16
  expected = run(images.astype(jnp.float32)).astype(jnp.bfloat16)
  np.testing.assert_array_equal(result, expected)


def test_erasing_keeps_bfloat16():
  images = random_images((16, 12, 10, 3))  # whole numbers to 255 are exact in it
  run = functools.partial(OPERATIONS["random_erasing"], jax.random.key(2))
  erased = run(images.astype(jnp.bfloat16))
  assert erased.dtype == jnp.bfloat16
  np.testing.assert_array_equal(np.float32(erased), run(images))


# Random erasing.


def rectangles(n, height, width, seed=0, **arguments):
  """Erases n images; sides and first pixels of their rectangles, which it checks."""
  run = jax.jit(functools.partial(random_erasing, value=-1.0, **arguments))
  images = random_images((n, height, width, 2))
  result = np.asarray(run(jax.random.key(seed), images))
  erased = result == -1
  np.testing.assert_array_equal(result[~erased], images[~erased])
  assert (erased[..., 0] == erased[..., 1]).all()
  rows, columns = erased[..., 0].any(2), erased[..., 0].any(1)
  # Exactly the pixels of one block of rows and one of columns.
  np.testing.assert_array_equal(erased[..., 0], rows[:, :, None] & columns[:, None, :])
  for line in (rows, columns):
    starts = (np.diff(line.astype(int), axis=1, prepend=0) == 1).sum(axis=1)
    assert (starts <= 1).all()
  return rows.sum(1), columns.sum(1), rows.argmax(1), columns.argmax(1)


def test_erasing_area_and_aspect_have_the_documented_distributions():
  # Sides of many pixels, so that rounding them hardly shows.
  n, size, area, aspect = 800, 128, (0.1, 0.3), (0.4, 2.5)
  h, w, _, _ = rectangles(n, size, size, probability=1.0, area=area, aspect=aspect)
  share, ratio = h * w / size**2, h / w
  assert area[0] * 0.98 <= share.min() < 0.11
  assert 0.29 < share.max() <= area[1] * 1.02
  assert aspect[0] * 0.98 <= ratio.min() < 0.42
  assert 2.4 < ratio.max() <= aspect[1] * 1.02
  assert stats.kstest(share, stats.uniform(0.1, 0.2).cdf).pvalue > 1e-3
  assert stats.kstest(ratio, stats.loguniform(*aspect).cdf).pvalue > 1e-3
  assert abs(np.corrcoef(share, np.log(ratio))[0, 1]) < 4 / n**0.5


@pytest.mark.parametrize(("height", "width"), [(48, 48), (20, 60)])
def test_erasing_s_default_rectangles_fit_and_lie_anywhere(height, width):
  h, w, top, left = rectangles(2000, height, width, probability=1.0)
  assert (h > 0).all()
  assert (w > 0).all()
  # Uniform among the places where it fits.
  for first, side, size in ((top, h, height), (left, w, width)):
    free = side <= size - 4
    place = (first[free] + 0.5) / (size - side[free] + 1)
    assert abs(place.mean() - 0.5) < 4 * (1 / 12 / free.sum()) ** 0.5
    assert (first == 0).any()
    assert (first + side == size).any()
  share = h * w / (height * width)
  assert abs(share.mean() - 0.175) < 0.01
  # Its row says nothing of its column.
  both = (h <= height - 4) & (w <= width - 4)
  place = top[both] / (height - h[both]), left[both] / (width - w[both])
  assert abs(np.corrcoef(*place)[0, 1]) < 4 / both.sum() ** 0.5
  # The nominal sides are rounded by half a pixel at most.
  assert share.max() < 0.33 + 0.5 * (h + w).max() / (height * width)


def test_erasing_chooses_images_with_its_probability():
  h, _, _, _ = rectangles(2000, 12, 12, probability=0.3)
  assert abs((h > 0).mean() - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


def test_erasing_all_of_every_image():
  h, w, _, _ = rectangles(5, 7, 7, probability=1, area=(1, 1), aspect=(1, 1))
  assert (h == 7).all()
  assert (w == 7).all()


def test_erasing_with_probability_zero_is_the_identity():
  images = random_images((3, 5, 5, 1))
  result = random_erasing(jax.random.key(0), images, probability=0.0)
  np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize("shape", [(40, 24, 24, 3), (3, 5, 7, 3)])
def test_erasing_noise_is_a_uniform_byte_in_each_pixel(shape):
  run = jax.jit(functools.partial(random_erasing, probability=1.0, area=(0.5, 0.5)))
  result = np.asarray(run(jax.random.key(0), np.full(shape, -1, np.float32)))
  noise = result[result >= 0]
  assert (noise == np.round(noise)).all()
  if noise.size > 10_000:
    counts = np.bincount(noise.astype(int), minlength=256)
    assert len(counts) == 256
    assert stats.chisquare(counts).pvalue > 1e-3
    # Channels are independent of each other.
    table = result[(result >= 0).all(-1)].T
    assert np.abs(np.corrcoef(table) - np.eye(3)).max() < 4 / table.shape[1] ** 0.5


# Random crop.


@pytest.mark.parametrize("fill", ["edge", "reflect", "zero"])
def test_a_crop_is_a_window_of_the_padded_image(fill):
  n, padding = 300, 2
  images = random_images((n, 6, 5, 3))
  run = functools.partial(random_crop, padding=padding, fill=fill)
  result = np.asarray(jax.jit(run)(jax.random.key(0), images))
  # OpenCV pads too; its BORDER_REFLECT_101 does not repeat the border pixel.
  border = {
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "zero": cv2.BORDER_CONSTANT,
  }[fill]
  counts = np.zeros((2 * padding + 1, 2 * padding + 1), int)
  for image, cropped in zip(images, result, strict=True):
    padded = cv2.copyMakeBorder(image, *[padding] * 4, border, value=(0, 0, 0))
    places = [
      (y, x)
      for y in range(2 * padding + 1)
      for x in range(2 * padding + 1)
      if (padded[y : y + 6, x : x + 5] == cropped).all()
    ]
    assert len(places) == 1
    counts[places[0]] += 1
  # All 25 windows are as likely.
  assert stats.chisquare(counts.ravel()).pvalue > 1e-3


# Cutout.


def test_cutout_grays_a_square_around_a_uniform_pixel():
  n, size, side = 2000, 12, 4
  images = random_images((n, size, size, 2))
  result = np.asarray(
    jax.jit(functools.partial(cutout, side=side))(jax.random.key(0), images)
  )
  mean = images.mean(axis=(1, 2), keepdims=True)
  gray = np.isclose(result, mean, atol=1e-3).all(axis=-1)
  np.testing.assert_array_equal(result[~gray], images[~gray])
  rows, columns = gray.any(axis=2), gray.any(axis=1)
  np.testing.assert_array_equal(gray, rows[:, :, None] & columns[:, None])
  for line in (rows, columns):
    # The center is the side's pixel 2: cut off at the border, 2, 3, 4, ..., 4, 3.
    lengths, first = line.sum(axis=1), line.argmax(axis=1)
    assert set(lengths) == {2, 3, 4}
    center = np.where(first == 0, lengths - side // 2, first + side // 2)
    counts = np.bincount(center, minlength=size)
    assert len(counts) == size
    assert stats.chisquare(counts).pvalue > 1e-3
  assert abs(np.corrcoef(rows.argmax(axis=1), columns.argmax(axis=1))[0, 1]) < 0.1


def test_cutout_as_long_as_the_image():
  images = random_images((20, 4, 6, 1))
  result = np.asarray(cutout(jax.random.key(0), images, side=6))
  gray = np.isclose(result, images.mean(axis=(1, 2), keepdims=True))
  assert gray.any(axis=(1, 2, 3)).all()
  assert not gray.all()


@pytest.mark.parametrize(
  "unchanged", [lambda *a: random_crop(*a, padding=0), lambda *a: cutout(*a, side=0)]
)
def test_no_crop_and_no_cutout_are_the_identity(unchanged):
  images = random_images((3, 5, 5, 1))
  np.testing.assert_array_equal(unchanged(jax.random.key(0), images), images)


def test_augment_crops_and_then_cuts_out():
  images = random_images((64, 12, 10, 1), np.uint8)
  run = functools.partial(augment, crop_padding=3, crop_fill="zero", cutout_side=5)
  result = np.asarray(jax.jit(run)(jax.random.key(0), images))
  black = (result == 0).all(axis=(2, 3)).any(axis=1)
  assert 0.5 < black.mean() < 1  # 6 of 7 places have a black row
  # The gray is that of the cropped image: it is no pixel's value.
  assert (result != np.round(result)).any(axis=(1, 2, 3)).mean() > 0.9


# Mixup.


def test_mixup_blends_pixels_and_targets_by_the_same_weights():
  n = 32
  images = random_images((n, 6, 5, 3))
  one_hot = np.eye(n, dtype=np.float32)
  run = jax.jit(functools.partial(mixup, alpha=1))
  mixed, targets = run(jax.random.key(0), images, one_hot)
  # With one class an example, the targets are the matrix of the blend.
  expected = np.einsum("ij,jhwc->ihwc", np.float64(targets), images)
  np.testing.assert_allclose(mixed, expected, atol=1e-3)
  targets = np.asarray(targets)
  np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
  assert (targets >= 0).all()
  # Two examples in each, and each once the partner of one.
  partners = (targets * (1 - one_hot)) > 0
  assert (partners.sum(1) <= 1).all()
  assert (partners.sum(0) <= 1).all()
  assert partners.sum() > n / 2
  assert len(np.unique(np.diag(targets))) > n / 2  # a weight for each example

  again = run(jax.random.key(0), images, one_hot)
  np.testing.assert_array_equal(again[0], mixed)
  np.testing.assert_array_equal(again[1], targets)
  other = run(jax.random.key(1), images, one_hot)
  assert (((other[1] * (1 - one_hot)) > 0) != partners).any()

  # Without jit, and in bfloat16: whole numbers up to 255 are exact in it, their
  # blends are half a step off.
  coarse = mixup(jax.random.key(0), images.astype(jnp.bfloat16), one_hot, alpha=1)
  assert coarse[0].dtype == jnp.bfloat16
  assert coarse[1].dtype == jnp.float32
  np.testing.assert_allclose(np.float32(coarse[0]), mixed, atol=0.51)
  np.testing.assert_allclose(coarse[1], targets, atol=1e-6)


def test_mixup_weights_are_beta_distributed():
  n, alpha = 256, 0.5
  one_hot = jnp.eye(n)
  run = functools.partial(mixup, alpha=alpha)
  _, targets = jax.jit(
    jax.vmap(lambda key: run(key, one_hot.reshape(n, 1, n, 1), one_hot))
  )(jax.random.split(jax.random.key(0), 20))
  weights = np.diagonal(targets, axis1=1, axis2=2).ravel()
  weights = weights[weights < 1]  # at 1 an example is its own partner
  assert len(weights) > 0.99 * 20 * n
  assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
  # Variance of Beta(a, a): 1 / (4 (2 a + 1)).
  assert np.var(weights) == pytest.approx(0.25 / (2 * alpha + 1), rel=0.06)


def test_mixup_of_a_tiny_alpha_is_finite():
  one_hot = np.eye(64, dtype=np.float32)
  _, targets = jax.jit(functools.partial(mixup, alpha=1e-4))(
    jax.random.key(0), np.ones((64, 2, 2, 1)), one_hot
  )
  assert np.isfinite(targets).all()
  np.testing.assert_allclose(np.sum(targets, axis=1), 1, atol=1e-6)


# Refusals.

KEY = jax.random.key(0)
IMAGES = np.zeros((2, 4, 4, 1), np.float32)
BYTES = IMAGES.astype(np.uint8)
ONE_HOT = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
  ("function", "arguments", "error", "message"),
  [
    (affine, dict(zoom=-0.1), ValueError, r"zoom: expected .*\[0, 1\], got -0.1"),
    (affine, dict(zoom=1.5), ValueError, "zoom: .*got 1.5"),
    (affine, dict(shear=-1), ValueError, "shear: .*got -1"),
    (affine, dict(shear=float("inf")), ValueError, "shear: .*got inf"),
    (affine, dict(shear=float("nan")), ValueError, "shear: .*got nan"),
    (affine, dict(shift=-0.5), ValueError, "shift: .*got -0.5"),
    (affine, dict(shift=3), ValueError, "shift: .*got 3"),
    (affine, dict(rotation=-5.0), ValueError, "rotation: .*got -5.0"),
    (affine, dict(rotation=181), ValueError, "rotation: .*got 181"),
    (affine, dict(rotation=(-5, 5)), TypeError, r"rotation: .*got \(-5, 5\)"),
    (affine, dict(zoom="a"), TypeError, "zoom: expected a number, got 'a'"),
    (affine, dict(zoom=True), TypeError, "zoom: expected a number, got True"),
    (affine, dict(flip=1), TypeError, "flip: expected True or False, got 1"),
    (affine, dict(images=BYTES), TypeError, "images: .*floating.*got uint8"),
    (affine, dict(images=IMAGES[0]), ValueError, r"images: .*\(N, H, W, C\)"),
    (affine, dict(images=IMAGES[:0]), ValueError, "images: .*without a zero"),
    (augment, dict(images=IMAGES), TypeError, "images: .*uint8.*got float32"),
    (augment, dict(images=BYTES[0]), ValueError, r"images: .*\(N, H, W, C\)"),
    (augment, dict(images=BYTES, zoom=-1), ValueError, "zoom: "),
    (augment, dict(images=BYTES, erasing_probability=2), ValueError, "probability: "),
    (random_erasing, dict(probability=-0.1), ValueError, "probability: .*got -0.1"),
    (random_erasing, dict(probability=1.1), ValueError, "probability: .*got 1.1"),
    (random_erasing, dict(images=BYTES), TypeError, "images: .*floating.*got uint8"),
    (random_erasing, dict(area=0.2), TypeError, r"area: .*\(least, greatest\)"),
    (random_erasing, dict(area=(0, 0.2)), ValueError, r"area: .*\(0, 1\], got 0"),
    (random_erasing, dict(area=(0.1, 1.2)), ValueError, "area: .*got 1.2"),
    (random_erasing, dict(area=(0.3, 0.2)), ValueError, r"area: .*\(0.3, 0.2\)"),
    (random_erasing, dict(aspect=(0, 1)), ValueError, "aspect: .*got 0"),
    (random_erasing, dict(aspect=(2, 1)), ValueError, r"aspect: .*\(2, 1\)"),
    (random_erasing, dict(aspect=(4, 5)), ValueError, "area: no rectangle .* 4 x 4"),
    (random_erasing, dict(aspect=(0.1, 0.2)), ValueError, "area: no rectangle"),
    (random_erasing, dict(value="random"), TypeError, "value: .*got 'random'"),
    (random_crop, dict(padding=-1), ValueError, r"padding: .*\[0, 3\], got -1"),
    (random_crop, dict(padding=4), ValueError, r"padding: .*\[0, 3\], got 4"),
    (random_crop, dict(padding=1.0), TypeError, "padding: .*integer, got 1.0"),
    (random_crop, dict(fill="wrap"), ValueError, "fill: .*edge, reflect, zero; got"),
    (random_crop, dict(images=BYTES), TypeError, "images: .*floating.*got uint8"),
    (cutout, dict(side=-1), ValueError, r"side: .*\[0, 4\], got -1"),
    (cutout, dict(side=5), ValueError, r"side: .*\[0, 4\], got 5"),
    (cutout, dict(side=True), TypeError, "side: .*integer, got True"),
    (cutout, dict(images=IMAGES[0]), ValueError, r"images: .*\(N, H, W, C\)"),
    (mixup, dict(alpha=0), ValueError, r"alpha: .*\(0, inf\], got 0"),
    (mixup, dict(alpha=-1.0), ValueError, "alpha: .*got -1.0"),
    (mixup, dict(alpha=None), TypeError, "alpha: expected a number, got None"),
    (mixup, dict(images=BYTES), TypeError, "images: .*floating.*got uint8"),
    (mixup, dict(labels_onehot=np.arange(2)), TypeError, "labels_onehot: .*got int"),
    (mixup, dict(labels_onehot=ONE_HOT[0]), ValueError, r"labels_onehot: .*\(2, K\)"),
    (mixup, dict(labels_onehot=ONE_HOT[:1]), ValueError, r"labels_onehot: .*\(2, K\)"),
  ],
)
def test_refuses(function, arguments, error, message):
  defaults = {
    affine: {},
    augment: {},
    random_crop: dict(padding=1),
    cutout: dict(side=2),
    random_erasing: dict(probability=0.5),
    mixup: dict(labels_onehot=ONE_HOT, alpha=1.0),
  }
  with pytest.raises(error, match=message):
    function(KEY, **{"images": IMAGES, **defaults[function], **arguments})


def test_refuses_a_traced_range():
  with pytest.raises(TypeError, match="zoom: expected a number"):
    jax.jit(lambda zoom: affine(KEY, IMAGES, zoom=zoom))(0.2)
