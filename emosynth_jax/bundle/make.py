"""Writes a run's bundle, and measures the effect of rounding."""

import pathlib
from typing import Any

import numpy as np
from scipy import special

from emosynth_jax.bundle import calibrate
from emosynth_jax.bundle.format import Bundle, round_variables, write_bundle
from emosynth_jax.bundle.logits import SPLIT_BATCH, compile_logits
from emosynth_jax.config import stored
from emosynth_jax.data import run_data
from emosynth_jax.utils import files
from emosynth_jax.workdir import own_parts
from emosynth_jax.workdir import record as run_record


def measure_rounding(network: Bundle, rounded: Bundle, dataset: Any) -> dict[str, Any]:
  """Measures the effect of rounding a network on its predictions.

  Args:
    network: the network.
    rounded: the network after rounding to float16.
    dataset: a `Dataset` that is not the test split.

  Returns:
    The split, both accuracies, how many predictions change, and the largest change of a
    calibrated probability.
  """
  logits, others = (
    compile_logits(each, batch_size=SPLIT_BATCH)(dataset.images)
    for each in (network, rounded)
  )
  changes = special.softmax(logits / network.temperature, -1) - special.softmax(
    others / network.temperature, -1
  )
  return {
    "split": dataset.official_split or dataset.split,
    "num_examples": len(dataset),
    "accuracy_float32": float((logits.argmax(-1) == dataset.labels).mean()),
    "accuracy_float16": float((others.argmax(-1) == dataset.labels).mean()),
    "changed_predictions": int((logits.argmax(-1) != others.argmax(-1)).sum()),
    "max_abs_change_of_a_probability": float(np.abs(changes).max()),
  }


def make(workdir: str, output: str, *, dtype: str, data_dir: str | None) -> None:
  """Writes a run's bundle, after all checks, and prints its accuracy.

  Args:
    workdir: the folder of a trained run.
    output: the file, NAME.safetensors, in an existing folder.
    dtype: of `bundle.DTYPES`; the effect of float16 is measured on the run's validation
      split.
    data_dir: data set directory, if it moved since training; else None.

  Raises:
    FileNotFoundError: if the folder holds no trained run, or the output's folder or the
      validation split, where it is needed, is missing.
    ValueError: for an argument out of its range, data that is not the run's, or a
      parameter that float16 can't hold. No file is touched.
    CheckpointError: if the checkpoints are damaged.
  """
  if pathlib.Path(output).suffix != ".safetensors":
    raise ValueError(f"--output: expected a name that ends in .safetensors: {output!r}")
  files.check_output(output)
  # Before the calibration: an own network is refused at once.
  own_parts.without_code(stored.read_config(workdir))
  network = calibrate.read_workdir(workdir, data_dir=data_dir)
  dataset_config = network.config
  network = network._replace(config=own_parts.without_code(network.config))
  if dtype == "float16":
    rounded = round_variables(network, dtype)
    dataset = _load_validation(dataset_config, workdir)
    rounding = measure_rounding(network, rounded, dataset)
    network.facts["rounding"] = rounding
    print(
      f"float16 on the validation split: {rounding['num_examples']:,} images; "
      f"accuracy {100 * rounding['accuracy_float16']:.2f} %, in float32 "
      f"{100 * rounding['accuracy_float32']:.2f} %; "
      f"{rounding['changed_predictions']:,} predictions changed; probabilities differ "
      f"by up to {rounding['max_abs_change_of_a_probability']:.1e}"
    )

  write_bundle(output, network, dtype=dtype)
  size = pathlib.Path(output).stat().st_size
  print(f"{output}: {size / 2**20:.2f} MiB, temperature {network.temperature:.3f}")


def _load_validation(config: Any, workdir: str) -> Any:
  """The run's validation split, or an error that says what to do."""
  try:
    datasets = run_data.load_data(config, ("validation",))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. The effect of float16 is measured on the validation split: set "
      "--data_dir to the data set directory, or use --dtype=float32."
    ) from error
  run_record.check_same_fingerprint(run_data.fingerprint(datasets), workdir)
  return datasets["validation"]
