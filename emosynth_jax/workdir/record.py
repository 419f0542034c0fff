"""Record of a run in its workdir: config, data and provenance."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import logging

from emosynth_jax.config import defaults, renamed, settings
from emosynth_jax.data import fingerprints
from emosynth_jax.data.images import pixel_form
from emosynth_jax.parallel import distributed
from emosynth_jax.utils import files, log_file
from emosynth_jax.utils.json_files import read_json, read_json_lines
from emosynth_jax.workdir import provenance


def keep_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
  """Writes the config into a workdir, as config.json."""
  text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
  files.write_atomically(pathlib.Path(workdir) / "config.json", text.encode())


@contextlib.contextmanager
def only_training_in(workdir: str | os.PathLike) -> Iterator[None]:
  """Locks a workdir against a second training; the lock ends with the process.

  Raises:
    ValueError: if another process trains in the workdir.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  lock = workdir / ".lock"
  with lock.open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # A training that failed may have removed the file in between.
      if not os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
        raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
      raise ValueError(
        f"another process is training in {workdir}: wait for it, or use another "
        "--workdir"
      ) from None
    try:
      with log_file.kept_in(workdir):
        yield
    finally:
      remove_unstarted(workdir)


def remove_unstarted(workdir: str | os.PathLike) -> None:
  """Removes what a training created that ended before its first steps.

  That is the lock, the log and empty files and folders, and nothing else; nothing if
  the workdir holds a run.
  """
  workdir = pathlib.Path(workdir)
  if (workdir / "config.json").exists():
    return
  for name in (".lock", log_file.NAME):
    (workdir / name).unlink(missing_ok=True)
  for name in ("metrics.jsonl", "timing.jsonl"):
    path = workdir / name
    if path.is_file() and not path.stat().st_size:
      path.unlink()
  inner = sorted((workdir / "checkpoints").rglob("*"), reverse=True)
  for folder in (*inner, workdir / "checkpoints", workdir):
    # Only empty folders are removed.
    with contextlib.suppress(OSError):
      folder.rmdir()


def write_fingerprint(found: Mapping[str, Any], workdir: str | os.PathLike) -> None:
  """Writes a fingerprint into a workdir as data.json, in the first process."""
  text = json.dumps(found, indent=2, sort_keys=True) + "\n"
  if distributed.is_first():
    files.write_atomically(pathlib.Path(workdir) / "data.json", text.encode())


def read_fingerprint(workdir: str | os.PathLike) -> dict[str, Any]:
  """The fingerprint in a workdir's data.json, by split; empty if there is no such file.

  Raises:
    ValueError: if it is damaged.
  """
  path = pathlib.Path(workdir) / "data.json"
  if not path.exists():
    return {}
  remedy = "delete it if config.data is that of the run, or use another --workdir"
  return read_json(path, {"*": dict}, remedy=remedy)


def check_same_fingerprint(
  found: Mapping[str, Mapping[str, Any]], workdir: str | os.PathLike
) -> None:
  """Checks data sets against the fingerprint in a workdir, if any.

  Logs a warning if most images of a split are of another pixel form than those of
  train.

  Args:
    found: of `run_data.fingerprint`, some of the splits.
    workdir: the run's folder.

  Raises:
    ValueError: if a split has other images, labels or classes.
  """
  path = pathlib.Path(workdir) / "data.json"
  old = read_fingerprint(workdir)
  for name, new in found.items():
    if different := fingerprints.different_data(new, old.get(name, {})):
      raise ValueError(
        f"data mismatch with {path}: the {name} split differs in "
        f"{', '.join(different)}{_describe_forms(new, old[name])}. Set "
        "config.data.data_dir to the data of this run, or use another --workdir."
      )

  trained = fingerprints.form_counts({**old, **found}).get("train")
  for name, counts in fingerprints.form_counts(found).items():
    fingerprints.warn_of_other_form(trained, counts, f"evaluated ({name}) on")


def _describe_forms(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
  """The counts of two fingerprints' forms where they differ, for a message."""
  forms = [each.get("pixel_forms") for each in (old, new)]
  if forms[1] is None or forms[0] == forms[1]:
    return ""
  was, now = (
    pixel_form.describe_counts(each) if each else "not recorded" for each in forms
  )
  return f" (pixel form was {was}, is {now})"


def keep_provenance(
  workdir: str | os.PathLike,
  *,
  step: int,
  devices: Sequence[Any] | None = None,
  pixel_forms: Mapping[str, Mapping[str, int]] | None = None,
  own_code: Mapping[str, Mapping[str, str]] | None = None,
  config_file: str | None = None,
) -> None:
  """Adds a line to provenance.jsonl: the provenance of the run from `step` on.

  Args:
    workdir: the run's folder.
    step: the step from which it continues.
    devices: its devices, by default all.
    pixel_forms: of `fingerprints.form_counts`, of the run's splits; omitted if empty.
    own_code: of `own_parts.hashes_of`; omitted if empty.
    config_file: path of the command's config file, whose SHA-256 is recorded; None if
      there is none.
  """
  path = pathlib.Path(workdir) / "provenance.jsonl"
  before = path.read_text() if path.exists() else ""
  record = {"step": step, **provenance.provenance(devices)}
  if pixel_forms:
    record["pixel_forms"] = pixel_forms
  if own_code:
    record["own_code"] = own_code

  if config_file and pathlib.Path(config_file).is_file():
    content = pathlib.Path(config_file).read_bytes()
    record["config_file"] = {
      "name": config_file,
      "sha256": hashlib.sha256(content).hexdigest(),
    }

  line = json.dumps(record, sort_keys=True)
  # Atomic: a truncated line would corrupt the file permanently.
  files.write_atomically(path, f"{before}{line}\n".encode())


def read_provenance(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of provenance.jsonl; empty if the workdir has no such file.

  Raises:
    ValueError: if a line is damaged.
  """
  path = pathlib.Path(workdir) / "provenance.jsonl"
  if not path.exists():
    return []
  remedy = "restore it from a copy, or delete it"
  lines = read_json_lines(path, {"step": int, "commit": str}, remedy=remedy)
  if not lines:
    raise ValueError(f"{path} is damaged (empty): {remedy}")
  return lines


def check_same_config(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> None:
  """Checks the config against the one in a workdir, if any.

  Args:
    config: the run's config.
    workdir: the run's folder.

  Raises:
    ValueError: if the settings differ; they are listed. Or if config.json is damaged.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    return
  remedy = "delete it to continue with the settings of this command"
  old = comparable_settings(read_json(path, remedy=remedy))
  new = comparable_settings(json.loads(json.dumps(config.to_dict())))
  free = settings.affecting("report", "cost")
  # A cosine ends with the last epoch: more epochs would change every step. And the last
  # epoch is validated, which one in between may not be.
  is_bound = config.schedule.name == "cosine" or config.evaluate_every > 1
  bound = {"num_epochs"} if is_bound else set()
  different = [
    f"{key} is {new.get(key)!r}, was {old.get(key)!r}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and (key not in free or key in bound)
  ]
  if different:
    raise ValueError(
      f"config mismatch with {path}: {'; '.join(different)}. Use the old settings, or "
      "another --workdir."
    )
  for key in ("num_epochs", "early_stop_patience"):
    if old.get(key) != new.get(key):
      logging.info("%s is %s, was %s in %s", key, new.get(key), old.get(key), workdir)


def comparable_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
  """A run's settings by path, in a form that is comparable between versions.

  Settings added after the run was stored have their defaults, which keep its behavior,
  and those of a disabled plateau are omitted.

  Args:
    stored: a config's, as config.json or a report holds them.

  Returns:
    Path to setting.
  """
  flat = files.to_jsonable(settings.closed_defaults()) | defaults.flatten(
    renamed.with_new_names(stored)
  )
  if flat.get("plateau.patience") == 0:
    unused = ("factor", "min_improvement", "min_scale")
    flat = {k: v for k, v in flat.items() if k not in {f"plateau.{n}" for n in unused}}
  return flat
