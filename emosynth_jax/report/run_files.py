"""Reads the files of a workdir for a report."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emosynth_jax.config import defaults, renamed
from emosynth_jax.utils import errors, files
from emosynth_jax.utils.json_files import check_fields, read_json
from emosynth_jax.workdir import metric_writer, report_fields


class RunFiles(NamedTuple):
  """A finished run, as read from its files.

  Attributes:
    workdir: the run's folder.
    report: report.json; settings added since the run have their defaults, which keep
      its behavior.
    records: metrics.jsonl, one dictionary an epoch; some may be missing.
    seconds: wall-clock time of the epochs, from timing.jsonl; None without it.
    data: data.json, see `run_data.fingerprint`; None without it.
  """

  workdir: pathlib.Path
  report: dict[str, Any]
  records: list[dict[str, Any]]
  seconds: float | None
  data: dict[str, Any] | None

  @property
  def reported_split(self) -> str:
    """The split of the headline: the last, not used for selection if possible."""
    return list(self.report["splits"])[-1]

  @property
  def missing_epochs(self) -> str:
    """The epochs without a record, as `metric_writer.missing_epochs` lists them."""
    return metric_writer.missing_epochs(self.records, self.report["epochs_trained"])


def other_network(
  run: RunFiles, record: Mapping[str, Any], variables_crc32: int | None
) -> str:
  """Describes the network of an analysis's record, if it is not the reported one.

  Args:
    run: the run.
    record: with "best_epoch". Earlier versions wrote no seed, network, loss or
      checksum.
    variables_crc32: `digests.checksum` of the best checkpoint's variables, if the
      network was loaded.

  Returns:
    The end of a sentence; "" for the reported network.
  """
  report, config = run.report, run.report["config"]
  epoch, reported = record["best_epoch"], report["best_epoch"]
  if epoch != reported:
    return f"of epoch {epoch}, the report of epoch {reported}"

  for name, key, expected in (
    ("seed", "training_seed", report["seed"]),
    ("network", "model", config["model"]["name"]),
    ("loss", "training_loss", files.to_jsonable(config["loss"])),
  ):
    found = record.get(key, expected)
    if found != expected:
      own, other = _short(expected), _short(found)
      return f"of another run, with {name} {other} instead of {own}"

  known = record.get("variables_crc32")
  if variables_crc32 is not None and known not in (None, variables_crc32):
    return "of other parameters than the best checkpoint's"
  return ""


def _short(value: Any) -> str:
  return value["name"] if isinstance(value, dict) and "name" in value else str(value)


def read_run(workdir: str | os.PathLike) -> RunFiles:
  """Reads the files of an evaluated run.

  Args:
    workdir: the run's folder.

  Returns:
    The run.

  Raises:
    FileNotFoundError: if there is no report.json.
    ValueError: if a file is damaged, or the report is of an earlier version.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / "report.json"
  report = _read_json(
    path,
    "expected the workdir of an evaluated run. Finish its training, or evaluate it by "
    f"python -m emosynth_jax.main --mode=eval --workdir={workdir}",
  )
  try:
    report_fields.check_report(report, f"{path} is damaged or of an earlier version")
  except ValueError as error:
    raise ValueError(f"{error}: evaluate the run again, with --mode=eval") from error

  report["config"] = complete_config(report["config"])
  records = metric_writer.read_epochs(workdir / "metrics.jsonl")
  timing = workdir / "timing.jsonl"
  lines = metric_writer.read_records(timing) if timing.exists() else []
  for number, line in enumerate(lines, start=1):
    if not math.isfinite(line.get("seconds", math.nan)):
      raise ValueError(f"{timing}, line {number} is damaged (seconds: not a number)")

  # The epochs of an interrupted run were timed in parts, some of which are missing.
  whole = len(lines) == len(records) and len(report["trained_by"]) <= 1
  if metric_writer.missing_epochs(records, report["epochs_trained"]):
    whole = False
  data = workdir / "data.json"
  return RunFiles(
    workdir=workdir,
    report=report,
    records=records,
    seconds=sum(line["seconds"] for line in lines) if whole else None,
    data=_read_json(data, "", {"*": dict}) if data.exists() else None,
  )


def expand_workdirs(workdirs: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
  """The folders of single runs; one with seeds.json stands for its seeds.

  Args:
    workdirs: folders of runs, or of several seeds of one.

  Returns:
    The runs' folders, in this order.

  Raises:
    FileNotFoundError: if seeds.json names a folder that does not exist.
    ValueError: if seeds.json is damaged, or a folder is given twice.
  """
  found: list[pathlib.Path] = []
  for workdir in map(pathlib.Path, workdirs):
    if not (workdir / "seeds.json").exists():
      found.append(workdir)
      continue
    for seed in _read_json(workdir / "seeds.json", "", {"workdirs": [str]})["workdirs"]:
      # The path as given to the command, or beside seeds.json, which may have been
      # moved.
      places = [pathlib.Path(seed), workdir / pathlib.Path(seed).name]
      there = [place for place in places if place.is_dir()]
      if not there:
        raise FileNotFoundError(
          f"{workdir / 'seeds.json'} lists {seed}, which does not exist, nor does its "
          f"name in {workdir}"
        )
      found.append(there[0])

  errors.refuse_twice(found, "workdir")
  return found


def read_audit(folder: str | os.PathLike, run: RunFiles) -> dict[str, Any]:
  """Reads the audit of a run's data set.

  Args:
    folder: where `python -m emosynth_jax.audit` wrote audit.json.
    run: the run, whose classes must be those of the audit.

  Returns:
    The audit, as `findings.describe_datasets` describes it.

  Raises:
    FileNotFoundError: if there is no audit.json.
    ValueError: if it is damaged, or of different data than the run's.
  """
  path = pathlib.Path(folder) / "audit.json"
  audit = _read_json(
    path, "expected the folder of an audit: python -m emosynth_jax.audit --config=..."
  )
  if "refused" in audit:
    raise ValueError(
      f"{path}: the audit could not load the data set: {audit['refused']}"
    )

  report_fields.check_audit(audit, f"{path} is damaged")
  for name, summary in run.report["splits"].items():
    counts = audit["splits"].get(name, {}).get("class_counts")
    own = {label: row["support"] for label, row in summary["per_class"].items()}
    if counts != own:
      raise ValueError(
        f"{path} is of different data than {run.workdir}: in {name} it has "
        f"{_listed(counts)}, the run {_listed(own)}"
      )

  return audit


def complete_config(stored: Mapping[str, Any]) -> dict[str, Any]:
  """A report's config in the settings of today.

  Args:
    stored: the config's JSON form, as a report of any version has it.

  Returns:
    The config with the new names of settings, and those added since at their defaults,
    which keep the run's behavior.
  """
  default = files.to_jsonable(defaults.get_default_config().to_dict())
  return _with_defaults(renamed.with_new_names(dict(stored)), default)


def _with_defaults(
  config: Mapping[str, Any], default: Mapping[str, Any], path: str = ""
) -> dict[str, Any]:
  """Adds missing settings to a config; unlocked sections stay unchanged."""
  completed = dict(config)
  for key, value in default.items():
    name = f"{path}{key}"
    if key not in config:
      completed[key] = value
    elif isinstance(value, dict) and name not in defaults.OPEN_PARTS:
      completed[key] = _with_defaults(config[key], value, f"{name}.")
  return completed


def _read_json(
  path: pathlib.Path, hint: str, fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
  if not path.is_file():
    raise FileNotFoundError(f"{path} is missing: {hint}")
  content = renamed.with_new_names(read_json(path))
  check_fields(content, f"{path} is damaged", fields or {})
  return content


def _listed(counts: Mapping[str, int] | None) -> str:
  if not counts:
    return "nothing"
  return ", ".join(f"{count} {label}" for label, count in counts.items())
