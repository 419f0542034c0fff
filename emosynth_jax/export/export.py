"""Writes a trained network for other runtimes: StableHLO, ONNX, or ONNX in 8 bits.

  python -m emosynth_jax.export --workdir=RUN --format=onnx --output=FILE.onnx

The file takes uint8 images `(N, height, width, channels)` for any N and gives "logits"
and calibrated "probabilities". Beside it, FILE.json tells the classes, the temperature,
where the network comes from, and how the file's answers on the splits of --splits
differ from the network's own. docs/export.md has the formats and what was measured.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from emosynth_jax import command_line
from emosynth_jax.exporting import answers

FORMATS = ("stablehlo", "onnx", "onnx_int8")
SPLITS = ("validation", "test")
# Largest difference of a probability from the network's own, but in 8 bits.
TOLERANCE = 1e-4
# Two batches of the comparison, of unequal size.
_NUM_NOISE = 257


def export_network(
  network: Any, format: str, *, calibration_images: np.ndarray | None = None
) -> bytes:
  """A network as the content of a file.

  Args:
    network: a `bundle.Bundle`.
    format: one of `FORMATS`.
    calibration_images: uint8 `(M, height, width, channels)` of the training or
      validation split, for "onnx_int8".

  Returns:
    The content.

  Raises:
    ValueError: for an unknown format, or 8 bits without images.
    ModuleNotFoundError: if a package of the extra `export` is missing.
  """
  if format not in FORMATS:
    raise ValueError(f"format: expected one of {', '.join(FORMATS)}; got {format!r}")
  from emosynth_jax.exporting import network as networks

  function = networks.build_function(network)
  if format == "stablehlo":
    return networks.write_stablehlo(function, network.image_shape)
  answers.check_packages()
  from emosynth_jax.exporting import int8, onnx_writer

  model = onnx_writer.write_onnx(
    function,
    network.image_shape,
    output_names=networks.OUTPUTS,
    metadata={
      name: value if isinstance(value, str) else json.dumps(value)
      for name, value in describe(network).items()
    },
  )
  if format == "onnx_int8":
    if calibration_images is None or not len(calibration_images):
      raise ValueError("onnx_int8 needs images of the training split to calibrate on")
    model = int8.quantize(model, calibration_images)
  return model.SerializeToString()


def describe(network: Any) -> dict[str, Any]:
  """What a file's user has to know of the network in it.

  Args:
    network: a `bundle.Bundle`.

  Returns:
    "class_names", "image_shape", "equalize" (`config.input.equalize`; "always" is
    applied by the file itself), "temperature", "model" (name and arguments),
    "data_set" and "facts", in what JSON can hold.

  Raises:
    TypeError: for facts that JSON can't hold.
  """
  from emosynth_jax import results

  return results.to_jsonable(
    {
      "class_names": network.class_names,
      "image_shape": network.image_shape,
      "equalize": network.config.input.equalize,
      "temperature": network.temperature,
      "model": dict(network.config.model),
      "data_set": network.config.data.name,
      "facts": network.facts,
    }
  )


def make(
  source: str,
  output: str,
  *,
  format: str,
  splits: Sequence[str],
  data_dir: str | None,
  num_calibration_images: int,
) -> None:
  """Writes a network's file and FILE.json, and says what the file is worth.

  The content is compared in memory: what differs is never written, and an earlier file
  stays as it is.

  Args:
    source: a bundle or a run's folder.
    output: the file; its folder is made if missing.
    format: one of `FORMATS`.
    splits: of `SPLITS`, where the content is compared; without any, on noise alone.
    data_dir: where the data set is; None for where it was.
    num_calibration_images: of the training split, for "onnx_int8".

  Raises:
    FileNotFoundError: if there is no network, or the data is missing.
    ValueError: for an argument out of its range, data that is not the run's, or a
      content that answers otherwise than the network.
    ModuleNotFoundError: if a package of the extra `export` is missing.
    NotImplementedError: for a network that ONNX can't be written of.
    CheckpointError: if the run's checkpoints are damaged.
  """
  import jax

  from emosynth_jax import bundle, results
  from emosynth_jax.exporting import network as networks

  for split in splits:
    if split not in SPLITS:
      raise ValueError(f"--splits: expected some of {', '.join(SPLITS)}; got {split!r}")
  network = bundle.read_network(source, data_dir=data_dir)
  if data_dir is not None:
    network.config.data.data_dir = data_dir
  is_quantized = format == "onnx_int8"
  datasets = _load(network, source, [*(["train"] if is_quantized else []), *splits])
  chosen = None
  if is_quantized:
    images = datasets["train"].images
    # The same ones for every export of a network on this data.
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    chosen = images[np.sort(order[:num_calibration_images])]
  content = export_network(network, format, calibration_images=chosen)
  answer = answers.read_answer(content, format)
  expected = jax.jit(networks.build_function(network))

  shape = (_NUM_NOISE, *network.image_shape)
  noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  compared = {"noise": answers.compare(expected, answer, noise, None)}
  for split in splits:
    dataset = datasets[split]
    compared[dataset.official_split or split] = answers.compare(
      expected, answer, dataset.images, dataset.labels
    )
  for name, found in compared.items():
    print(f"{name}: {json.dumps(found)}")
  furthest = max(x["max_abs_difference"]["probability"] for x in compared.values())
  if not is_quantized and not furthest <= TOLERANCE:
    raise ValueError(
      f"{output} was not written: the export differs from the network, a probability "
      f"by {furthest:.1e}, where {TOLERANCE} is allowed; please report it with the "
      "lines above"
    )
  pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
  results.write_atomically(output, content)
  record = {
    "format": format,
    "bytes": len(content),
    **describe(network),
    "calibrated_on": f"{len(chosen)} images of train" if chosen is not None else None,
    "compared": compared,
    "exported_by": results.provenance(),
  }
  results.write_report(f"{output}.json", record)
  print(f"{output}: {len(content) / 2**20:.2f} MiB, {format}")


def _load(network: Any, source: str, splits: Sequence[str]) -> dict[str, Any]:
  from emosynth_jax import experiment as experiments
  from emosynth_jax import run_config

  if not splits:
    return {}
  known = experiments.splits(network.config)
  for split in splits:
    if split not in known:
      raise ValueError(f"--splits: the run has {', '.join(known)}; got {split!r}")
  try:
    datasets = experiments.load_data(network.config, tuple(splits))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. (--data_dir says where the data set is; --splits= compares on noise "
      "alone.)"
    ) from error
  if pathlib.Path(source).is_dir():
    run_config.check_same_data(datasets, pathlib.Path(source))
  return datasets


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  command_line.use_compilation_cache()
  from emosynth_jax import predict

  given = flags.FLAGS
  if given.workdir and given.bundle:
    command_line.fail("expected --workdir or --bundle, got both")
  with command_line.mistakes_in_one_line(given.traceback, NotImplementedError):
    make(
      given.workdir or given.bundle or str(predict.PRETRAINED),
      given.output,
      format=given.format,
      splits=given.splits,
      data_dir=given.data_dir,
      num_calibration_images=given.calibration_images,
    )


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.")
  flags.DEFINE_string(
    "bundle",
    None,
    "A .safetensors file of emosynth_jax.bundle. Without it and without "
    "--workdir, the network that comes with the package.",
  )
  flags.DEFINE_enum("format", "onnx", list(FORMATS), "What is written.")
  flags.DEFINE_string("output", None, "The file.", required=True)
  flags.DEFINE_list(
    "splits",
    ["validation"],
    "Of validation and test: where the file is compared with the network. Nothing is "
    "chosen by it. Empty for noise alone, which needs no data.",
  )
  flags.DEFINE_integer(
    "calibration_images", 512, "Training images that set the ranges of onnx_int8.", 1
  )
  command_line.define_data_dir()
  command_line.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)


if __name__ == "__main__":
  run()
