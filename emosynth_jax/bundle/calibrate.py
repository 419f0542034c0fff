"""Temperature calibration of a trained run, on its validation split."""

import contextlib
import os
import pathlib
from typing import Any

import jax
from absl import logging

from emosynth_jax.bundle.format import Bundle, from_record
from emosynth_jax.bundle.logits import SPLIT_BATCH, compile_logits
from emosynth_jax.config.stored import read_config
from emosynth_jax.metrics import calibration
from emosynth_jax.training.finite import check_finite
from emosynth_jax.training.restore import load_best
from emosynth_jax.utils import files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import digests, own_parts
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints

# Provenance fields that are passed on: neither folders nor the command.
_PROVENANCE = ("commit", "hardware", "date", "packages")


def read_workdir(workdir: str | os.PathLike, *, data_dir: str | None = None) -> Bundle:
  """Loads a run's best checkpoint as a calibrated network.

  On the first call, the temperature is fitted on the validation split, which must be
  available; it is stored in the workdir as calibration.json. A run with a newer best
  checkpoint is recalibrated.

  Args:
    workdir: the folder of a trained run.
    data_dir: data set directory, if it moved since training; else None.

  Returns:
    The network.

  Raises:
    FileNotFoundError: if the folder holds no trained run, or the validation split is
      needed and missing.
    ValueError: for data that is not the run's, or a damaged file.
    CheckpointError: if the checkpoints are damaged.
  """
  workdir = pathlib.Path(workdir)
  config = own_parts.of_run(read_config(workdir), workdir)
  if data_dir is not None:
    config.data.data_dir = data_dir
  path = workdir / "calibration.json"
  known = _read_calibrated(path, workdir) if path.is_file() else None

  if known is None:
    known = calibrate(config, workdir)
    try:
      files.write_report(path, known[0])
    except OSError as error:
      logging.warning(
        "The calibration could not be saved (%s); it will be recomputed next time.",
        error,
      )

  record, variables = known
  trained_by = run_record.read_provenance(workdir)
  return from_record(config, variables, record)._replace(
    facts={
      "calibration": record,
      "trained_by": [{key: by.get(key) for key in _PROVENANCE} for by in trained_by],
    }
  )


def calibrate(
  config: Any, workdir: str | os.PathLike
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Fits the temperature of a run's best checkpoint on its validation split.

  Args:
    config: the run's.
    workdir: its folder.

  Returns:
    The content of calibration.json - the fields of `calibration.Calibration`, the split
    and the accuracy on it, the network's inputs and classes - and the network's
    variables.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `restore.load_best`.
  """
  try:
    _, state, datasets = load_best(config, workdir, ("validation",))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. The validation split is needed once, to calibrate probabilities: set "
      "--data_dir to the data set directory."
    ) from error

  dataset = datasets["validation"]
  variables = jax.device_get(state.evaluation_variables)
  record = {
    "class_names": list(dataset.class_names),
    "image_shape": list(dataset.images.shape[1:]),
    "input_scale": float(state.input_scale),
    "best_epoch": int(state.best_epoch),
    "variables_crc32": digests.checksum(variables),
    "split": "validation",
    "official_split": dataset.official_split,
    "temperature": 1.0,
  }
  if counts := dataset.form_counts:
    record["pixel_forms"] = counts
  draft = from_record(config, variables, record)
  logits = compile_logits(draft, batch_size=SPLIT_BATCH)(dataset.images)
  record["accuracy"] = float((logits.argmax(-1) == dataset.labels).mean())
  found = calibration.fit_temperature(logits, dataset.labels)
  logging.info(
    "Temperature %.3f, fitted on %s images of %s%s: negative log-likelihood %.4f "
    "before, %.4f after.",
    found.temperature,
    f"{found.num_examples:,}",
    dataset.split,
    dataset.official_split and f" ({dataset.official_split})",
    found.nll_before,
    found.nll_after,
  )

  return record | found._asdict(), variables


def _read_calibrated(
  path: pathlib.Path, workdir: pathlib.Path
) -> tuple[dict[str, Any], dict[str, Any]] | None:
  """The stored calibration and its variables; None if it belongs to others."""
  remedy = "delete it to calibrate again"
  record = read_json(path, {"variables_crc32": int}, remedy=remedy)
  try:
    from_record(None, {}, record)
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is damaged ({error}): {remedy}") from error

  if not (workdir / "checkpoints" / "best").is_dir():
    return None
  with contextlib.closing(Checkpoints(workdir, keep=1, read_only=True)) as checkpoints:
    restored = checkpoints.restore_variables()

  variables = restored and {name: dict(x) for name, x in restored._asdict().items()}
  if variables:
    check_finite(variables, f"the best checkpoint of {workdir}")
  if not variables or digests.checksum(variables) != record["variables_crc32"]:
    logging.info("%s belongs to another epoch: recalibrating.", path)
    return None

  return record, variables
