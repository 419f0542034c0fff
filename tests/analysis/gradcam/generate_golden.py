"""Writes golden/gradcam.json: Grad-CAM and guided backpropagation by others' code.

  pip install -e '.[oracle-models]'
  python tests/analysis/gradcam/generate_golden.py

Grad-CAM is pytorch-grad-cam's, and so is guided backpropagation through ReLU, which it
does one image at a time. It has none for ELU: that is restated here with torch's hooks.
Everything runs in float64 and in evaluation mode, with statistics of BatchNorm that are
not those of a fresh network.
"""

import json
import pathlib
from importlib.metadata import version

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

FILE = pathlib.Path(__file__).parent / "golden" / "gradcam.json"
TARGETS = [2, 0, 1]


def network(activation):
  """Two convolutions with BatchNorm, average pooling between, a dense layer."""
  return nn.Sequential(
    nn.Conv2d(2, 4, 3, padding=1),
    nn.BatchNorm2d(4),
    activation(),
    nn.AvgPool2d(2),
    nn.Conv2d(4, 5, 3, padding=1),
    nn.BatchNorm2d(5),
    activation(),
    nn.Flatten(),
    nn.Linear(5 * 3 * 4, 3),
  )


def draw(model):
  """Weights and statistics of float32 precision, the same on every machine."""
  rng = np.random.Generator(np.random.PCG64(0))
  state = {}
  for name, old in model.state_dict().items():
    values = 0.5 * rng.standard_normal(old.shape)
    if name.endswith("running_var"):
      values = 0.5 + np.abs(values)
    state[name] = torch.from_numpy(np.asarray(values, np.float32))
  model.load_state_dict(state)
  return model.double().eval()


def by_hooks(model, images, targets):
  """Guided backpropagation: x > 0 and a positive gradient, else 0."""
  inputs = {}
  for layer in model:
    if isinstance(layer, nn.ELU):
      layer.register_forward_hook(lambda m, x, y: inputs.update({m: x[0]}))
      layer.register_full_backward_hook(
        lambda m, _, g: (torch.where((inputs[m] > 0) & (g[0] > 0), g[0], 0.0),)
      )
  images = images.clone().requires_grad_(True)
  model(images)[range(len(targets)), targets].sum().backward()
  return images.grad


def main():
  """Writes the file."""
  rng = np.random.Generator(np.random.PCG64(1))
  images = rng.standard_normal((3, 2, 6, 8)).astype(np.float32).astype(np.float64)
  inputs = torch.from_numpy(images)
  golden = {
    "written_by": {"torch": torch.__version__, "grad-cam": version("grad-cam")},
    "images": images.transpose(0, 2, 3, 1).tolist(),
    "targets": TARGETS,
    "networks": {},
  }
  for name, activation in (("relu", nn.ReLU), ("elu", nn.ELU)):
    model = draw(network(activation))
    targets = [ClassifierOutputTarget(c) for c in TARGETS]
    record = {
      "state": {k: v.tolist() for k, v in model.state_dict().items()},
      "logits": model(inputs).tolist(),
      "cams": {},
    }
    for layer, index in (("conv1", 0), ("stage1", 2), ("conv2", 4), ("stage2", 6)):
      with GradCAM(model=model, target_layers=[model[index]]) as cam:
        # As it is drawn: minimum 0, maximum 1, at the images' size.
        scaled = cam(input_tensor=inputs, targets=targets)
        layers = cam.activations_and_grads
        raw = cam.get_cam_image(
          inputs,
          model[index],
          targets,
          layers.activations[0].numpy(),
          layers.gradients[0].numpy(),
          eigen_smooth=False,
        )
      record["cams"][layer] = {
        "sums": np.asarray(raw).tolist(),
        "scaled": np.asarray(scaled).tolist(),
      }
    if name == "relu":
      guided = GuidedBackpropReLUModel(model)
      record["guided"] = [
        guided(inputs[i : i + 1], target_category=c).tolist()
        for i, c in enumerate(TARGETS)
      ]
    else:
      gradient = by_hooks(model, inputs, TARGETS)
      record["guided"] = gradient.numpy().transpose(0, 2, 3, 1).tolist()
    golden["networks"][name] = record
  FILE.parent.mkdir(exist_ok=True)
  FILE.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
  main()
