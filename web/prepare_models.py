"""Writes the page's two models: the network's export, and the detector of predict.

python prepare_models.py FOLDER [BUNDLE_OR_WORKDIR]
"""

import json
import pathlib
import shutil
import sys
from typing import Any

try:
  import onnx

  from emosynth_jax import bundle, models
  from emosynth_jax.data.images import face_detector
  from emosynth_jax.export import export
  from emosynth_jax.utils import cli
except ModuleNotFoundError as error:
  sys.exit(
    f"error: {sys.executable} has no {error.name}; PYTHON names an interpreter with "
    "emosynth_jax[export,predict]"
  )

_CARD = pathlib.Path(__file__).parents[1] / "docs" / "results" / "model_card.md"


def prepare_detector() -> onnx.ModelProto:
  """CenterFace for pictures of any size: its file is for ten of 32 x 32 pixels."""
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
  model.graph.input[0].name, before = "picture", model.graph.input[0].name
  for node in model.graph.node:
    node.input[:] = ["picture" if x == before else x for x in node.input]
  for value in (*model.graph.input, *model.graph.output):
    dimensions = value.type.tensor_type.shape.dim
    prefix = "" if value.name == "picture" else "map_"
    for axis, name in ((0, "batch"), (2, f"{prefix}height"), (3, f"{prefix}width")):
      dimensions[axis].dim_param = name
  onnx.checker.check_model(model)
  return model


def describe(network: bundle.Bundle) -> dict[str, Any]:
  """What the page tells of the network.

  Args:
    network: any, of a bundle or a run.

  Returns:
    "class_names", "image_shape" and "data_set", as an export has them; "network", its
    name, with its width where it has been made narrower; and "accuracy": the "share"
    of how many images ("num_examples") of which "split" it names as they are labelled,
    None where that isn't known.
  """
  known = export.describe(network)
  record = {key: known[key] for key in ("class_names", "image_shape", "data_set")}
  name = models.MODELS[network.config.model.name].__name__
  width = network.config.model.get("width", 1)
  record["network"] = name if width == 1 else f"{name} at {width:g} of its width"
  found = network.facts.get("calibration", {})
  record["accuracy"] = None
  if "accuracy" in found:
    record["accuracy"] = {
      "share": found["accuracy"],
      "num_examples": found["num_examples"],
      "split": found.get("official_split") or found["split"],
    }
  return record


def write(folder: pathlib.Path, source: str | None) -> None:
  """Writes expression.onnx, expression.json, detector.onnx, and the card if it has one.

  Args:
    folder: made if missing.
    source: a bundle or a run's folder; None for the included network.

  Raises:
    FileNotFoundError, ValueError: if there is no such network, or the page can't take
      it.
  """
  network = bundle.read_network(source or bundle.PRETRAINED)
  height, width, channels = network.image_shape
  if channels != 1 or height != width:
    raise ValueError(
      "the page takes networks of square grey images, not of "
      f"{height}x{width}x{channels}"
    )
  content = export.export_network(network, "onnx")
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "expression.onnx").write_bytes(content)
  record = describe(network) | {"has_card": source is None}
  (folder / "expression.json").write_text(json.dumps(record))
  if source is None:
    shutil.copyfile(_CARD, folder / "model_card.txt")
  onnx.save(prepare_detector(), folder / "detector.onnx")


def main(arguments: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  if len(arguments) not in (1, 2):
    cli.fail("expected a folder, and perhaps a bundle or a run's folder")
  with cli.mistakes_in_one_line(False, NotImplementedError):
    write(pathlib.Path(arguments[0]), *(arguments[1:] or [None]))


if __name__ == "__main__":
  main(sys.argv[1:])
