"""PyTorch's networks answer as ours do; needs torch (`benchmark`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.models import build_model

torch = pytest.importorskip("torch", reason="pip install -e '.[benchmark]'")


@pytest.mark.parametrize(
  ("name", "arguments"),
  [
    ("emosynthnet", {"dense_features": (12, 8)}),
    ("fer_vgg", {"dense_features": (12, 8)}),
    ("fer_vgg", {"head": "mean", "dense_features": ()}),
    ("fer_resnet", {}),
  ],
)
def test_logits_of_shared_weights_are_equal(name, arguments):
  from benchmarks import torch_programs

  model = build_model(name, num_classes=7, width=1 / 16, **arguments)
  images = np.random.default_rng(0).normal(size=(3, 32, 32, 1)).astype(np.float32)
  variables = model.init(jax.random.key(0), images, train=False)
  # Statistics and factors other than 0 and 1, which a mistake would not show in.
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda x: x + jnp.asarray(rng.uniform(0, 0.5, x.shape), x.dtype), variables
  )
  ours, _ = model.apply(variables, images, train=False)
  settings = {"head": arguments["head"]} if "head" in arguments else {}
  program = torch_programs.Program(name, settings, variables)
  network = torch_programs.build(program, "eager")
  with torch.inference_mode():
    theirs = network(torch.from_numpy(images).permute(0, 3, 1, 2))
  np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
