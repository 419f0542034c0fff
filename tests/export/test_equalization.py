"""Histogram equalization in an ONNX file, against OpenCV."""

import cv2
import numpy as np
import onnxruntime
import pytest

from emosynth_jax.export.onnx import writer as onnx_writer
from emosynth_jax.models import network_inputs


@pytest.mark.parametrize("shape", [(48, 48, 1), (5, 7, 1), (1, 1, 1), (1, 9, 1)])
def test_onnxruntime_equalizes_as_opencv_does(shape):
  model = onnx_writer.write_onnx(
    lambda images: [network_inputs.equalize_histogram(images)],
    shape,
    output_names=["equalized"],
  )
  session = onnxruntime.InferenceSession(model.SerializeToString())
  rng = np.random.default_rng(0)
  images = np.concatenate(
    [
      rng.integers(0, 256, (9, *shape)),
      rng.integers(100, 105, (9, *shape)),
      255 * rng.integers(0, 2, (9, *shape)),
      np.broadcast_to(np.arange(0, 256, 17)[:, None, None, None], (16, *shape)),
    ]
  ).astype(np.uint8)
  expected = np.stack([cv2.equalizeHist(image[..., 0]) for image in images])[..., None]
  for part in (slice(0, 1), slice(None)):
    (found,) = session.run(None, {"images": images[part]})
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[part])


def test_another_function_of_that_name_is_not_taken_for_it():
  import jax

  @jax.jit
  def equalize_histogram(images):
    return 255 - images

  model = onnx_writer.write_onnx(
    lambda images: [equalize_histogram(images)], (4, 4, 1), output_names=["inverted"]
  )
  session = onnxruntime.InferenceSession(model.SerializeToString())
  images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
  np.testing.assert_array_equal(session.run(None, {"images": images})[0], 255 - images)
