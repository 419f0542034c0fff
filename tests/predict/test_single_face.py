"""One face is classified alone: by onnxruntime within 1e-4 of JAX, or by JAX."""

import concurrent.futures
import importlib.util
import pickle

import numpy as np
import pytest
import tiny_network

from emosynth_jax import bundle, predict
from emosynth_jax.predict import single_face

needs_onnxruntime = pytest.mark.skipif(
  single_face.runtime() != single_face.ONNXRUNTIME,
  reason="onnx or onnxruntime is not installed, or this is no CPU",
)


def _images(number):
  return np.asarray(tiny_network.random_images(number)[0])


@needs_onnxruntime
def test_onnxruntime_answers_one_face_as_jax_within_the_tolerance():
  """The included network, whose temperature is not 1."""
  predictor = predict.Predictor(faces="none", batch_size=4)
  shape = (9, *predictor.network.image_shape)
  images = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
  # Two batches, and the last one alone.
  together = predictor.probabilities(images)
  alone = np.concatenate([predictor.probabilities(image[None]) for image in images])
  assert "single_faces='onnxruntime'" in repr(predictor)
  np.testing.assert_allclose(alone, together, atol=1e-4)
  np.testing.assert_array_equal(alone[8], together[8])
  assert np.abs(alone[:8] - together[:8]).max() > 0


@needs_onnxruntime
def test_threads_and_a_pickled_one_answer_alike(network):
  images = _images(12)
  predictor = predict.Predictor(network, faces="none", min_confidence=0)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(predictor, images))
  other = pickle.loads(pickle.dumps(predictor))
  assert found == [other(image) for image in images]
  assert repr(other) == repr(predictor)


def test_without_onnxruntime_jax_answers(network, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  predictor = predict.Predictor(network, faces="none", batch_size=3)
  images = _images(4)
  expected = bundle.compile_logits(network, batch_size=1)(images)
  found = predictor.probabilities(images)
  assert "single_faces='jax'" in repr(predictor)
  assert predictor._compute_alone(images[3:]) == pytest.approx(expected[3:], rel=1e-5)
  assert found.sum(-1) == pytest.approx(np.ones(4))


@needs_onnxruntime
@pytest.mark.parametrize("reason", ["differs", "is not written", "is not a number"])
def test_a_network_that_onnxruntime_cannot_run_is_answered_by_jax(
  network, monkeypatch, caplog, reason
):
  from emosynth_jax.export import export, verify

  def fail(*_):
    raise NotImplementedError("no such primitive")

  def wrong(images):
    logits = compute(images)
    return logits + np.float32([1e-3, 0, 0]) * (
      np.nan if reason == "is not a number" else 1
    ), logits

  if reason == "is not written":
    monkeypatch.setattr(export, "export_network", fail)
  else:
    monkeypatch.setattr(verify, "read_answer", lambda *_: wrong)
  compute = bundle.compile_logits(network, batch_size=1)
  with caplog.at_level("INFO"):
    found, runtime = single_face.build(network, compute)
  assert (found, runtime) == (compute, "jax")
  assert "JAX answers single faces" in caplog.text


def test_a_face_alone_fills_no_batch(network):
  predictor = predict.Predictor(network, faces="none", batch_size=4)
  predictor.predict(list(_images(9)))
  predictor(_images(1)[0])
  assert (predictor.timing.faces, predictor.timing.places) == (10, 10)
  predictor.predict(list(_images(2)))
  assert (predictor.timing.faces, predictor.timing.places) == (12, 14)
