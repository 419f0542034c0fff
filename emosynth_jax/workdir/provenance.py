"""Provenance of a result: program, packages, hardware and date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

import emosynth_jax
from emosynth_jax.parallel import cpu_devices

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


# Packages of the checkout whose code makes results.
_PROGRAMS = ("benchmarks", "emosynth_jax", "experiments")


def each_once(records: Iterable[Mapping[str, Any]], key: str) -> list[str]:
  """The distinct values of a field of several `provenance`, in their order."""
  return list(dict.fromkeys(str(record[key]) for record in records))


def provenance(devices: Sequence[Any] | None = None) -> dict[str, Any]:
  """Collects the provenance of a result: program, packages, machine, date.

  Unavailable values are "unknown". It initializes JAX's backend if necessary.

  Args:
    devices: devices of the computation, by default all.

  Returns:
    A dictionary with ``command``, ``commit`` (of the package's own checkout, with
    "+dirty" if a tracked file differs from it or an imported module is not in it),
    ``packages`` (name to version, Python among them), ``jax_backend``,
    ``device_kind``, ``device_count``, ``cpu_model``, ``cpu_cores`` (those this process
    may use), ``hardware`` (the last five in words) and ``date`` (UTC, ISO 8601).
  """
  backend = jax.default_backend()
  devices = jax.devices() if devices is None else devices
  cpu_model, num_cores = _cpu_model(), cpu_devices.cpu_cores()
  processor = f"{cpu_model}, {num_cores} core{'s' if num_cores != 1 else ''}"
  kind = devices[0].device_kind
  accelerator = f"{len(devices)} x {kind} ({backend}); "
  return {
    # The interpreter's folder is omitted; its version is included below.
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
    "cpu_cores": num_cores,
    "hardware": processor if backend == "cpu" else accelerator + processor,
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
  }


def _commit(file: pathlib.Path) -> str:
  """The commit of the checkout that tracks `file`.

  For a copy of a checkout, as a Ray worker gets it, $EMOSYNTH_COMMIT says which.
  """
  # A package inside another checkout (such as in a virtual environment) is unrelated to
  # that checkout's commit.
  if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
    return os.environ.get("EMOSYNTH_COMMIT", "unknown")
  status = _git(file.parent, "status", "--porcelain=v2", "--branch", "-uno")
  lines = (status or "").splitlines()
  commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
  if not commits or commits[0] == "(initial)":
    return "unknown"
  dirty = any(not line.startswith("#") for line in lines) or _runs_untracked(file)
  return commits[0] + ("+dirty" if dirty else "")


def _runs_untracked(file: pathlib.Path) -> bool:
  """Returns whether a module of the checkout is imported that no commit has."""
  root = (_git(file.parent, "rev-parse", "--show-toplevel") or "").strip()
  # Not the untracked files: those of an environment in the checkout are thousands.
  tracked = _git(pathlib.Path(root), "ls-files", "-z") if root else None
  if tracked is None:
    return False

  known = set(tracked.split("\0"))
  files = map(os.path.realpath, _own_files())
  return any(
    os.path.relpath(file, root) not in known
    for file in files
    if file.startswith(root + os.sep)
  )


def _own_files() -> Iterator[str]:
  """The files of the imported modules that a checkout has, the command's own too."""
  for name, module in list(sys.modules.items()):
    if name == "__main__":
      # As of `python -m experiments.table_5_1`.
      name = getattr(getattr(module, "__spec__", None), "name", name)
    file = getattr(module, "__file__", None)
    if file and name.partition(".")[0] in _PROGRAMS:
      yield file


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """Output of git, or None if it is missing or fails."""
  # Inside a hook, these name a repository that may not contain `folder`.
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
