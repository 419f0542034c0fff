"""Our networks' outputs against torchvision's and timm's, with their weights.

The numbers in golden/ are written by generate_golden.py and name their versions.
full.json.gz holds the published networks, on images of 224 and with a thousand classes;
that takes minutes and gigabytes, so it runs where EMOSYNTH_TEST_FULL is set.
"""

import gzip
import json
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest
import torch_weights

from emosynth_jax.models import build_model
from emosynth_jax.models.from_torch import convert

GOLDEN = pathlib.Path(__file__).parent / "golden"
# Of the largest logit: float32 against float64 through up to 120 layers.
TOLERANCE = 2e-5


# Second forms of networks whose compilation takes seconds; of each network, one form
# remains, and that is torchvision's.
_SLOW = {
  "torchvision DenseNet(4), imagenet",
  "torchvision mobilenet_v2 x 1.4, small",
  "torchvision resnet50, imagenet",
  "timm efficientnet_b0",
  "timm mobilenetv2_100",
}


def _cases(file):
  cases = json.loads(gzip.decompress((GOLDEN / file).read_bytes()))["cases"]
  return [
    pytest.param(
      case,
      id=case["oracle"],
      marks=[pytest.mark.slow] if case["oracle"] in _SLOW else [],
    )
    for case in cases
  ]


def _check(case):
  arguments = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in case["arguments"].items()
  }
  model = build_model(case["network"], num_classes=case["num_classes"], **arguments)
  images = jnp.asarray(torch_weights.images(case["side"]))
  variables, *_ = network_shapes.of(model, images.shape)
  assert case["num_parameters"] == sum(
    math.prod(x.shape) for x in jax.tree.leaves(variables["params"])
  )

  state = torch_weights.weights(case["shapes"])
  if case["network"] == "all_cnn":
    variables = _all_cnn_variables(state)
  else:
    converted = convert(model, state, variables)
    assert (converted.kept, converted.unused) == ((), ())
    variables = converted.variables
  apply = jax.jit(
    lambda v, x: model.apply(v, x, train=False),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  logits, out = apply(variables, images)

  expected = np.array(case["logits"])
  step = math.ceil(case["num_classes"] / expected.shape[1])
  np.testing.assert_allclose(
    logits[:, ::step], expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()
  )
  layer = variables["params"]["logits"]
  np.testing.assert_allclose(
    out["pre_logits"] @ layer["kernel"] + layer["bias"][None],
    logits,
    rtol=0,
    atol=TOLERANCE * np.abs(expected).max(),
  )


def _all_cnn_variables(state):
  """The layers' names are ours; 1x1 kernels are matrices here, the last one's too."""
  params: dict = {}
  for name, array in state.items():
    layer, leaf = name.split(".")
    if leaf == "weight":
      array = array.transpose(2, 3, 1, 0)
      params.setdefault(layer, {})["kernel"] = (
        array[0, 0] if array.shape[0] == 1 else array
      )
    else:
      params.setdefault(layer, {})["bias"] = array
  return {"params": params}


@pytest.mark.parametrize("case", _cases("small.json.gz"))
def test_logits_are_the_oracle_s(case):
  _check(case)


@pytest.mark.skipif(
  "EMOSYNTH_TEST_FULL" not in os.environ, reason="minutes; set EMOSYNTH_TEST_FULL"
)
@pytest.mark.parametrize("case", _cases("full.json.gz"))
def test_logits_of_the_published_network_are_the_oracle_s(case):
  _check(case)
