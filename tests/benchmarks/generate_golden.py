"""Writes golden/emosynthnet.json: what PyTorch says of the benchmarks' network.

  pip install -e '.[benchmark]'
  python tests/benchmarks/generate_golden.py

In float64: the logits of the running statistics, and the norm of each layer's gradient
of the mean cross-entropy with the batch's statistics.
"""

import json
import pathlib

import seeded_weights
import torch
import torch.nn.functional as F

from benchmarks.torch_networks import EmoSynthNet

GOLDEN = pathlib.Path(__file__).parent / "golden" / "emosynthnet.json"


def main():
  torch.set_default_dtype(torch.float64)
  given = seeded_weights
  network = EmoSynthNet(given.variables())
  images = torch.from_numpy(given.images()).permute(0, 3, 1, 2)
  with torch.no_grad():
    logits = network.eval()(images)
  loss = F.cross_entropy(network.train()(images), torch.from_numpy(given.labels()))
  loss.backward()
  norms: dict[str, float] = {}
  for name, parameter in network.named_parameters():
    layer, number, *_ = name.split(".")
    # JAX's layers are numbered from 1.
    layer = f"dense{int(number) + 1}" if layer == "dense" else layer
    norms[layer] = norms.get(layer, 0.0) + parameter.grad.square().sum().item()
  found = {
    "torch": torch.__version__,
    "logits": logits.tolist(),
    "loss": loss.item(),
    "gradient_norms": {layer: square**0.5 for layer, square in norms.items()},
  }
  GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
