"""Affine resampling against scipy, and its parameters against float64 matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from emosynth_jax.data.augmentation.affine import (
  AffineParameters,
  affine,
  affine_matrices,
  resample,
  sample_affine,
)

EVERYTHING = dict(zoom=0.2, shear=0.2, shift=0.1, rotation=15.0, flip=True)


def random_images(shape, dtype=np.float32, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def parameters(n=1, **changes):
  """Parameters that change nothing, but for those named."""
  plain = dict(
    zoom=np.ones((n, 2)),
    shear=np.zeros(n),
    shift=np.zeros((n, 2)),
    rotation=np.zeros(n),
    flip=np.zeros(n),
  )
  values = {
    name: np.broadcast_to(changes.get(name, value), value.shape)
    for name, value in plain.items()
  }
  flip = jnp.asarray(values.pop("flip"), bool)
  return AffineParameters(
    **{name: jnp.asarray(value, jnp.float32) for name, value in values.items()},
    flip=flip,
  )


@jax.jit
def transform_by(images, drawn):
  return resample(images, affine_matrices(drawn, *images.shape[1:3]))


def transform(images, **changes):
  return np.asarray(transform_by(images, parameters(len(images), **changes)))


# The sampler.


@pytest.mark.parametrize("shape", [(6, 13, 17, 1), (4, 16, 9, 3), (3, 1, 5, 2)])
def test_resample_is_scipy_s_affine_transform(shape):
  n, height, width, channels = shape
  images = random_images(shape)
  rng = np.random.default_rng(1)
  matrices = np.concatenate(
    [
      np.eye(2) + rng.uniform(-0.6, 0.6, (n, 2, 2)),
      rng.uniform(-0.4, 0.4, (n, 2, 1)) * [[height], [width]],
    ],
    axis=-1,
  ).astype(np.float32)
  result = jax.jit(resample)(images, matrices)
  for i in range(n):
    for c in range(channels):
      expected = ndimage.affine_transform(
        images[i, ..., c].astype(np.float64),
        matrices[i, :, :2].astype(np.float64),
        matrices[i, :, 2].astype(np.float64),
        order=1,
        mode="nearest",
      )
      # A float32 coordinate near 17 is 1e-6 off; neighbors differ by at most 255.
      np.testing.assert_allclose(result[i, ..., c], expected, atol=2e-3)


def test_resample_far_outside_is_the_nearest_corner():
  images = random_images((2, 5, 4, 3))
  away = np.array([[[1, 0, 1e6], [0, 1, -1e6]]] * 2, np.float32)
  result = jax.jit(resample)(images, away)
  np.testing.assert_array_equal(
    result, np.broadcast_to(images[:, -1:, :1], images.shape)
  )


def test_resample_reads_no_other_image():
  images = random_images((3, 8, 16, 1))
  images[[0, 2]] = np.nan  # 0 times NaN would show
  np.testing.assert_array_equal(transform(images)[1], images[1])


def test_resample_gives_nan_for_a_matrix_of_nan():
  matrices = jnp.full((1, 2, 3), jnp.nan)
  assert np.isnan(jax.jit(resample)(jnp.ones((1, 4, 4, 1)), matrices)).all()


# What each parameter means, alone and composed.


@pytest.mark.parametrize("shape", [(5, 6, 9, 1), (5, 7, 4, 3)])
def test_plain_parameters_are_the_exact_identity(shape):
  images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  np.testing.assert_array_equal(transform(images), images)


@pytest.mark.parametrize("shape", [(5, 6, 9, 1), (5, 7, 4, 3)])
def test_flip_exchanges_left_and_right_exactly(shape):
  images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  np.testing.assert_array_equal(transform(images, flip=1), images[:, :, ::-1])


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -3), (-1, 4), (8, 1)])
def test_whole_shift_moves_down_and_right_and_repeats_the_edge(down, right):
  images = random_images((3, 8, 16, 2))
  rows = np.clip(np.arange(8) - down, 0, 7)
  columns = np.clip(np.arange(16) - right, 0, 15)
  result = transform(images, shift=[down / 8, right / 16])
  np.testing.assert_array_equal(result, images[:, rows][:, :, columns])


def test_rotation_by_a_right_angle_is_rot90():
  images = random_images((3, 9, 9, 2))
  for degrees, turns in ((90, 1), (-90, -1), (180, 2)):
    np.testing.assert_allclose(
      transform(images, rotation=degrees),
      np.rot90(images, turns, axes=(1, 2)),
      atol=1e-2,
    )


def test_zoom_samples_a_window_of_that_many_times_the_side():
  ramp = np.broadcast_to(np.arange(9.0)[:, None] * 100 + np.arange(9.0), (9, 9))
  images = ramp[None, ..., None].astype(np.float32)
  window = transform(images, zoom=[0.5, 0.25])[0, ..., 0]
  place = np.arange(9) - 4  # from the center
  expected = (4 + 0.5 * place)[:, None] * 100 + (4 + 0.25 * place)
  np.testing.assert_allclose(window, expected, rtol=1e-6)


def test_shear_moves_each_row_by_its_distance_from_the_middle_one():
  images = random_images((1, 5, 9, 1))
  result = transform(images, shear=1)
  for row in range(5):
    columns = np.clip(np.arange(9) + (row - 2), 0, 8)
    np.testing.assert_array_equal(result[0, row], images[0, row, columns])


def test_matrices_are_the_documented_composition():
  height, width, n = 20, 31, 16
  drawn = jax.jit(lambda key: sample_affine(key, n, **EVERYTHING))(jax.random.key(3))
  matrices = jax.jit(affine_matrices, static_argnums=(1, 2))(drawn, height, width)

  def move(y, x):
    return np.array([[1, 0, y], [0, 1, x], [0, 0, 1]], np.float64)

  def linear(a):
    return np.block([[np.array(a, np.float64), np.zeros((2, 1))], [0, 0, 1]])

  middle = (height - 1) / 2, (width - 1) / 2
  for i in range(n):
    zoom, shear, shift, rotation, flip = (np.float64(p[i]) for p in drawn)
    c, s = np.cos(np.pi * rotation / 180), np.sin(np.pi * rotation / 180)
    expected = (
      move(*middle)
      @ linear([[c, s], [-s, c]])
      @ linear([[1, 0], [shear, 1]])
      @ linear(np.diag(zoom))
      @ linear(np.diag([1, 1 - 2 * flip]))
      @ move(-shift[0] * height, -shift[1] * width)
      @ move(-middle[0], -middle[1])
    )
    np.testing.assert_allclose(matrices[i], expected[:2], atol=1e-5)


# The draws.


def test_parameters_are_uniform_over_the_documented_intervals():
  n = 4000
  drawn = jax.jit(lambda key: sample_affine(key, n, **EVERYTHING))(jax.random.key(0))
  columns = {
    "zoom y": (drawn.zoom[:, 0], 0.8, 1.2),
    "zoom x": (drawn.zoom[:, 1], 0.8, 1.2),
    "shear": (drawn.shear, -0.2, 0.2),
    "shift y": (drawn.shift[:, 0], -0.1, 0.1),
    "shift x": (drawn.shift[:, 1], -0.1, 0.1),
    "rotation": (drawn.rotation, -15, 15),
  }
  for name, (values, low, high) in columns.items():
    values = np.asarray(values)
    assert low - 1e-6 <= values.min() < low + 0.01 * (high - low), name
    assert high - 0.01 * (high - low) < values.max() <= high + 1e-6, name
    p = stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue
    assert p > 1e-3, (name, p)
  # Three deviations of a fair coin.
  assert abs(np.mean(drawn.flip) - 0.5) < 3 * 0.5 / n**0.5
  # No parameter follows another one.
  table = np.stack([*(v for v, _, _ in columns.values()), drawn.flip.astype(float)])
  off_diagonal = np.corrcoef(table)[~np.eye(len(table), dtype=bool)]
  assert np.abs(off_diagonal).max() < 4 / n**0.5


def test_a_range_of_zero_leaves_its_parameter_alone():
  plain = parameters(50)
  for name, value in EVERYTHING.items():
    drawn = sample_affine(jax.random.key(0), 50, **{name: value})
    for field in AffineParameters._fields:
      same = np.array_equal(getattr(drawn, field), getattr(plain, field))
      assert same == (field != name), (name, field)


def test_affine_composes_what_it_says():
  images = random_images((8, 12, 10, 3))
  key = jax.random.key(5)
  drawn = sample_affine(key, 8, **EVERYTHING)
  np.testing.assert_allclose(
    jax.jit(functools.partial(affine, **EVERYTHING))(key, images),
    transform_by(images, drawn),
    atol=1e-2,
  )


def test_flip_alone_gives_each_image_or_its_mirror():
  images = random_images((64, 6, 5, 1))
  result = jax.jit(functools.partial(affine, flip=True))(jax.random.key(0), images)
  kept = (np.asarray(result) == images).all(axis=(1, 2, 3))
  mirrored = (np.asarray(result) == images[:, :, ::-1]).all(axis=(1, 2, 3))
  assert (kept ^ mirrored).all()
  assert 16 < kept.sum() < 48


def test_resample_of_a_batch_is_that_of_each_image():
  images = random_images((9, 12, 10, 3))
  drawn = sample_affine(jax.random.key(0), 9, **EVERYTHING)
  matrices = affine_matrices(drawn, 12, 10)
  one = jax.jit(lambda image, matrix: resample(image[None], matrix[None])[0])
  # Interpolated alike; a compiled program may fuse a multiplication and an addition.
  np.testing.assert_allclose(
    jax.jit(resample)(images, matrices),
    np.stack([one(*pair) for pair in zip(images, matrices, strict=True)]),
    atol=1e-2,
  )
  np.testing.assert_allclose(
    jax.jit(resample)(images, matrices),
    jax.jit(jax.vmap(one))(images, matrices),
    atol=1e-2,
  )


@pytest.mark.parametrize(
  ("matrices", "error", "message"),
  [
    (np.zeros((2, 2, 3), int), TypeError, "matrices: expected a floating dtype"),
    (np.zeros((1, 2, 3)), ValueError, r"matrices: expected shape \(2, 2, 3\)"),
    (np.zeros((2, 3, 3)), ValueError, r"matrices: .*got \(2, 3, 3\)"),
  ],
)
def test_resample_refuses(matrices, error, message):
  with pytest.raises(error, match=message):
    resample(np.zeros((2, 4, 4, 1), np.float32), matrices)
