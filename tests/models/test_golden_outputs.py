"""Our networks' outputs against torchvision's and timm's, with their weights.

The numbers in golden/ are written by generate_golden.py and name their versions.
full.json holds the published networks, on images of 224 and with a thousand classes;
that takes minutes and gigabytes, so it runs where EMOSYNTH_TEST_FULL is set.
"""

import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_weights

from emosynth_jax.models import build_model
from emosynth_jax.models.from_torch import convert

GOLDEN = pathlib.Path(__file__).parent / "golden"
# Of the largest logit: float32 against float64 through up to 120 layers.
TOLERANCE = 2e-5


def _cases(file):
  cases = json.loads((GOLDEN / file).read_text())["cases"]
  return [pytest.param(case, id=case["oracle"]) for case in cases]


def _check(case):
  arguments = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in case["arguments"].items()
  }
  model = build_model(case["network"], num_classes=case["num_classes"], **arguments)
  images = jnp.asarray(torch_weights.images(case["side"]))
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  assert case["num_parameters"] == sum(
    math.prod(x.shape) for x in jax.tree.leaves(variables["params"])
  )

  state = torch_weights.weights(case["shapes"])
  converted = convert(model, state, variables)
  assert (converted.kept, converted.unused) == ((), ())
  apply = jax.jit(
    lambda v, x: model.apply(v, x, train=False),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  logits, out = apply(converted.variables, images)

  expected = np.array(case["logits"])
  step = math.ceil(case["num_classes"] / expected.shape[1])
  np.testing.assert_allclose(
    logits[:, ::step], expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()
  )
  layer = converted.variables["params"]["logits"]
  np.testing.assert_allclose(
    out["pre_logits"] @ layer["kernel"] + layer["bias"][None],
    logits,
    rtol=0,
    atol=TOLERANCE * np.abs(expected).max(),
  )


@pytest.mark.parametrize("case", _cases("small.json"))
def test_logits_are_the_oracle_s(case):
  _check(case)


@pytest.mark.skipif(
  "EMOSYNTH_TEST_FULL" not in os.environ, reason="minutes; set EMOSYNTH_TEST_FULL"
)
@pytest.mark.parametrize("case", _cases("full.json"))
def test_logits_of_the_published_network_are_the_oracle_s(case):
  _check(case)
