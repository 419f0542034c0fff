"""Records of `margin_ablation`: one line per member, and the common protocol."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from emosynth_jax.metrics import classification
from emosynth_jax.utils import files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance

# What records of a folder can differ in, beside setting and seed.
AXES = ("epochs", "batch_size", "learning_rate", "label_noise")


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the finished members; a truncated line is skipped.

  Of a member that was trained again, the last record counts.

  Args:
    path: results.jsonl.

  Raises:
    ValueError: if the file holds something else.
  """
  records: dict[str, dict[str, Any]] = {}
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    if not (isinstance(record, dict) and {"setting", "seed"} <= record.keys()):
      raise ValueError(
        f"{path} has no records of an ablation: {line[:60]}. Use another --workdir."
      )
    records[key(record)] = record
  return list(records.values())


def file_of(workdir: pathlib.Path, shard: tuple[int, int] | None) -> pathlib.Path:
  """The file of records that a process writes: one of its own for each shard."""
  suffix = "-{}-of-{}".format(*shard) if shard else ""
  return workdir / f"results{suffix}.jsonl"


def read_folder(
  workdir: pathlib.Path, settings: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
  """Reads the finished members of a folder, of all shards.

  Args:
    workdir: the folder.
    settings: of this command, as records have them.

  Returns:
    The records by setting, values of `AXES` and seed, whatever order they were finished
    in: this command's settings in its own order, others in that of the files.
  """
  records: dict[str, dict[str, Any]] = {}
  for path in sorted(workdir.glob("results*.jsonl")):
    records |= {key(record): record for record in read_records(path)}
  found: list[Mapping[str, Any]] = []
  for record in records.values():
    if record["setting"] not in found:
      found.append(record["setting"])
  known = iter([setting for setting in settings if setting in found])
  order = [next(known) if setting in settings else setting for setting in found]

  def place(record: dict[str, Any]) -> tuple[Any, ...]:
    *numbers, noise = (record.get(axis) for axis in AXES)
    axes = [noise or "", *(number or 0 for number in numbers)]
    return order.index(record["setting"]), axes, record["seed"]

  return sorted(records.values(), key=place)


def keep_protocol(path: pathlib.Path, protocol: dict[str, Any]) -> None:
  """Writes the common protocol, or raises an error if the folder has another one."""
  if path.exists():
    before = read_json(
      path,
      remedy="use another --workdir, or delete the file if the settings are unchanged",
    )
    keys = dict.fromkeys([*before, *protocol])
    keys.pop("provenance", None)
    if changed := [k for k in keys if before.get(k) != protocol.get(k)]:
      raise ValueError(
        f"config mismatch with {path.parent}: "
        + ", ".join(f"{k} {before.get(k)!r}, now {protocol.get(k)!r}" for k in changed)
        + ". Name another --workdir."
      )
    return
  files.write_report(path, protocol | {"provenance": provenance.provenance()})


def metrics_of(out: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
  """A member's metrics, after its last epoch and by epoch.

  Args:
    out: of `ablation.train_member`, on the host.
    class_names: of the labels.

  Returns:
    By name, as a record holds them.
  """
  bad_steps = [int(step) for step in out["bad_step"] if step >= 0]
  curves = {
    "train_loss": out["loss"],
    "train_cross_entropy": out["cross_entropy"],
    "train_accuracy": out["accuracy"],
  }
  record: dict[str, Any] = {
    "train_loss": out["loss"][-1],
    "train_accuracy": out["accuracy"][-1],
    "first_bad_step": min(bad_steps, default=-1),
  }

  statistics = out["statistics"]
  is_by_epoch = statistics["count"].ndim == 2
  if is_by_epoch:
    by_epoch = [
      classification.summarize({k: v[i] for k, v in statistics.items()}, class_names)
      for i in range(len(out["loss"]))
    ]
    curves |= {k: [each[k] for each in by_epoch] for k in ("accuracy", "loss")}
    summary = by_epoch[-1]
  else:
    summary = classification.summarize(statistics, class_names)

  if "memorized" in out:
    memorized = classification.summarize(out["memorized"], class_names)
    record["memorized"] = memorized["accuracy"]

  return files.to_jsonable(
    record
    | {
      "accuracy": summary["accuracy"],
      "balanced_accuracy": summary["balanced_accuracy"],
      "f1_macro": summary["macro"]["f1"],
      "loss": summary["loss"],
      "curves": curves,
    }
  )


def key(record: dict[str, Any]) -> str:
  """The key that identifies a member: setting, seed, and the values of `AXES`."""
  axes = [record.get(axis) for axis in AXES]
  return json.dumps([sorted(record["setting"].items()), record["seed"], axes])
