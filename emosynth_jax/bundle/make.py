"""The command that writes a run's bundle; `python -m emosynth_jax.bundle` starts it.

The temperature is fitted on the run's validation split, and on it the command says what
the rounding to float16 costs.
"""

import json
import pathlib
from typing import Any

import numpy as np
from absl import flags

from emosynth_jax import bundle, command_line


def measure_rounding(
  network: bundle.Bundle, rounded: bundle.Bundle, dataset: Any
) -> dict[str, Any]:
  """What a network's rounding does to its answers on a data set.

  Args:
    network: the network.
    rounded: the same from a file of float16.
    dataset: a `Dataset` that is not the test split.

  Returns:
    The split, both accuracies, how many predictions change, and the largest change of a
    calibrated probability.
  """
  from scipy import special

  logits, others = (
    bundle.compile_logits(each, batch_size=bundle.SPLIT_BATCH)(dataset.images)
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
  """Writes a run's bundle, once all of it is known, and says what it is worth.

  Args:
    workdir: the folder of a trained run.
    output: the file, NAME.safetensors; its folder is made if missing.
    dtype: of `bundle.DTYPES`; float16 is measured on the run's validation split.
    data_dir: where the data set is now; None for where it was.

  Raises:
    FileNotFoundError: if the folder holds no trained run, or the validation split is
      needed and not there.
    ValueError: for an argument out of its range, data that is not the run's, or a
      parameter that float16 can't hold. No file is touched.
    CheckpointError: if the checkpoints are damaged.
  """
  from emosynth_jax import calibrated_run

  if pathlib.Path(output).suffix != ".safetensors":
    raise ValueError(f"--output: expected a name that ends in .safetensors: {output!r}")
  network = calibrated_run.read_workdir(workdir, data_dir=data_dir)
  if dtype == "float16":
    rounded = bundle.round_variables(network, dtype)
    dataset = _load_validation(network, workdir, data_dir)
    rounding = measure_rounding(network, rounded, dataset)
    network.facts["rounding"] = rounding
    print("float16 on the validation split:", json.dumps(rounding, indent=2))
  bundle.write_bundle(output, network, dtype=dtype)
  size = pathlib.Path(output).stat().st_size
  print(f"{output}: {size / 2**20:.2f} MiB, temperature {network.temperature:.3f}")


def _load_validation(network: bundle.Bundle, workdir: str, data_dir: str | None) -> Any:
  """The split that the run was validated on, or an error that says what to do."""
  from emosynth_jax import experiment as experiments
  from emosynth_jax import run_config

  config = network.config
  if data_dir is not None:
    config.data.data_dir = data_dir
  try:
    datasets = experiments.load_data(config, ("validation",))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. (What float16 costs is measured on the run's validation split; "
      "--data_dir says where the data set is, and --dtype=float32 rounds nothing.)"
    ) from error
  run_config.check_same_data(datasets, workdir)
  return datasets["validation"]


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  command_line.use_compilation_cache()
  given = flags.FLAGS
  with command_line.mistakes_in_one_line(given.traceback):
    make(given.workdir, given.output, dtype=given.dtype, data_dir=given.data_dir)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
  flags.DEFINE_string("output", None, "File, NAME.safetensors.", required=True)
  flags.DEFINE_enum("dtype", "float16", list(bundle.DTYPES), "Type of the parameters.")
  command_line.define_data_dir()
  command_line.define_traceback()
