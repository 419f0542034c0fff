"""Losses and gradients of torch and pytorch-metric-learning.

The numbers in golden/ are written by generate_golden.py and name their versions.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.losses import call_loss, get_loss

FILES = sorted((pathlib.Path(__file__).parent / "golden").glob("*.json"))
CASES = [
  pytest.param(case, id=f"{case['oracle']} {number}")
  for file in FILES
  for number, case in enumerate(json.loads(file.read_text())["cases"])
]


def test_both_files_are_there():
  assert [f.name for f in FILES] == ["pytorch_metric_learning.json", "torch.json"]
  assert len(CASES) == 40


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_the_oracle_s(case):
  given = {n: np.asarray(x) for n, x in case["inputs"].items()}
  whole = {n: x for n, x in given.items() if x.dtype.kind == "i"}
  floats = {n: jnp.asarray(x, jnp.float32) for n, x in given.items() if n not in whole}
  loss = get_loss(case["loss"], **case["arguments"])

  def total(floats):
    losses, _ = call_loss(loss, **floats, **whole, step=0)
    return losses.sum(), losses

  (_, losses), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(floats)
  # A scale of 64 carries the rounding of a cosine, 1e-7, into the loss.
  np.testing.assert_allclose(losses, case["losses"], rtol=2e-5, atol=2e-5)
  for name, expected in case.get("gradients", {}).items():
    np.testing.assert_allclose(
      gradients[name], expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max() + 1e-6
    )
  assert all(np.isfinite(g).all() for g in gradients.values())
