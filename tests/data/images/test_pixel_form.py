"""Classification of original and equalized images, synthetic and published."""

import dataclasses
import io
import lzma
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from emosynth_jax.data.dataset import Dataset, hold_out, subset
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import pixel_form

_ORIGINAL, _EQUALIZED, _UNKNOWN = range(3)


def _photographs(n, contrast, mean=127.0, seed=0):
  """Smooth images with a normal distribution of gray levels, (n, 48, 48)."""
  rng = np.random.default_rng(seed)
  images = []
  for _ in range(n):
    image = cv2.GaussianBlur(rng.normal(size=(48, 48)), (0, 0), 4)
    image = (image - image.mean()) / image.std() + rng.normal(scale=0.1, size=(48, 48))
    images.append(mean + contrast * image)
  return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def _equalize(images):
  return np.stack([cv2.equalizeHist(image) for image in images])


def _as_jpeg(images, quality):
  decoded = []
  for image in images:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    decoded.append(np.array(Image.open(buffer)))
  return np.stack(decoded)


def _forms(images):
  return pixel_form.pixel_forms(images[..., None]).tolist()


@pytest.mark.parametrize("quality", [None, 100, 95, 90])
@pytest.mark.parametrize("contrast", [12.0, 30.0, 50.0])
def test_opencvs_equalization_is_recognized_with_and_without_jpeg(contrast, quality):
  originals = _photographs(20, contrast)
  equalized = _equalize(originals)
  if quality:
    originals, equalized = (_as_jpeg(x, quality) for x in (originals, equalized))
  assert _forms(originals) == [_ORIGINAL] * 20
  assert _forms(equalized) == [_EQUALIZED] * 20


@pytest.mark.parametrize("level", [0, 130, 255])
def test_a_plain_background_hides_neither_form(level):
  originals = _photographs(20, 30.0)
  originals[:, :, :16] = level
  for quality in (95, 100):
    assert _forms(_as_jpeg(originals, quality)) == [_ORIGINAL] * 20
    assert _forms(_as_jpeg(_equalize(originals), quality)) == [_EQUALIZED] * 20


def test_other_changes_of_contrast_are_no_equalization():
  images = _photographs(20, 30.0)
  low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2))
  stretched = (images - low) * (255.0 / (high[:, None, None] - low))
  for changed in (
    stretched,  # to the full range
    255 * (images / 255) ** 2.2,
    255 * (images / 255) ** 0.45,
    255.0 - images,
    0.8 * _equalize(images),
    _equalize(images) / 2 + 64.0,
  ):
    assert _forms(np.rint(changed).astype(np.uint8)) == [_ORIGINAL] * 20


def test_images_of_few_levels_are_unknown():
  constant = np.stack([np.full((48, 48), level, np.uint8) for level in (0, 9, 255)])
  two_levels = np.where(_photographs(3, 30.0) > 127, 255, 0).astype(np.uint8)
  assert _forms(constant) == _forms(two_levels) == [_UNKNOWN] * 3


def test_each_image_counts_for_itself_and_size_does_not_matter():
  originals = _photographs(4, 30.0)
  mixed = np.concatenate([originals, _equalize(originals)])[[0, 4, 1, 5, 2, 6, 3, 7]]
  assert _forms(mixed) == [_ORIGINAL, _EQUALIZED] * 4
  large = np.stack([cv2.resize(x, (100, 90)) for x in originals])
  assert _forms(np.concatenate([large, _equalize(large)])) == [0] * 4 + [1] * 4
  assert pixel_form.pixel_forms(np.zeros((0, 48, 48, 1), np.uint8)).shape == (0,)
  for wrong in (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 1))):
    with pytest.raises(ValueError, match=r"images: expected uint8 of shape \(N, heig"):
      pixel_form.pixel_forms(wrong)


def test_counts_are_named_and_the_majority_is_the_main_form():
  counts = pixel_form.count_forms(np.array([0] * 3574 + [1] * 15))
  assert counts == {"original": 3574, "equalized": 15, "unknown": 0}
  assert pixel_form.describe_counts(counts) == "3,574 original and 15 equalized"
  assert pixel_form.main_form(counts) == "original"
  three = {"original": 1, "equalized": 2000, "unknown": 3}
  text = "1 original, 2,000 equalized and 3 unknown"
  assert pixel_form.describe_counts(three) == text
  assert pixel_form.main_form(three) == "equalized"
  assert pixel_form.describe_counts(pixel_form.count_forms(np.zeros(0, int))) == (
    "no image"
  )
  for unknown in (None, {}, {"original": 0}, {"original": 1, "unknown": 2}):
    assert pixel_form.main_form(unknown) is None


def _dataset(images):
  return Dataset(
    images=images,
    labels=np.arange(len(images), dtype=np.int32) % 2,
    class_names=("sad", "happy"),
    split="train",
    sources=tuple(map(str, range(len(images)))),
  )


def test_every_part_of_a_data_set_keeps_the_forms_of_its_images():
  originals = _photographs(20, 30.0)
  images = np.concatenate([originals, _equalize(originals)])[..., None]
  whole = _dataset(images)
  assert whole.form_counts is None
  assert whole.take(np.array([3, 30])).form_counts is None

  whole = whole.with_pixel_forms()
  assert whole.form_counts == {"original": 20, "equalized": 20, "unknown": 0}
  assert whole.in_memory().form_counts == whole.form_counts
  parts = [
    whole.take(np.array([30, 3, 31])),
    subset(whole, 10, seed=0),
    *hold_out(whole, 0.3, seed=0),
  ]
  for part in parts:
    # The first twenty images are the originals; a source is a number of one.
    expected = [int(int(source) >= 20) for source in part.sources]
    assert part.pixel_forms.tolist() == expected
    assert set(expected) == {0, 1}


def test_colored_images_have_no_form_and_forms_fit_the_images():
  colored = _dataset(np.zeros((4, 8, 8, 3), np.uint8))
  assert colored.with_pixel_forms().pixel_forms is None
  whole = _dataset(np.zeros((4, 8, 8, 1), np.uint8))
  with pytest.raises(ValueError, match=r"pixel_forms: expected shape \(4,\), got \(3,"):
    dataclasses.replace(whole, pixel_forms=np.zeros(3, np.uint8))


@pytest.fixture(scope="module")
def fer2013_forms(real_data):
  """The forms of fer2013.csv's rows, and which rows are known as equalized alone."""
  path = real_data / "fer2013_original.xz"
  if not path.exists():
    pytest.skip(f"no real data: {path} does not exist")
  count = sum(fer2013.COUNTS.values())
  content = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8)
  # Differences along each row, then the labels, then the rows known equalized alone.
  pixels = content[: count * 48 * 48].reshape(count, 48, 48)
  images = np.cumsum(pixels, axis=2, dtype=np.uint8)[..., None]
  return pixel_form.pixel_forms(images), content[-count:].astype(bool), images


def test_the_published_counts_of_the_table(fer2013_forms):
  forms, known_equalized, images = fer2013_forms
  # 173 rows are known in equalized form alone, 148 / 10 / 15 by split; of those, 12
  # are of one gray level.
  constant = np.ptp(images, axis=(1, 2))[:, 0] == 0
  np.testing.assert_array_equal(forms == _UNKNOWN, constant)
  np.testing.assert_array_equal(forms != _ORIGINAL, known_equalized)
  starts = np.cumsum(list(fer2013.COUNTS.values()))[:-1]
  assert [pixel_form.count_forms(part) for part in np.split(forms, starts)] == [
    {"original": 28561, "equalized": 137, "unknown": 11},
    {"original": 3579, "equalized": 9, "unknown": 1},
    {"original": 3574, "equalized": 15, "unknown": 0},
  ]


def test_the_zip_is_equalized(real_data):
  # PublicTest, which has one of the twelve constant images
  # (docs/results/fer2013_audit.md).
  with zipfile.ZipFile(real_data / "fer2013.zip") as archive:
    names = [name for name in archive.namelist() if "/PublicTest_" in name]
    images = [np.array(Image.open(io.BytesIO(archive.read(name)))) for name in names]
  forms = pixel_form.pixel_forms(np.stack(images)[..., None])
  counts = {"original": 0, "equalized": 3588, "unknown": 1}
  assert pixel_form.count_forms(forms) == counts
