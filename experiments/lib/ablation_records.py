"""Records of `margin_ablation`: one line per member, and the common protocol."""

import json
import pathlib
from typing import Any

from emosynth_jax.metrics import classification
from emosynth_jax.utils import files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the finished members; a truncated line is skipped.

  Raises:
    ValueError: if the file holds something else.
  """
  records: list[dict[str, Any]] = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    if not (isinstance(record, dict) and {"setting", "seed"} <= record.keys()):
      raise ValueError(
        f"{path} has no records of an ablation: {line[:60]}. Use another --workdir."
      )
    records.append(record)
  return records


def keep_protocol(path: pathlib.Path, protocol: dict[str, Any]) -> None:
  """Writes the common protocol, or raises an error if the folder has another one."""
  if path.exists():
    before = read_json(
      path,
      remedy="use another --workdir, or delete the file if the settings are unchanged",
    )
    changed = [k for k in protocol if before.get(k) != protocol[k]]
    if changed:
      raise ValueError(
        f"config mismatch with {path.parent}: "
        + ", ".join(f"{k} {before.get(k)!r}, now {protocol[k]!r}" for k in changed)
        + ". Name another --workdir."
      )
    return
  files.write_report(path, protocol | {"provenance": provenance.provenance()})


def figures_of(out: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
  """A member's metrics, after its last epoch.

  Args:
    out: of `ablation.train_member`, on the host.
    class_names: of the labels.

  Returns:
    By name, as a record holds them.
  """
  bad_step = int(out["bad_step"])
  record = {
    "train_loss": float(out["loss"][-1]),
    "train_accuracy": float(out["accuracy"][-1]),
    "first_bad_step": bad_step,
  }
  summary = classification.summarize(out["statistics"], class_names)
  return record | {
    "accuracy": summary["accuracy"],
    "balanced_accuracy": summary["balanced_accuracy"],
    "f1_macro": summary["macro"]["f1"],
    "loss": summary["loss"],
  }


def key(setting: dict[str, Any], seed: int) -> str:
  """The key that identifies a member."""
  return json.dumps([sorted(setting.items()), seed])
