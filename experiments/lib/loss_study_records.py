"""The study of losses on few classes: reads the results of its runs."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from emosynth_jax.config import defaults
from emosynth_jax.data.images import pixel_form
from emosynth_jax.utils.json_files import check_fields, read_json
from experiments.lib import loss_study

# File of all finished runs in the study's folder, and what it has of each split.
RESULTS = "loss_study.json"
MEASURES = ("accuracy", "balanced_accuracy", "loss")
_MEASURED = dict.fromkeys(MEASURES, float)
# As `files.write_report` writes it.
_NUMBER = (float, "NaN", "Infinity", "-Infinity")
# Files of a run's further metrics in its folder.
SECONDARY = "secondary.json"
SHARPNESS = "sharpness.json"


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
  """Reads what a run's folder says: finished with its metrics, diverged, or None.

  Raises:
    ValueError: if a file is damaged, or the run was trained on equalized pixels.
  """
  if (folder / "diverged.json").is_file():
    return {"state": "diverged", **read_json(folder / "diverged.json")}
  path = folder / "report.json"
  if not path.is_file():
    return None
  splits = {"validation": _MEASURED, "*": _MEASURED}
  fields = {"best_epoch": int, "splits": splits, "trained_by": [{"commit": str}]}
  report = read_json(path, fields)
  forms = report.get("pixel_forms") or {}
  if pixel_form.main_form(forms.get("validation")) == "equalized":
    raise ValueError(
      f"{folder}: trained on equalized images; the study is of fer2013.csv, with "
      "original pixels. Use another --workdir"
    )

  found = {"state": "finished", "best_epoch": report["best_epoch"]}
  for split, summary in report["splits"].items():
    found[split] = {measure: summary[measure] for measure in MEASURES}
    # None where every image has a near-duplicate, as in a rehearsal with few images.
    if summary.get("deduplicated"):
      found[split]["deduplicated"] = summary["deduplicated"]["accuracy"]
  if "test" in found and (folder / SECONDARY).is_file():
    found["test"] |= _read_numbers(folder / SECONDARY)
  if (folder / SHARPNESS).is_file():
    found["sharpness"] = _read_numbers(folder / SHARPNESS)
  return found | {"commits": sorted({r["commit"] for r in report["trained_by"]})}


def _read_numbers(path: pathlib.Path) -> dict[str, float]:
  return _numbers(read_json(path, {"*": _NUMBER}))


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
  """Converts JSON's numbers, of which NaN is a string."""
  return {name: float(value) for name, value in content.items()}


def is_complete(run: loss_study.Run, result: Mapping[str, Any]) -> bool:
  """Returns whether a run's result has all that the protocol measures."""
  if run.stage not in loss_study.COMPARISONS or result["state"] != "finished":
    return True
  needs_sharpness = run.stage == "full" and run.loss in loss_study.MEASURED_SHARPNESS
  has_sharpness = "sharpness" in result or not needs_sharpness
  return has_sharpness and "silhouette" in result["test"]


def read_known(workdir: pathlib.Path) -> dict[loss_study.Run, Any]:
  """Reads the results that `RESULTS` has, of all runs; none without the file.

  Raises:
    ValueError: if the file is damaged.
  """
  path = workdir / RESULTS
  if not path.is_file():
    return {}
  run = {"loss": str, "stage": str, "rate": float, "seed": int}
  result = {"state": ("finished", "diverged")}
  known = {}
  for record in read_json(path, {"runs": [run | result]})["runs"]:
    parts = record.keys() & {"validation", "test", "sharpness"}
    fields: dict[str, Any] = {part: {"*": _NUMBER} for part in parts}
    if record["state"] == "finished":
      splits = {"validation", *{"test"} & parts}
      fields |= {split: {"*": _NUMBER, **_MEASURED} for split in splits}
    check_fields(record, f"{path} is damaged", fields)
    for part in parts:
      record[part] = _numbers(record[part])
    key = loss_study.Run(*(record.pop(field) for field in loss_study.Run._fields))
    known[key] = record
  return known


def read_results(
  workdir: pathlib.Path,
  runs: Iterable[loss_study.Run],
  known: Mapping[loss_study.Run, Any] | None = None,
) -> dict[loss_study.Run, Any]:
  """Reads the results of the runs that are finished or diverged.

  Args:
    workdir: the study's folder. A result is that of the run's own folder or, where it
      is gone, that of `RESULTS`: a study resumes without the folders of earlier runs.
    runs: the runs.
    known: of `read_known`, if it has been read.

  Returns:
    loss_study.Run to result, see `read_result`, in the order of the runs.

  Raises:
    ValueError: as `read_result` and `read_known`.
  """
  known = read_known(workdir) if known is None else known
  found = {run: read_result(workdir / run.folder) or known.get(run) for run in runs}
  return {run: result for run, result in found.items() if result is not None}


def read_settings(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Reads the settings of all runs from `RESULTS`; None without the file or runs.

  Raises:
    ValueError: if the file is damaged.
  """
  if not (workdir / RESULTS).is_file():
    return None
  remedy = (
    "restore the file, which has the results of all runs, or use another --workdir"
  )
  fields = {"settings": {"width": float}, "runs": list}
  content = read_json(workdir / RESULTS, fields, remedy=remedy)
  return content["settings"] if content["runs"] else None


def check_settings(workdir: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Checks the settings of all runs against those of `RESULTS`, if there are any.

  Raises:
    ValueError: if they differ.
  """
  stored = read_settings(workdir)
  if stored is None:
    return
  before, now = defaults.flatten(stored), defaults.flatten(settings)
  # The length of a stage that has no runs yet may change.
  stages = {run.stage for run in read_known(workdir)}
  for key in (key for key in now if key in before):
    part, _, stage = key.rpartition(".")
    if now[key] != before[key] and (not part or stage in stages):
      raise ValueError(
        f"{workdir / RESULTS} has runs with {key} {before[key]}, now {now[key]}; use "
        "another --workdir"
      )


def to_records(
  results: Mapping[loss_study.Run, Mapping[str, Any]],
) -> list[dict[str, Any]]:
  """The results of `read_results` as `RESULTS` has them, one record a run."""
  return [{**run._asdict(), **result} for run, result in results.items()]
