"""A split's figures against plain arithmetic, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.metrics.table import describe_split, format_table
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import eval_step

_CLASS_NAMES = ("angry", "sad", "fear")
_NUM_IMAGES = 100


def _experiment(evaluation_logits=None):
  return tiny_network.build_experiment(
    tiny_network.TinyNetwork(dropout_rate=0.5), evaluation_logits
  )


def _build(batch_size, evaluation_logits=None):
  return tiny_network.build_evaluate(
    _experiment(evaluation_logits),
    class_names=_CLASS_NAMES,
    batch_size=batch_size,
  )


@pytest.fixture(scope="module")
def state():
  """A state whose running statistics are far from any batch's own."""
  state = tiny_network.create_state()
  statistics = state.batch_stats["BatchNorm_0"]
  statistics = {"mean": statistics["mean"] + 0.3, "var": statistics["var"] * 0.01}
  return state.replace(batch_stats={"BatchNorm_0": statistics})


@pytest.fixture(scope="module")
def data():
  return tiny_network.random_images(_NUM_IMAGES)


@pytest.fixture(scope="module")
def expected(state, data):
  """Logits of all images in plain NumPy, float64: `(100, 3)`."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), state.params)
  statistics = jax.tree.map(np.asarray, state.batch_stats["BatchNorm_0"])
  x = np.asarray(data[0], np.float64).reshape(_NUM_IMAGES, -1) / 255
  x = x @ params["Dense_0"]["kernel"]
  # flax's BatchNorm adds 1e-5 to the variance; ELU has slope 1 on the positive side.
  norm, x = params["BatchNorm_0"], x - statistics["mean"]
  x = x / np.sqrt(statistics["var"] + 1e-5) * norm["scale"] + norm["bias"]
  x = np.where(x > 0, x, np.expm1(x))
  return x @ params["logits"]["kernel"] + params["logits"]["bias"]


def _figures(summary):
  """The figures that rounding may touch, apart from those that are counts."""
  calibration = summary["calibration"]
  return [
    summary["loss"],
    summary["expected_calibration_error"],
    *(x for x in calibration["confidence"] if x is not None),
  ]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_every_image_counts_once_whatever_the_batch_size(
  state, data, expected, batch_size
):
  summary = _build(batch_size)(state, *data)
  labels, predictions = np.asarray(data[1]), expected.argmax(axis=-1)
  assert 0.2 < np.mean(labels == predictions) < 0.8  # neither all nor nothing
  np.testing.assert_array_equal(
    summary["confusion_matrix"], confusion_matrix(labels, predictions)
  )
  assert summary["num_examples"] == _NUM_IMAGES
  assert summary["accuracy"] == np.mean(labels == predictions)
  log_partition = np.log(np.exp(expected).sum(axis=-1))
  loss = np.mean(log_partition - expected[np.arange(_NUM_IMAGES), labels])
  assert summary["loss"] == pytest.approx(loss, rel=1e-4)
  assert summary["class_names"] == list(_CLASS_NAMES)


@pytest.mark.parametrize("order", ["shuffled", "sorted by class", "one at a time"])
def test_no_images_answer_depends_on_its_batch(state, data, order):
  images, labels = data
  whole = _build(64)(state, images, labels)
  if order == "one at a time":
    other = _build(1)(state, images, labels)
  else:
    rows = np.random.default_rng(0).permutation(_NUM_IMAGES)
    if order == "sorted by class":
      rows = np.argsort(labels, kind="stable")
    other = _build(64)(state, images[rows], labels[rows])
  assert other["confusion_matrix"] == whole["confusion_matrix"]
  assert other["per_class"] == whole["per_class"]
  assert other["calibration"]["count"] == whole["calibration"]["count"]
  np.testing.assert_allclose(_figures(other), _figures(whole), rtol=1e-5)


def test_the_logits_of_a_split_are_those_of_its_images_in_order(state, data, expected):
  images, labels = data
  # 100 images are no multiple of 7: the last batch is filled up.
  compute = lambda images, **views: eval_step.compute_logits(  # noqa: E731
    _experiment(),
    state,
    from_arrays(images, labels, _CLASS_NAMES, split="test"),
    batch_size=7,
    placement=build_placement(),
    **views,
  )
  np.testing.assert_allclose(compute(images), expected, rtol=1e-4, atol=1e-4)

  mirrored = compute(images[:, :, ::-1])
  assert np.abs(mirrored - expected).max() > 0.01
  mean = (softmax(expected, axis=1) + softmax(mirrored, axis=1)) / 2
  both = compute(images, augment="flip")
  np.testing.assert_allclose(np.exp(both), mean, rtol=1e-4, atol=1e-5)


def test_a_report_has_the_metrics_under_the_votes(state, data):
  summary = _build(64)(state, *data)
  assert "votes" not in format_table(summary)
  summary["votes"] = {
    "expected_accuracy": 0.625,
    "highest_expected_accuracy": 0.8197,
    "rater_agreement": None,
    "kl_divergence": 0.4711,
    "num_votes": 1000,
  }
  text = format_table(summary)
  assert "expected accuracy under the votes  62.50 %" in text
  assert "maximum (most frequent votes)    81.97 %" in text
  assert "KL divergence from the votes        0.4711" in text
  assert "raters" not in text


def test_the_states_input_scale_and_the_losss_own_logits_are_used(state, data):
  dark = _build(64)(state.replace(input_scale=jnp.float32(0)), *data)
  # All images are the same without light: one class gets them all.
  assert np.count_nonzero(np.sum(dark["confusion_matrix"], axis=0)) == 1

  def only_sad(embeddings, weights):
    assert (embeddings.shape, weights.shape) == ((64, 5), (5, 3))
    return jnp.tile(jnp.array([0.0, 1.0, 0.0]), (len(embeddings), 1))

  summary = _build(64, only_sad)(state, *data)
  assert summary["per_class"]["sad"]["recall"] == 1
  assert summary["accuracy"] == np.mean(np.asarray(data[1]) == 1)


@pytest.mark.parametrize(
  ("name", "official_split", "expected"),
  [
    ("test", "PrivateTest", "test (PrivateTest)"),
    ("test", "", "test"),
    ("validation", "", "validation (used for epoch selection)"),
    (
      "validation",
      "PublicTest",
      "validation (PublicTest; used for epoch selection)",
    ),
  ],
)
def test_a_report_names_the_split_as_its_authors_do(name, official_split, expected):
  assert describe_split(name, official_split) == expected
