"""Results on disk and in text: report.json, a plain table, and where they come from."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import emosynth_jax

# Other packages whose version can change a result.
_PACKAGES = (
  "flax",
  "jax",
  "jaxlib",
  "numpy",
  "optax",
  "orbax-checkpoint",
  "pillow",
  "tensorflow-datasets",
)


def format_table(
  summary: Mapping[str, Any], protocol: Mapping[str, Any] | None = None
) -> str:
  """A plain-text table of an evaluation.

  Args:
    summary: from `metrics.summarize`.
    protocol: what a figure means little without, as label to value, printed above
      the figures in this order: data set, split, the split that the epoch was chosen
      on, seed, hardware, command, commit.

  Returns:
    Lines that end in a newline. All figures are in per cent but loss and support.
  """
  sections = []
  if protocol:
    sections.append(_align(list(protocol.items())))

  rows = list(summary["per_class"].items())
  macro = {**summary["macro"], "support": summary["num_examples"]}
  width = max(len(name) for name, _ in [("class", None), ("macro", None), *rows])
  header = f"{'class':{width}}  precision  recall      F1  support"
  rule = "-" * len(header)
  lines = [header, rule]
  lines += [_class_row(name, figures, width) for name, figures in rows]
  lines += [rule, _class_row("macro", macro, width)]
  sections.append("\n".join(lines))

  figures = [
    ("accuracy", _percent(summary["accuracy"])),
    ("balanced accuracy", _percent(summary["balanced_accuracy"])),
    ("calibration error, expected", _percent(summary["expected_calibration_error"])),
    ("calibration error, maximum", _percent(summary["max_calibration_error"])),
    ("loss", f"{summary['loss']:.4f}"),
  ]
  if rest := summary.get("without_twins"):
    # Directly below the figure that it doubts.
    label = f"accuracy without {rest['num_left_out']} twins"
    figures.insert(1, (label, _percent(rest["accuracy"])))
  digits = max(len(text) for _, text in figures)
  sections.append(_align([(label, f"{text:>{digits}}") for label, text in figures]))
  if augmented := summary.get("test_time_augmentation"):
    sections.append(
      f"With test-time augmentation ({augmented['views']}), which no epoch was chosen "
      f"by: accuracy {_percent(augmented['accuracy'])}, balanced accuracy "
      f"{_percent(augmented['balanced_accuracy'])}, loss {augmented['loss']:.4f}"
    )
  if summary["absent_classes"]:
    sections.append(
      "Without an example in this split, and so not in the balanced accuracy: "
      + ", ".join(summary["absent_classes"])
    )
  return "\n\n".join(sections) + "\n"


def write_report(path: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
  """Writes a report as strict JSON, in one move.

  Args:
    path: the file, as a rule ``report.json``; its folder is made if missing.
    report: as :func:`to_jsonable` takes it.

  Raises:
    TypeError: if something in the report has no form in JSON; no file is touched.
  """
  plain = to_jsonable(report, "report")
  text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, text.encode())


def provenance(devices: Sequence[Any] | None = None) -> dict[str, Any]:
  """Where a result comes from: program, packages, machine, moment.

  It reads only, and what it can't find out is "unknown". It starts JAX's backend if
  nothing has done so yet.

  Args:
    devices: those that the result was computed on, by default all there are.

  Returns:
    A dictionary with ``command``, ``commit`` (of the package's own checkout, with
    "+dirty" if git status shows any change), ``packages`` (name to version, Python
    among them), ``jax_backend``, ``device_kind``, ``device_count``, ``cpu_model``,
    ``cpu_cores`` (those this process may use), ``hardware`` (the last five in words)
    and ``date`` (UTC, ISO 8601).
  """
  import jax  # here, as tables and reports need no JAX

  backend = jax.default_backend()
  devices = jax.devices() if devices is None else devices
  cpu_model, cpu_cores = _cpu_model(), _cpu_cores()
  processor = f"{cpu_model}, {cpu_cores} core{'s' if cpu_cores != 1 else ''}"
  kind = devices[0].device_kind
  accelerator = f"{len(devices)} x {kind} ({backend}); "
  return {
    # The interpreter's folder says nothing to others; its version is below.
    "command": shlex.join([pathlib.Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
    "commit": _commit(pathlib.Path(__file__).resolve()),
    "packages": {
      "python": platform.python_version(),
      "emosynth_jax": emosynth_jax.__version__,
      **{name: _version(name) for name in _PACKAGES},
    },
    "jax_backend": backend,
    "device_kind": kind,
    "device_count": len(devices),
    "cpu_model": cpu_model,
    "cpu_cores": cpu_cores,
    "hardware": processor if backend == "cpu" else accelerator + processor,
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
  }


def to_jsonable(value: Any, where: str = "value") -> Any:
  """Plain Python that strict JSON can hold.

  Arrays become nested lists and paths strings. JSON has no NaN and no infinity:
  they become the strings "NaN", "Infinity" and "-Infinity", which ``float`` reads.

  Args:
    value: nested mappings, sequences, arrays, numbers, strings, None.
    where: how an error names the value.

  Returns:
    Dictionaries, lists, strings, finite numbers, booleans and None.

  Raises:
    TypeError: if something inside has no form in JSON.
  """
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float):
    if math.isfinite(value):
      return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise TypeError(f"{where}: expected strings as keys, got {key!r}")
    return {str(key): to_jsonable(v, f"{where}[{key!r}]") for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_jsonable(v, f"{where}[{i}]") for i, v in enumerate(value)]
  if hasattr(value, "__array__"):
    array = np.asarray(value)
    if array.dtype.kind == "V":  # bfloat16 and its like
      array = array.astype(np.float32)
    if array.dtype.kind in "biufU":
      return to_jsonable(array.tolist(), where)
  raise TypeError(f"{where}: {type(value).__name__} has no form in JSON: {value!r}")


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
  """Replaces a file in one move, so that a kill leaves the old or the new one.

  Args:
    path: the file; its folder must exist.
    content: all that the file is to hold.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with temporary.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  folder = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(folder)  # the new name itself must outlast a power cut
  finally:
    os.close(folder)


def _align(rows: list[tuple[str, Any]]) -> str:
  width = max(len(label) for label, _ in rows)
  return "\n".join(f"{label:{width}}  {value}" for label, value in rows)


def _percent(fraction: float) -> str:
  return f"{100 * fraction:.2f} %"


def _class_row(name: str, figures: Mapping[str, Any], width: int) -> str:
  precision, recall, f1 = (100 * figures[key] for key in ("precision", "recall", "f1"))
  return (
    f"{name:{width}}  {precision:9.2f}  {recall:6.2f}  {f1:6.2f}  "
    f"{figures['support']:7d}"
  )


def _commit(file: pathlib.Path) -> str:
  """The commit of the checkout that tracks `file`."""
  # A package inside somebody else's checkout (a virtual environment in it, say) has
  # nothing to do with that checkout's commit.
  if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
    return "unknown"
  status = _git(file.parent, "status", "--porcelain=v2", "--branch")
  lines = (status or "").splitlines()
  commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
  if not commits or commits[0] == "(initial)":
    return "unknown"
  dirty = any(not line.startswith("#") for line in lines)
  return commits[0] + ("+dirty" if dirty else "")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """What git prints, or None if it isn't there or refuses."""
  # Set inside a hook, these name a repository that `folder` need not be in.
  misleading = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
  try:
    done = subprocess.run(
      ["git", "--no-optional-locks", *arguments],
      cwd=folder,
      env={key: value for key, value in os.environ.items() if key not in misleading},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      timeout=10,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.decode(errors="replace")


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "unknown"


def _cpu_model() -> str:
  try:
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
  except OSError:
    cpuinfo = ""
  for line in cpuinfo.splitlines():
    if line.startswith("model name"):
      return line.partition(":")[2].strip()
  return platform.processor() or platform.machine() or "unknown"


def _cpu_cores() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
