"""Writes the page's two models: the network's export, and the detector of predict.

python prepare_models.py FOLDER [BUNDLE_OR_WORKDIR]
"""

import json
import pathlib
import sys

import onnx

from emosynth_jax import bundle, export, faces, predict


def prepare_detector() -> onnx.ModelProto:
  """CenterFace for pictures of any size: its file is for ten of 32 x 32 pixels."""
  model = onnx.load(faces.find_weights())
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


def main() -> None:
  """Writes expression.onnx, expression.json and detector.onnx."""
  folder = pathlib.Path(sys.argv[1])
  source = sys.argv[2] if len(sys.argv) > 2 else predict.PRETRAINED
  folder.mkdir(parents=True, exist_ok=True)
  network = bundle.read_network(source)
  if network.image_shape[2] != 1:
    sys.exit(f"the page takes networks of grey images, not of {network.image_shape}")
  content = export.export_network(network, "onnx")
  (folder / "expression.onnx").write_bytes(content)
  known = export.describe(network)
  record = {key: known[key] for key in ("class_names", "image_shape", "data_set")}
  (folder / "expression.json").write_text(json.dumps(record))
  onnx.save(prepare_detector(), folder / "detector.onnx")


if __name__ == "__main__":
  main()
