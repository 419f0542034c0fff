"""Known duplicates are found, others aren't, and the fast search misses nothing."""

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emosynth_jax.data import duplicates


@pytest.fixture(scope="module")
def originals():
  """Sixty unrelated images with a photograph's spectrum, (60, 48, 48, 1)."""
  noise = np.random.default_rng(0).normal(size=(60, 48, 48))
  frequencies = np.hypot(np.fft.fftfreq(48)[:, None], np.fft.rfftfreq(48)[None])
  spectrum = np.fft.rfft2(noise) / np.maximum(frequencies, 1 / 48) ** 1.5
  images = np.fft.irfft2(spectrum)
  images -= images.min(axis=(1, 2), keepdims=True)
  images /= images.max(axis=(1, 2), keepdims=True)
  return (255 * images[..., None]).astype(np.uint8)


def _jpeg(image, quality):
  ok, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
  assert ok
  return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)[..., None]


def _brighter(image):
  return np.clip(0.8 * image.astype(float) + 40, 0, 255).astype(np.uint8)


def _cropped(image):
  return cv2.resize(image[1:47, 1:47], (48, 48))[..., None]


def _shifted(image):
  return np.pad(image, ((1, 0), (0, 1), (0, 0)), mode="edge")[:48, 1:]


def _stamped(image):
  stamped = image[..., 0].copy()
  cv2.putText(stamped, "stock", (6, 46), cv2.FONT_HERSHEY_SIMPLEX, 0.3, 128)
  return stamped[..., None]


_CHANGES = {
  "jpeg": lambda image: _jpeg(image, 50),
  "brighter": _brighter,
  "cropped": _cropped,
  "shifted": _shifted,
  "stamped": _stamped,
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_changed_copy_is_found_and_nothing_else(originals, change, mirrored):
  copies = np.stack([_CHANGES[change](image) for image in originals[:20]])
  if mirrored:
    copies = copies[:, :, ::-1]
  result = duplicates.find_duplicates(np.concatenate([originals, copies]))
  found = {tuple(pair) for pair in result.pairs.tolist()}
  known = {(i, 60 + i) for i in range(20)}
  assert found <= known  # a pair of unrelated images would be a false match
  assert len(found) >= 18
  assert result.mirrored.tolist() == [mirrored] * len(found)
  # No pair of them has equal pixels.
  np.testing.assert_array_equal(result.exact, np.arange(80))
  joined = [60 + i for i in range(20) if result.groups[60 + i] == i]
  assert len(joined) == len(found)


def test_unrelated_images_and_blank_ones_are_no_near_duplicates(originals):
  noise = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 1), np.uint8)
  blank = np.full((3, 48, 48, 1), [[[[0]]], [[[5]]], [[[5]]]], np.uint8)
  result = duplicates.find_duplicates(np.concatenate([originals, noise, blank]))
  assert result.pairs.shape == (0, 2)
  # Blank images of the same value are equal, of course.
  expected = np.arange(83)
  expected[82] = 81
  np.testing.assert_array_equal(result.groups, expected)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_equal_images_are_always_found(data):
  channels = data.draw(st.sampled_from([1, 3]))
  side = data.draw(st.integers(1, 20))
  seed = data.draw(st.integers(0, 2**32 - 1))
  kinds = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
  shape = (5, side, side, channels)
  pool = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
  pool[0] = 7  # a blank one among them
  images = pool[kinds]
  result = duplicates.find_duplicates(images)
  for i, image in enumerate(images):
    first = next(j for j, other in enumerate(images) if np.array_equal(image, other))
    assert result.exact[i] == first
    assert result.groups[i] == result.groups[first]


def test_a_near_duplicate_of_a_copy_is_one_of_all_copies(originals):
  images = np.stack(
    [originals[3], originals[5], _jpeg(originals[3], 60), originals[3], originals[5]]
  )
  result = duplicates.find_duplicates(images)
  np.testing.assert_array_equal(result.exact, [0, 1, 2, 0, 1])
  np.testing.assert_array_equal(result.groups, [0, 1, 0, 0, 1])
  np.testing.assert_array_equal(result.pairs, [[0, 2]])


def test_the_order_of_images_changes_no_group(originals):
  images = np.concatenate(
    [originals[:20]]
    + [
      np.stack([_CHANGES[name](image) for image in originals[:20]]) for name in _CHANGES
    ]
    + [originals[:5, :, ::-1]]
  )
  order = np.random.default_rng(1).permutation(len(images))
  groups = duplicates.find_duplicates(images).groups
  shuffled = duplicates.find_duplicates(images[order]).groups
  same = groups[:, None] == groups[None]
  np.testing.assert_array_equal(
    same[np.ix_(order, order)], shuffled[:, None] == shuffled[None]
  )


@pytest.mark.parametrize("n", [0, 1, 2, 700, 3000])
def test_the_fast_search_finds_the_pairs_that_brute_force_finds(n):
  # Random words are some 32 bits apart, so those near each other are made so.
  rng = np.random.default_rng(n)
  words = rng.integers(0, 2**64, (n, 2), np.uint64)
  near = rng.integers(0, n, (n // 2, 2)) if n else np.zeros((0, 2), int)
  for i, j in near:
    bits = rng.choice(64, rng.integers(0, 14), replace=False).astype(np.uint64)
    words[i, 0] = words[j, 1] ^ np.bitwise_or.reduce(
      np.uint64(1) << bits, initial=np.uint64(0)
    )
  bits = np.unpackbits(words.view(np.uint8).reshape(n, 2, 8), axis=-1).astype(np.int32)
  a, b = bits[:, 0], bits[:, 1]
  distances = a.sum(1)[:, None] + b.sum(1)[None] - 2 * (a @ b.T)
  expected = np.argwhere(np.triu(distances <= 10, k=1))
  found = duplicates.close_pairs(words[:, 0], words[:, 1], 10)
  np.testing.assert_array_equal(found, expected)
  assert n < 700 or len(expected) > 50


def test_too_many_candidates_are_refused_with_what_to_do():
  words = np.zeros(1500, np.uint64)
  with pytest.raises(ValueError, match=r"more than 1000000 pairs.*lower max_distance"):
    duplicates.close_pairs(words, words, 0)


def test_perceptual_hashes_are_those_of_the_library(originals):
  color = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
  for images in (originals[:5], color):
    for word, image in zip(duplicates.perceptual_hashes(images), images, strict=True):
      expected = imagehash.phash(Image.fromarray(image.squeeze()))
      bits = np.unpackbits(np.array([word]).view(np.uint8))
      np.testing.assert_array_equal(bits, expected.hash.ravel())


def test_correlation_is_pearsons_at_the_best_shift(originals):
  images = np.stack(
    [originals[0], _shifted(originals[0]), originals[1], originals[2][:, ::-1]]
  )
  pairs = np.array([[0, 1], [1, 0], [0, 2], [2, 3]])
  mirrored = np.array([False, False, False, True])

  def best(a, b):
    values = [
      np.corrcoef(a[3:45, 3:45].ravel(), b[y : y + 42, x : x + 42].ravel())[0, 1]
      for y in range(7)
      for x in range(7)
    ]
    return max(values)

  expected = []
  for (i, j), flip in zip(pairs, mirrored, strict=True):
    a, b = images[i, ..., 0].astype(float), images[j, ..., 0].astype(float)
    a = a[:, ::-1] if flip else a
    expected.append(max(best(a, b), best(b, a)))
  found = duplicates.aligned_correlations(images, pairs, mirrored)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
  assert found[0] == found[1] > 0.99


def test_an_image_with_a_blank_middle_correlates_with_nothing(originals):
  frame = np.zeros((48, 48, 1), np.uint8)
  frame[:2] = 255
  images = np.stack([frame, originals[0], frame])
  found = duplicates.aligned_correlations(
    images, np.array([[0, 1], [0, 2]]), np.zeros(2, bool)
  )
  np.testing.assert_array_equal(found, [0, 0])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29))))
def test_groups_are_connected_components(n, pairs):
  pairs = np.array([p for p in pairs if max(p) < n] or np.zeros((0, 2)), int)
  groups = duplicates.connected_groups(n, pairs)
  joined = np.eye(n, dtype=bool)
  joined[tuple(pairs.T)] = joined[tuple(pairs.T[::-1])] = True
  for k in range(n):  # Warshall's closure
    joined |= joined[:, k, None] & joined[k]
  np.testing.assert_array_equal(groups[:, None] == groups[None], joined)
  # Named by the first one.
  assert all(groups[i] == np.flatnonzero(groups == groups[i])[0] for i in range(n))


def test_a_symmetric_image_counts_once(originals):
  symmetric = originals[0].copy()
  symmetric[:, 24:] = symmetric[:, :24][:, ::-1]
  result = duplicates.find_duplicates(np.stack([symmetric, _jpeg(symmetric, 50)]))
  assert result.pairs.tolist() == [[0, 1]]
  assert result.mirrored.tolist() == [False]


@pytest.mark.parametrize(
  ("images", "error", "message"),
  [
    (np.zeros((2, 8, 8, 1), np.float32), TypeError, "expected uint8, got float32"),
    (np.zeros((2, 8, 8), np.uint8), ValueError, r"\(N, H, W, C\).*got \(2, 8, 8\)"),
    (np.zeros((2, 8, 8, 2), np.uint8), ValueError, "C 1 or 3"),
  ],
)
def test_what_is_no_image_is_refused(images, error, message):
  with pytest.raises(error, match=message):
    duplicates.find_duplicates(images)


@pytest.mark.parametrize(
  "thresholds",
  [{"max_distance": 32}, {"max_distance": -1}, {"min_correlation": 0.0}],
)
def test_thresholds_out_of_range_are_refused(originals, thresholds):
  (name,) = thresholds
  with pytest.raises(ValueError, match=f"{name}: expected"):
    duplicates.find_duplicates(originals[:2], **thresholds)


def test_no_images_have_no_duplicates():
  result = duplicates.find_duplicates(np.zeros((0, 8, 8, 1), np.uint8))
  assert (len(result.groups), len(result.pairs)) == (0, 0)
