"""Squares: the center of a frame, and the face by landmarks or by a detector."""

import cv2
import numpy as np
import pytest

from emosynth_jax.data.datasets import ck_plus
from emosynth_jax.data.images import face_crop, face_detector

IMAGE = np.random.default_rng(0).integers(0, 256, (49, 64, 1), np.uint8)


def write_landmarks(path, points):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points))


def face(left=20.0, top=10.0, right=40.0, bottom=30.0):
  """68 points whose box this is."""
  points = np.random.default_rng(1).uniform((left, top), (right, bottom), (68, 2))
  points[0], points[67] = (left, top), (right, bottom)
  return points


def test_the_largest_centered_square():
  square = face_crop.center(IMAGE)
  np.testing.assert_array_equal(face_crop.cut(IMAGE, square), IMAGE[:, 8:57])
  tall = IMAGE.transpose(1, 0, 2)
  np.testing.assert_array_equal(face_crop.cut(tall, face_crop.center(tall)), tall[8:57])


def test_around_a_box_with_a_tenth_of_its_longer_side():
  assert face_crop.around(20, 10, 40, 50) == pytest.approx((6, 6, 48))


def test_beyond_the_image_its_border_is_repeated():
  cut = face_crop.cut(IMAGE, (-2, 45, 6))
  padded = np.pad(IMAGE, ((0, 2), (2, 0), (0, 0)), mode="edge")
  np.testing.assert_array_equal(cut, padded[45:51, :6])


def test_around_landmarks(tmp_path):
  path = tmp_path / "landmarks.txt"
  write_landmarks(path, face())
  square = face_crop.around_landmarks(path, IMAGE)
  assert square == pytest.approx((18, 8, 24))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("1 2\n" * 67, "expected 68 lines of two numbers"),
    ("1 2\n" * 69, "expected 68 lines of two numbers"),
    ("1 x\n" * 68, "expected 68 lines of two numbers .*could not convert"),
    ("", "expected 68 lines"),
    ("1 2\n" * 68, "expected points on the 64x49 image, got x 1 to 1"),
    ("nan 2\n" + "3 4\n" * 67, "expected points on"),
    ("inf 2\n" + "3 4\n" * 67, "expected points on"),
    ("700 20\n" + "720 40\n" * 67, "expected points on .*x 700 to 720"),
  ],
)
def test_malformed_landmarks_are_refused_by_name(tmp_path, text, message):
  path = tmp_path / "landmarks.txt"
  path.write_text(text)
  with pytest.raises(ValueError, match=message) as caught:
    face_crop.around_landmarks(path, IMAGE)
  assert str(path) in str(caught.value)


def write_ck_plus(root):
  """Three people with seven expressions each, all frames alike."""
  for subject in ("S001", "S002", "S003"):
    for code in range(1, 8):
      names = [f"{subject}_{code:03d}_{number:08d}" for number in (1, 2, 3)]
      folder = root / "cohn-kanade-images" / subject / f"{code:03d}"
      folder.mkdir(parents=True)
      for name in names:
        cv2.imwrite(str(folder / f"{name}.png"), IMAGE)
        landmarks = root / "Landmarks" / subject / f"{code:03d}"
        write_landmarks(landmarks / f"{name}_landmarks.txt", face())
      emotion = root / "Emotion" / subject / f"{code:03d}"
      emotion.mkdir(parents=True)
      (emotion / f"{names[-1]}_emotion.txt").write_text(f"   {code}.0000000e+00\n")


def test_ck_plus_crops_by_its_own_landmarks(tmp_path):
  write_ck_plus(tmp_path)
  options = {"folds": 3, "crop": "landmarks", "image_size": 24}
  dataset = ck_plus.load(tmp_path, "test", **options)
  assert len(dataset) == 21
  for image in dataset.images:
    np.testing.assert_array_equal(image, IMAGE[8:32, 18:42])
  for path in tmp_path.glob("Landmarks/*/*/*_00000003_landmarks.txt"):
    path.unlink()
  with pytest.raises(FileNotFoundError, match=r"3_landmarks.txt is missing; unpack CK"):
    ck_plus.load(tmp_path, "test", **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_ck_plus_crops_around_the_most_confident_face(tmp_path, monkeypatch, channels):
  seen = [face_detector.Face(20, 10, 42, 32, 0.9), face_detector.Face(0, 0, 9, 9, 0.7)]
  monkeypatch.setattr(face_detector, "Detector", lambda: lambda image: seen)
  write_ck_plus(tmp_path)
  options = {"folds": 3, "crop": "detector", "image_size": 25, "channels": channels}
  dataset = ck_plus.load(tmp_path, "test", **options)
  # Of 22 pixels: a square of 25, whose middle is half a pixel above the box's.
  expected = face_crop.cut(IMAGE, (31 - 12.5, 21 - 0.5 - 12.5, 25))
  for image in dataset.images:
    np.testing.assert_array_equal(image, np.repeat(expected, channels, axis=-1))
  seen.clear()
  with pytest.raises(ValueError, match=r"\.png: the face detector found no face"):
    ck_plus.load(tmp_path, "test", **options)
