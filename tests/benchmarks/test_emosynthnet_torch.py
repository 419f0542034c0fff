"""Our EmoSynthNet against the one in PyTorch that it is timed beside.

golden/emosynthnet.json is written by generate_golden.py, with torch in float64.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import seeded_weights

GOLDEN = pathlib.Path(__file__).parent / "golden" / "emosynthnet.json"
_QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module")
def given():
  to_float32 = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
  variables = jax.tree.map(to_float32, seeded_weights.variables())
  return variables, to_float32(seeded_weights.images())


@pytest.fixture(scope="module")
def golden():
  return json.loads(GOLDEN.read_text())


def test_logits(given, golden):
  variables, images = given
  apply = jax.jit(
    lambda v, x: seeded_weights.model().apply(v, x, train=False)[0],
    compiler_options=_QUICK,
  )
  logits, expected = apply(variables, images), np.array(golden["logits"])
  assert np.ptp(expected, axis=0).min() > 1e-3  # The images differ in all of them.
  np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5 * np.ptp(expected))


@pytest.mark.slow
def test_loss_and_gradients_of_the_batchs_statistics(given, golden):
  variables, images = given

  def loss(params):
    (logits, _), _ = seeded_weights.model().apply(
      {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
    )
    labels = jnp.asarray(seeded_weights.labels())
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()

  compute = jax.jit(jax.value_and_grad(loss), compiler_options=_QUICK)
  value, gradients = compute(variables["params"])
  norms = {layer: float(optax.tree.norm(tree)) for layer, tree in gradients.items()}
  assert float(value) == pytest.approx(golden["loss"], rel=1e-5)
  assert norms == pytest.approx(golden["gradient_norms"], rel=2e-4)
