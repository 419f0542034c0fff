"""Reading and converting weights: what fits, what is left out and what is refused.

That the converted weights compute what torch does is test_golden_outputs.py's.
"""

import functools
import gzip
import json
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest
import safetensors.numpy
import torch_weights

from emosynth_jax.models import build_model
from emosynth_jax.models.from_torch import convert, load_pretrained

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = {
  case["oracle"]: case
  for case in json.loads(gzip.decompress((GOLDEN / "small.json.gz").read_bytes()))[
    "cases"
  ]
}
RESNET = CASES["torchvision resnet18, small"]
VGG = CASES["torchvision VGG E/8, batch_norm=False, imagenet"]
DENSENET = CASES["torchvision DenseNet(4), imagenet"]


def _state(case):
  return dict(_weights(case["oracle"]))


@functools.cache
def _weights(oracle):
  return torch_weights.weights(CASES[oracle]["shapes"])


def _build(case, *, num_classes=10, channels=3, **arguments):
  """The network of a case with other arguments, and variables that are all zero."""
  arguments = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in {**case["arguments"], **arguments}.items()
  }
  model = build_model(case["network"], num_classes=num_classes, **arguments)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _shapes(model, channels))
  return model, zeros


@functools.cache
def _shapes(model, channels):
  variables, *_ = network_shapes.of(model, (1, 64, 64, channels))
  return variables


def test_arrays_take_our_layout():
  state = _state(RESNET)
  variables = convert(*_permuted(RESNET, state)).variables
  params, statistics = variables["params"], variables["batch_stats"]
  block = params["stage2_block1"]
  weight = state["layer2.0.conv1.weight"]
  assert block["conv1"]["kernel"][0, 2, 5, 7] == weight[7, 5, 0, 2]
  weight = state["layer2.0.downsample.0.weight"]
  assert block["shortcut_conv"]["kernel"][5, 7] == weight[7, 5, 0, 0]
  assert params["logits"]["kernel"][5, 7] == state["fc.weight"][7, 5]
  assert block["norm2"]["scale"][3] == state["layer2.0.bn2.weight"][3]
  assert block["norm2"]["bias"][3] == state["layer2.0.bn2.bias"][3]
  norm = statistics["stage2_block1"]["norm2"]
  assert norm["mean"][3] == state["layer2.0.bn2.running_mean"][3]
  assert norm["var"][3] == state["layer2.0.bn2.running_var"][3]


def _permuted(case, state, **arguments):
  model, variables = _build(case, **arguments)
  return model, state, variables


def test_gray_images_answer_as_gray_pixels_in_three_channels():
  state = _state(RESNET)
  color, _, variables = _permuted(RESNET, state)
  in_color = convert(color, state, variables)
  gray, _, variables = _permuted(RESNET, state, channels=1)
  in_gray = convert(gray, state, variables)
  images = jnp.asarray(torch_weights.images(10, channels=1))
  apply = jax.jit(lambda v, x: color.apply(v, x, train=False)[0])
  found = apply(in_gray.variables, images)
  expected = apply(in_color.variables, jnp.repeat(images, 3, axis=-1))
  np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_another_number_of_classes_leaves_the_last_layer():
  state = _state(RESNET)
  model, variables = _build(RESNET, num_classes=7)
  converted = convert(model, state, variables)
  assert (converted.kept, converted.unused) == (("logits",), ())
  assert converted.variables["params"]["logits"]["kernel"].shape == (512, 7)
  assert not converted.variables["params"]["logits"]["kernel"].any()
  assert converted.variables["params"]["stem_conv"]["kernel"].all()


def test_weights_without_a_last_layer_leave_ours():
  state = {n: x for n, x in _state(RESNET).items() if not n.startswith("fc.")}
  assert convert(*_permuted(RESNET, state)).kept == ("logits",)


def test_vgg_for_small_images_takes_the_convolutions_alone():
  converted = convert(*_permuted(VGG, _state(VGG), stem="small", num_classes=7))
  assert converted.kept == ("logits",)
  assert converted.unused == tuple(
    f"classifier.{i}.{leaf}" for i in (0, 3) for leaf in ("bias", "weight")
  )
  assert converted.variables["params"]["conv5_4"]["kernel"].all()


def test_a_layer_can_be_kept():
  state = _state(DENSENET)
  model, variables = _build(DENSENET, stem="small")
  with pytest.raises(
    ValueError,
    match=r"1 of 242 layers have another shape: stem_conv \(features.conv0.weight\): "
    r"expected \(3, 3, 3, 8\), got \(7, 7, 3, 8\).*keep=\('stem_conv',\)",
  ):
    convert(model, state, variables)
  converted = convert(model, state, variables, keep=("stem_conv",))
  assert (converted.kept, converted.unused) == (("stem_conv",), ())
  assert not converted.variables["params"]["stem_conv"]["kernel"].any()
  with pytest.raises(ValueError, match=r"keep: expected some of .*got \['stem'\]"):
    convert(model, state, variables, keep=("stem",))


def test_old_densenet_names_and_wrappers_are_understood():
  state = _state(DENSENET)
  expected = convert(*_permuted(DENSENET, state)).variables
  # As in torchvision's densenet121-a639ec97.pth, and as DataParallel saves.
  old = {
    "module."
    + name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.")
    .replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): array
    for name, array in state.items()
  }  # fmt: skip
  assert "module.features.denseblock1.denselayer1.norm.1.weight" in old
  old["module.features.norm0.num_batches_tracked"] = np.int64(3)
  found = convert(*_permuted(DENSENET, old)).variables
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_missing_superfluous_and_foreign_weights_are_refused():
  state = _state(RESNET)
  without = {n: x for n, x in state.items() if n != "layer3.1.bn2.running_var"}
  with pytest.raises(
    ValueError, match=r"stage3_block2/norm2 of ResNet18 .*'layer3.1.bn2.running_var'"
  ):
    convert(*_permuted(RESNET, without))
  more = state | {"layer3.2.conv1.weight": np.zeros(1)}
  with pytest.raises(ValueError, match=r"no layer for \['layer3.2.conv1.weight'\]"):
    convert(*_permuted(RESNET, more))
  with pytest.raises(ValueError, match="of another network"):
    convert(*_permuted(RESNET, _state(DENSENET)))
  with pytest.raises(
    ValueError, match=r"41 of 41 layers .*expected \(3, 3, 32, 32\), got"
  ):
    convert(*_permuted(RESNET, state, width=0.5))
  other = build_model("all_cnn", num_classes=2)
  with pytest.raises(ValueError, match=r"expected a network .*got AllCNN"):
    convert(other, state, {"params": {}})


def test_half_precision_becomes_float32():
  state = {name: x.astype(np.float16) for name, x in _state(RESNET).items()}
  variables = convert(*_permuted(RESNET, state)).variables
  assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_files_hold_what_was_written(kind, tmp_path):
  state = _state(VGG)
  path = tmp_path / f"vgg.{kind}"
  if kind == "npz":
    np.savez(path, **state)
  else:
    safetensors.numpy.save_file(state, path)
  model, variables = _build(VGG)
  found = load_pretrained(path, model, variables)
  expected = convert(model, state, variables)
  jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)

  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(ValueError, match=rf"vgg.{kind}: damaged or not an? {kind} file"):
    load_pretrained(path, model, variables)


def test_torch_files_are_unwrapped_and_broken_ones_refused(tmp_path, monkeypatch):
  class Tensor(np.ndarray):
    """As much of a tensor as is used; torch itself is no part of the tests."""

    is_detached = False

    def detach(self):
      found = self.view(Tensor)
      found.is_detached = True
      return found

    def float(self):
      found = self.astype(np.float32).view(Tensor)
      found.is_detached = self.is_detached
      return found

    def numpy(self):
      if not self.is_detached:  # As a parameter, which a file may hold.
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")
      return np.asarray(self)

  def load(path, map_location, weights_only):
    assert weights_only
    if path.stat().st_size == 0:
      raise RuntimeError("no archive")
    tensors = {name: x.view(Tensor) for name, x in _state(VGG).items()}
    return {"state_dict": tensors, "epoch": 3}

  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
  model, variables = _build(VGG)
  (tmp_path / "good.pth").write_text("x")
  found = load_pretrained(tmp_path / "good.pth", model, variables).variables
  expected = convert(model, _state(VGG), variables).variables
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  (tmp_path / "bad.pth").touch()
  with pytest.raises(
    ValueError, match=r"bad.pth: damaged, or not a .*\(RuntimeError: no archive\)$"
  ):
    load_pretrained(tmp_path / "bad.pth", model, variables)


def test_files_that_cannot_be_read_say_why(tmp_path, monkeypatch):
  model, variables = _build(VGG)
  with pytest.raises(FileNotFoundError, match=r"weights: no file .*none.npz"):
    load_pretrained(tmp_path / "none.npz", model, variables)
  (tmp_path / "weights.h5").touch()
  with pytest.raises(ValueError, match=r"ends in one of \['.bin', '.npz'.*weights.h5"):
    load_pretrained(tmp_path / "weights.h5", model, variables)
  np.savez(tmp_path / "other.npz", **_state(DENSENET))
  with pytest.raises(ValueError, match=r"other.npz: weights: layer conv1_1 of VGG19"):
    load_pretrained(tmp_path / "other.npz", model, variables)
  (tmp_path / "a.pth").touch()
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ImportError, match=r"a\.pth: requires .*torch"):
    load_pretrained(tmp_path / "a.pth", model, variables)
