"""What a workdir was begun with: its config, compared with a later one, and by what."""

import json
import os
import pathlib
from typing import Any

import ml_collections

from emosynth_jax import results

# Settings that may differ between a run and its continuation: they change what it
# costs, where it reads and how long it goes on, never what a step computes.
_FREE_SETTINGS = (
  "data.data_dir",
  "num_epochs",
  "early_stop_patience",
  "eval_batch_size",
  "checkpoint.keep",
  "checkpoint.minutes",
  "steps_per_call",
  "tensorboard",
)


def keep_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
  """Writes the config into a workdir, as config.json."""
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
  results.write_atomically(workdir / "config.json", text.encode())


def keep_provenance(workdir: str | os.PathLike, *, step: int) -> None:
  """Adds a line to provenance.jsonl: by what the run goes on from `step`."""
  line = json.dumps({"step": step, **results.provenance()}, sort_keys=True)
  with (pathlib.Path(workdir) / "provenance.jsonl").open("a") as file:
    file.write(line + "\n")


def read_provenance(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of provenance.jsonl; none where the workdir has no such file."""
  path = pathlib.Path(workdir) / "provenance.jsonl"
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines]


def check_same_config(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> None:
  """Compares the config with the one that a workdir was begun with, if any.

  Args:
    config: the run's config.
    workdir: the run's folder.

  Raises:
    ValueError: if the settings differ; they are listed. Or if config.json is damaged.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    return
  try:
    old = _flatten(json.loads(path.read_text()))
  except (ValueError, AttributeError):
    raise ValueError(
      f"{path} is damaged: delete it to go on with the settings of this command"
    ) from None
  new = _flatten(json.loads(json.dumps(config.to_dict())))
  different = [
    f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
    for key in sorted(old.keys() | new.keys())
    if key not in _FREE_SETTINGS and old.get(key) != new.get(key)
  ]
  if different:
    raise ValueError(
      f"{workdir} was begun with other settings: {'; '.join(different)}. Use these "
      "settings again, or another --workdir."
    )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat
