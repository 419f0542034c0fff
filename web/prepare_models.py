"""Writes the page's models: the networks' exports, and the detector of predict.

python prepare_models.py FOLDER [NETWORK]

NETWORK is a bundle, a run's folder or the name of an included network; all included
networks without it.
"""

import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

try:
  import onnx

  from emosynth_jax import bundle, models, pretrained
  from emosynth_jax.data.datasets import fer_plus
  from emosynth_jax.data.images import face_detector
  from emosynth_jax.export import export
  from emosynth_jax.utils import cli
except ModuleNotFoundError as error:
  sys.exit(
    f"error: {sys.executable} has no {error.name}; PYTHON names an interpreter with "
    "emosynth_jax[export,predict]"
  )

_DOCS = pathlib.Path(__file__).parents[1] / "docs" / "results"
# Data sets as their authors call them.
_DATA_SETS = {"fer2013": "FER-2013", "fer_plus": "FER+"}
# Model cards of the included networks.
_CARDS = {"fer2013": "model_card.md", "ferplus": "model_card_ferplus.md"}


def prepare_detector() -> onnx.ModelProto:
  """CenterFace for images of any size: its file is for ten of 32 x 32 pixels."""
  model = onnx.load(face_detector.find_weights())
  constants = {constant.name for constant in model.graph.initializer}
  inputs = [x for x in model.graph.input if x.name not in constants]
  # Counters of the training, which the runtime would complain of one by one.
  used = {name for node in model.graph.node for name in node.input}
  kept = [constant for constant in model.graph.initializer if constant.name in used]
  del model.graph.initializer[:]
  model.graph.initializer.extend(kept)
  del model.graph.input[:]
  del model.graph.value_info[:]
  model.graph.input.extend(inputs)
  model.graph.input[0].name, before = "image", model.graph.input[0].name
  for node in model.graph.node:
    node.input[:] = ["image" if x == before else x for x in node.input]
  for value in (*model.graph.input, *model.graph.output):
    dimensions = value.type.tensor_type.shape.dim
    prefix = "" if value.name == "image" else "map_"
    for axis, name in ((0, "batch"), (2, f"{prefix}height"), (3, f"{prefix}width")):
      dimensions[axis].dim_param = name
  onnx.checker.check_model(model)
  return model


def describe(network: bundle.Bundle) -> dict[str, Any]:
  """Description of a network for the page.

  Args:
    network: any, of a bundle or a run.

  Returns:
    "class_names", "image_shape" and "data_set", as an export has them; "network", its
    name, with its width where it has been made narrower; and "accuracy": the "share"
    of how many images ("num_examples") of which "split" it names as they are labeled,
    None where that isn't known.
  """
  known = export.describe(network)
  record = {key: known[key] for key in ("class_names", "image_shape", "data_set")}
  record["data_set"] = _DATA_SETS.get(record["data_set"], record["data_set"])
  name = models.MODELS[network.config.model.name].__name__
  width = network.config.model.get("width", 1)
  record["network"] = name if width == 1 else f"{name} at {width:g} of its width"
  found = network.facts.get("calibration", {})
  record["accuracy"] = None
  if "accuracy" in found:
    record["accuracy"] = {
      "share": found["accuracy"],
      "num_examples": found["num_examples"],
      "split": fer_plus.without_number(found.get("official_split") or found["split"]),
    }
  return record


def write(folder: pathlib.Path, sources: Sequence[str]) -> None:
  """Writes each network and its card, networks.json and detector.onnx.

  Args:
    folder: made if missing.
    sources: bundles, runs' folders or names of included networks; the page starts with
      the first.

  Raises:
    FileNotFoundError, ValueError: if there is no such network, or the page can't take
      it.
  """
  networks = [bundle.read_network(source) for source in sources]
  for network in networks:
    height, width, channels = network.image_shape
    if channels != 1 or height != width:
      raise ValueError(
        "the page takes networks of square gray images, not of "
        f"{height}x{width}x{channels}"
      )

  folder.mkdir(parents=True, exist_ok=True)
  records = []
  for i, (source, network) in enumerate(zip(sources, networks, strict=True)):
    record = describe(network) | {"file": f"network_{i}.onnx", "card": None}
    (folder / record["file"]).write_bytes(export.export_network(network, "onnx"))
    if source in _CARDS:
      record["card"] = f"model_card_{i}.txt"
      shutil.copyfile(_DOCS / _CARDS[source], folder / record["card"])
    records.append(record)

  (folder / "networks.json").write_text(json.dumps(records))
  onnx.save(prepare_detector(), folder / "detector.onnx")


def main(arguments: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  if len(arguments) not in (1, 2):
    cli.fail("expected a folder, and perhaps a network")
  with cli.mistakes_in_one_line(False, NotImplementedError):
    write(pathlib.Path(arguments[0]), arguments[1:] or list(pretrained.NETWORKS))


if __name__ == "__main__":
  main(sys.argv[1:])
