"""The network of generate_golden.py in flax, and its golden file."""

import functools
import json
import pathlib
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

_FILE = pathlib.Path(__file__).parent / "golden" / "gradcam.json"


class SmallNetwork(nn.Module):
  activation: Callable

  @nn.compact
  def __call__(self, images, *, train):
    out = {}
    x = images
    for i, features in enumerate((4, 5), start=1):
      if i == 2:
        x = nn.avg_pool(x, (2, 2), (2, 2))
      x = nn.Conv(features, (3, 3), name=f"conv{i}")(x)
      x = nn.BatchNorm(use_running_average=not train, name=f"norm{i}")(x)
      x = out[f"stage{i}"] = self.activation(x)
    out["pre_logits"] = x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    return nn.Dense(3, name="logits")(x), out


@functools.cache
def golden():
  return json.loads(_FILE.read_text())


@functools.cache
def load(name):
  """The module, its variables, images, targets and the golden record."""
  record = golden()["networks"][name]
  state = {k: np.asarray(v, np.float32) for k, v in record["state"].items()}
  params, stats = {}, {}
  # Places in torch's Sequential.
  for layer, i in (("conv1", 0), ("conv2", 4)):
    kernel = state[f"{i}.weight"].transpose(2, 3, 1, 0)
    params[layer] = {"kernel": kernel, "bias": state[f"{i}.bias"]}
  for layer, i in (("norm1", 1), ("norm2", 5)):
    params[layer] = {"scale": state[f"{i}.weight"], "bias": state[f"{i}.bias"]}
    stats[layer] = {
      "mean": state[f"{i}.running_mean"],
      "var": state[f"{i}.running_var"],
    }
  params["logits"] = {"kernel": state["8.weight"].T, "bias": state["8.bias"]}
  return (
    SmallNetwork({"relu": nn.relu, "elu": nn.elu}[name]),
    {"params": params, "batch_stats": stats},
    jnp.asarray(golden()["images"], jnp.float32),
    jnp.asarray(golden()["targets"]),
    record,
  )
