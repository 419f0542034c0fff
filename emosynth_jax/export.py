"""Writes a trained network for other runtimes: StableHLO, ONNX, or ONNX in 8 bits.

  python -m emosynth_jax.export --workdir=RUN --format=onnx --output=FILE.onnx

The file takes uint8 images `(N, height, width, channels)` for any N and gives "logits"
and calibrated "probabilities". Beside it, FILE.json tells the classes, the temperature,
where the network comes from, and how the file's answers on the splits of --splits
differ from the network's own. docs/export.md has the formats and what was measured.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from emosynth_jax import command_line

FORMATS = ("stablehlo", "onnx", "onnx_int8")
SPLITS = ("validation", "test")
# Largest difference of a probability from the network's own, but in 8 bits.
TOLERANCE = 1e-4
_BATCH = 256

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


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
  _check_packages()
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
  """What a file's user has to know of the network in it."""
  from emosynth_jax import results

  return results.to_jsonable(
    {
      "class_names": network.class_names,
      "image_shape": network.image_shape,
      "temperature": network.temperature,
      "model": dict(network.config.model),
      "data_set": network.config.data.name,
      "facts": network.facts,
    }
  )


def read_answer(content: bytes, format: str) -> Answer:
  """A file's content as a function.

  Args:
    content: of `export_network`.
    format: its format.

  Returns:
    Images, uint8 `(N, height, width, channels)`, to logits and probabilities `(N, K)`.
  """
  if format == "stablehlo":
    from jax import export

    run = export.deserialize(bytearray(content)).call
  else:
    _check_packages()
    import onnxruntime

    session = onnxruntime.InferenceSession(content)

    def run(images):
      return session.run(None, {"images": images})

  def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, probabilities = run(images)
    return np.asarray(logits), np.asarray(probabilities)

  return answer


def compare(
  expected: Answer, answer: Answer, images: np.ndarray, labels: np.ndarray | None
) -> dict[str, Any]:
  """How two functions' answers to the same images differ.

  Args:
    expected: the network's.
    answer: the file's.
    images: uint8 `(M, height, width, channels)`.
    labels: `(M,)`, or None.

  Returns:
    "num_images", "max_abs_difference" of a logit and of a probability,
    "changed_predictions", and with labels both accuracies.
  """
  both = []
  for function in (expected, answer):
    parts = [
      function(images[start : start + _BATCH])
      for start in range(0, len(images), _BATCH)
    ]
    both.append([np.concatenate(part) for part in zip(*parts, strict=True)])
  (logits, probabilities), (others, other_probabilities) = both
  predicted, other = logits.argmax(-1), others.argmax(-1)
  found = {
    "num_images": len(images),
    "max_abs_difference": {
      "logit": float(np.abs(logits - others).max()),
      "probability": float(np.abs(probabilities - other_probabilities).max()),
    },
    "changed_predictions": int((predicted != other).sum()),
  }
  if labels is not None:
    found["accuracy"] = float((predicted == labels).mean())
    found["accuracy_of_file"] = float((other == labels).mean())
  return found


def make(
  source: str,
  output: str,
  *,
  format: str,
  splits: Sequence[str],
  data_dir: str | None,
  num_calibration_images: int,
) -> None:
  """Writes a network's file and FILE.json, and says what the file is worth."""
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
  results.write_atomically(output, content)
  answer = read_answer(content, format)
  expected = jax.jit(networks.build_function(network))

  noise = np.random.default_rng(0).integers(0, 256, (_BATCH + 1, *network.image_shape))
  compared = {"noise": compare(expected, answer, noise.astype(np.uint8), None)}
  for split in splits:
    dataset = datasets[split]
    compared[dataset.official_split or split] = compare(
      expected, answer, dataset.images, dataset.labels
    )
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
  for name, found in compared.items():
    print(f"{name}: {json.dumps(found)}")
  furthest = max(x["max_abs_difference"]["probability"] for x in compared.values())
  if not is_quantized and not furthest <= TOLERANCE:
    raise ValueError(
      f"{output} differs from the network: a probability by {furthest:.1e}, where "
      f"{TOLERANCE} is allowed; please report it with {output}.json"
    )


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


def _check_packages() -> None:
  try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"{error.name} is not installed: pip install 'emosynth_jax[export]'"
    ) from error


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
