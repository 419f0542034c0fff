"""Networks that look at their batch are caught, and others are not."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network

from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.metrics import batch_invariance
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import eval_step

_NUM_IMAGES = 96


def _data(num_images=_NUM_IMAGES):
  images, labels = tiny_network.random_images(num_images)
  # As a folder of class folders is read: sorted by class.
  order = np.argsort(labels, kind="stable")
  return np.asarray(images)[order], np.asarray(labels)[order]


def _logits(images):
  """Each image by itself."""
  return jnp.asarray(images, jnp.float32).reshape(len(images), -1)[:, :3] / 255


def _batch_norm(images):
  x = _logits(images)
  return (x - x.mean(0, keepdims=True)) / (x.std(0, keepdims=True) + 0.1)


def _neighbor(images):
  x = _logits(images)
  return x + 1e-3 * jnp.roll(x, 1, axis=0)


def _attention_over_the_batch(images):
  x = _logits(images)
  return x + 0.01 * nn.softmax(x @ x.T) @ x


def _alone(images):
  """Wrong only where an image is alone, as a squeezed axis would have it."""
  return _logits(images) * (1 if len(images) > 1 else 1.01)


def _check(compute_logits, images, labels, **arguments):
  return batch_invariance.check_batch_invariance(
    jax.jit(compute_logits), images, labels, **({"batch_size": 16} | arguments)
  )


@pytest.mark.parametrize("num_images", [1, 2, 5, 96])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_a_network_that_sees_one_image_at_a_time_passes(num_images, batch_size):
  images, labels = _data(num_images)
  result = _check(_logits, images, labels, batch_size=batch_size)
  assert result["passed"]
  batch_invariance.require(result, "report.json")
  assert result["changed_predictions"] == 0
  assert max(result["max_abs_difference_of_logits"].values()) == 0
  # All images but those that fill no batch.
  assert num_images - result["batch_size"] < result["num_images"] <= num_images
  assert result["num_images_one_at_a_time"] == min(64, result["num_images"])


@pytest.mark.parametrize(
  "network", [_batch_norm, _neighbor, _attention_over_the_batch, _alone]
)
@pytest.mark.parametrize("batch_size", [16, 256])
def test_a_network_that_looks_at_its_batch_fails(network, batch_size):
  images, labels = _data()
  result = _check(network, images, labels, batch_size=batch_size)
  assert not result["passed"]
  differences = result["max_abs_difference_of_logits"]
  # Reordering alone gives these away; what is wrong only alone, it can't.
  assert (differences["shuffled"] > result["tolerance"]) == (network is not _alone)
  assert differences["one_at_a_time"] > result["tolerance"]
  with pytest.raises(batch_invariance.BatchDependenceError) as error:
    batch_invariance.require(result, "runs/a/report.json")
  for part in (
    "logits depend on the other images of its batch",
    "runs/a/report.json are invalid",
    f"{differences['shuffled']:.1e} shuffled",
    f"{result['changed_predictions']} predictions change",
    "use_running_average must be True",
  ):
    assert part in str(error.value)


def test_differences_are_those_of_plain_numpy():
  images, labels = _data(16)
  result = _check(_batch_norm, images, labels)  # four batches of four
  assert (result["batch_size"], result["num_images"]) == (4, 16)
  x = images.reshape(16, -1)[:, :3].astype(np.float64) / 255

  def norm(batches):
    return (batches - batches.mean(1, keepdims=True)) / (
      batches.std(1, keepdims=True) + 0.1
    )

  expected = norm(x.reshape(4, 4, 3)).reshape(16, 3)
  alone = norm(x.reshape(16, 1, 3)).reshape(16, 3)
  assert result["max_abs_difference_of_logits"]["one_at_a_time"] == pytest.approx(
    np.abs(alone - expected).max(), rel=1e-5
  )
  # They are sorted by class as they are.
  assert result["max_abs_difference_of_logits"]["sorted_by_class"] == 0
  assert result["max_abs_logit"] == pytest.approx(np.abs(expected).max(), rel=1e-5)


def test_a_nan_is_no_agreement():
  images, labels = _data(8)
  result = _check(lambda images: _logits(images) * jnp.nan, images, labels)
  assert not result["passed"]


def test_cost_has_a_bound_and_images_are_taken_from_all_of_the_split():
  seen = []

  def compute_logits(images):
    seen.append(images[:, 0, 0, 0])
    return np.zeros((len(images), 3), np.float32)

  images = np.arange(3000, dtype=np.int32).reshape(3000, 1, 1, 1)
  labels = np.arange(3000) // 1000
  result = batch_invariance.check_batch_invariance(
    compute_logits, images, labels, batch_size=256, max_images=100, max_single=10
  )
  assert result["num_images"] == 64  # a multiple of the batch's size
  assert result["num_images_one_at_a_time"] == 10
  assert sum(map(len, seen)) == 3 * 64 + 10
  counts = np.bincount(np.concatenate(seen[:1]) // 1000)
  assert (counts > 64 / 3 - 2).all()


class _TrainModeNorm(nn.Module):
  """TinyNetwork, normalized by the batch's own statistics whatever train says."""

  dtype = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.Dense(5)(images.reshape(images.shape[0], -1))
    x = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
    return nn.Dense(3, name="logits")(x), {"pre_logits": x}


@pytest.mark.parametrize("model", [tiny_network.TinyNetwork(), _TrainModeNorm()])
def test_a_real_networks_evaluation_is_checked(model):
  images, labels = _data()
  variables = model.init(jax.random.key(0), images[:1] / 255, train=False)
  program = functools.partial(
    eval_step.image_logits,
    tiny_network.build_experiment(model),
    variables,
    jnp.float32(1 / 255),
  )
  result = _check(program, images, labels)
  assert result["passed"] == isinstance(model, tiny_network.TinyNetwork)


def test_the_check_of_a_run_uses_the_states_scale_and_the_losss_logits():
  images, labels = _data()
  dataset = _dataset(images, labels)
  state = tiny_network.create_state()

  def check(state, evaluation_logits=None):
    return eval_step.check_invariance(
      tiny_network.build_experiment(tiny_network.TinyNetwork(), evaluation_logits),
      state,
      dataset,
      batch_size=8,
      placement=build_placement(devices=jax.devices()[:1]),
    )

  result = check(state)
  assert result["passed"]
  assert result["batch_size"] == 8
  dark = check(state.replace(input_scale=jnp.float32(0)))
  assert dark["max_abs_logit"] < result["max_abs_logit"]
  # A loss's own logits may be at fault as well.
  assert not check(state, lambda logits: logits + logits[:1])["passed"]


def _dataset(images, labels):
  return from_arrays(images, labels, ("a", "b", "c"), split="validation")
