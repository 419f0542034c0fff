"""Exports a trained network and compares the file with it."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from emosynth_jax import bundle, pretrained
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.export import int8, stablehlo, verify
from emosynth_jax.export.onnx import writer as onnx_writer
from emosynth_jax.utils import errors, files
from emosynth_jax.workdir import provenance
from emosynth_jax.workdir import record as run_record

FORMATS = ("stablehlo", "onnx", "onnx_int8")
SPLITS = ("validation", "test")
# Tolerance of a probability's difference from the network's, except for int8.
TOLERANCE = 1e-4
# Two batches of the comparison, of unequal size.
_NUM_NOISE = 257


def export_network(
  network: Any, format: str, *, calibration_images: np.ndarray | None = None
) -> bytes:
  """Exports a network to the content of a file.

  Args:
    network: a `bundle.Bundle`.
    format: one of `FORMATS`.
    calibration_images: uint8 `(M, height, width, channels)` of the training or
      validation split, for "onnx_int8".

  Returns:
    The content.

  Raises:
    ValueError: for an unknown format, or int8 without images.
    ModuleNotFoundError: if a package of the extra `export` is missing.
  """
  errors.check_choice("format", format, FORMATS)

  function = stablehlo.build_function(network)
  if format == "stablehlo":
    return stablehlo.write_stablehlo(function, network.image_shape)

  verify.check_packages()
  model = onnx_writer.write_onnx(
    function,
    network.image_shape,
    output_names=stablehlo.OUTPUTS,
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
  """Metadata of an exported network.

  Args:
    network: a `bundle.Bundle`.

  Returns:
    "class_names", "image_shape", "equalize" and "standardize" (of `config.input`;
    "always" and True are applied by the file itself), "temperature", "model" (name and
    arguments), "data_set" and "facts", all JSON-serializable.

  Raises:
    TypeError: for facts that JSON cannot represent.
  """
  return files.to_jsonable(
    {
      "class_names": network.class_names,
      "image_shape": network.image_shape,
      "equalize": network.config.input.equalize,
      "standardize": network.config.input.standardize,
      "temperature": network.temperature,
      "model": dict(network.config.model),
      "data_set": network.config.data.name,
      "facts": network.facts,
    }
  )


def make(
  source: str | os.PathLike | None,
  output: str,
  *,
  format: str,
  splits: Sequence[str],
  data_dir: str | None,
  num_calibration_images: int,
) -> None:
  """Writes a network's file and its record, and prints the comparison.

  The content is compared in memory: a content that differs is never written, and an
  earlier file stays unchanged.

  Args:
    source: a bundle, a run's folder or the name of an included network; None for the
      default one.
    output: the file, in an existing folder; the record is named as it, with ".json"
      appended.
    format: one of `FORMATS`.
    splits: of `SPLITS`, on which the content is compared; if empty, on noise alone.
    data_dir: data set directory, if it moved since training; else None.
    num_calibration_images: of the training split, for "onnx_int8".

  Raises:
    FileNotFoundError: if there is no network, or the data or the output's folder is
      missing.
    ValueError: for an argument out of its range, an output that would replace the
      network or lie in its workdir, data that is not the run's, or a content whose
      outputs differ from the network's.
    ModuleNotFoundError: if a package of the extra `export` is missing.
    NotImplementedError: for a network that cannot be written as ONNX.
    CheckpointError: if the run's checkpoints are damaged.
  """

  errors.expect_several("splits", splits)
  errors.check_choices("--splits", splits, SPLITS)
  # Before what takes a minute.
  origin = pretrained.find(source)
  for path in (output, f"{output}.json"):
    if origin.is_dir() and pathlib.Path(path).resolve().is_relative_to(
      origin.resolve()
    ):
      raise ValueError(
        f"--output: {path} is in the run's workdir; choose another folder"
      )
    files.check_output(path, [origin])
  network = bundle.read_network(origin, data_dir=data_dir)
  is_quantized = format == "onnx_int8"
  datasets = _load(network, origin, [*(["train"] if is_quantized else []), *splits])
  chosen = None

  if is_quantized:
    images = datasets["train"].images
    # The same images for every export of a network on this data.
    chosen = images[draw_rows(len(images), num_calibration_images)]

  content = export_network(network, format, calibration_images=chosen)
  answer = verify.read_answer(content, format)
  expected = jax.jit(stablehlo.build_function(network))

  shape = (_NUM_NOISE, *network.image_shape)
  noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  compared = {"noise": verify.compare(expected, answer, noise, None)}
  for split in splits:
    dataset = datasets[split]
    compared[dataset.official_split or split] = verify.compare(
      expected, answer, dataset.images, dataset.labels
    )

  for name, found in compared.items():
    print(f"{name}: {verify.describe(found)}")
  furthest = max(x["max_abs_difference"]["probability"] for x in compared.values())
  if not is_quantized and not furthest <= TOLERANCE:
    raise ValueError(
      f"{output} was not written: a probability of the exported model differs from "
      f"the network's by {furthest:.1e} (tolerance {TOLERANCE:g}); please report this "
      "with the output above"
    )
  files.write_atomically(output, content)
  record = {
    "format": format,
    "bytes": len(content),
    **describe(network),
    "calibrated_on": f"{len(chosen)} images of train" if chosen is not None else None,
    "compared": compared,
    "exported_by": provenance.provenance(),
  }
  files.write_report(f"{output}.json", record)
  print(f"{output}: {len(content) / 2**20:.2f} MiB, {format}")


def _load(network: Any, path: pathlib.Path, splits: Sequence[str]) -> dict[str, Any]:
  if not splits:
    return {}
  known = run_data.splits(network.config)
  for split in splits:
    if split not in known:
      raise ValueError(f"--splits: the run has {', '.join(known)}; got {split!r}")

  try:
    datasets = run_data.load_data(network.config, tuple(splits))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. Set --data_dir to the data set directory, or --splits= to verify on "
      "noise only."
    ) from error

  if path.is_dir():
    run_record.check_same_fingerprint(run_data.fingerprint(datasets), path)
  return datasets
