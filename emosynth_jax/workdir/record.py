"""What a workdir was begun with: its config, its data, and by what it was trained."""

import contextlib
import fcntl
import json
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import logging

from emosynth_jax import distributed, results
from emosynth_jax.data import pixel_form
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.lazy_images import LazyImages

# Settings that may differ between a run and its continuation: they change what it
# costs, where it reads and how long it goes on, not what a step computes.
_FREE_SETTINGS = (
  "data.data_dir",
  "data.test_split",
  "evaluate_without_twins",
  "num_epochs",
  "early_stop_patience",
  "eval_augment",
  "checkpoint.keep",
  "checkpoint.minutes",
  "steps_per_call",
  "tensorboard",
  # Where images and arrays lie: the same batches and numbers but for rounding.
  "data.pipeline",
  "data.resident_gib",
  "mesh.model",
)

# Settings that came after runs were stored, with what those runs did.
_LATER_SETTINGS = {
  "init_from": "",
  "pretrained.file": "",
  "pretrained.keep": [],
  "input.mean": [],
  "input.std": [],
  "input.equalize": "none",
  "input.equalize_share": 0.5,
  "data.drop_duplicates": False,
  "data.twins.max_distance": 12,
  "data.twins.min_correlation": 0.9,
  "optimizer.name": "adam",
  "optimizer.momentum": 0.9,
  "optimizer.weight_decay": 0.0,
  "optimizer.base_fan_in": 0,
  "schedule.name": "constant",
  "schedule.warmup_epochs": 0.0,
  "schedule.final_scale": 0.0,
  "ema_decay": 0.0,
  "augment.crop_padding": 0,
  "augment.crop_fill": "edge",
  "augment.cutout_side": 0,
  "batch_norm_groups": 1,
}

# Of a fingerprint, what a process of a job finds without the others.
_TOLD_ALONE = (
  "num_examples",
  "class_names",
  "sample_crc32",
  "labels_crc32",
  "images_crc32",
)

# What follows from the pixels, whose checksums tell data apart; files of earlier runs
# lack it.
_DERIVED = ("pixel_forms",)

# Images of a split whose pixels tell it apart where not all are at hand.
_SAMPLE = 64


def keep_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> None:
  """Writes the config into a workdir, as config.json."""
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
  results.write_atomically(workdir / "config.json", text.encode())


@contextlib.contextmanager
def only_training_in(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps a second training out of a workdir; a dead process's hold ends with it.

  Raises:
    ValueError: if another process trains in the workdir.
  """
  workdir = pathlib.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir / ".lock").open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f"another process trains in {workdir}: wait for it, or use another --workdir"
      ) from None
    yield


def fingerprint(datasets: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
  """What tells data sets apart: of each split, its sizes and checksums.

  It is the same in a job of any number of processes, all of which call this alike. A
  split that stays on disk has no checksum of all its images, only that of a sample.
  Where the images' forms were looked at, their counts are there too.

  Args:
    datasets: some of the splits.

  Returns:
    By split and name of what was counted or summed.

  Raises:
    ValueError: in all processes of a job, if they do not read the same data.
  """
  found: dict[str, dict[str, Any]] = {}
  for name, dataset in datasets.items():
    count = min(_SAMPLE, len(dataset))
    rows = np.arange(count) * len(dataset) // max(count, 1)
    found[name] = {
      "num_examples": len(dataset),
      "class_names": list(dataset.class_names),
      "sample_crc32": zlib.crc32(dataset.images[rows].tobytes()),
      "labels_crc32": zlib.crc32(dataset.labels.tobytes()),
    }
    if counts := dataset.form_counts:
      found[name]["pixel_forms"] = counts
    if not isinstance(dataset.images, LazyImages):
      found[name]["images_crc32"] = zlib.crc32(dataset.images.tobytes())
  # Before the next collective, which not all would take part in if one had more images
  # than its devices hold.
  _check_one_data_set(found)
  for name, dataset in datasets.items():
    images: Any = dataset.images
    if isinstance(images, LazyImages) and images.is_held:
      row_bytes = int(np.prod(images.shape[1:]))
      part = images[images.held.start : images.held.stop]
      found[name]["images_crc32"] = distributed.crc32_of_rows(
        part, images.held.start, row_bytes
      )
  return found


def _check_one_data_set(found: Mapping[str, Mapping[str, Any]]) -> None:
  """Refuses processes that read different data, by what each can tell alone."""
  keys = [(name, key) for name in found for key in _TOLD_ALONE]
  texts = [json.dumps(found[name].get(key)) for name, key in keys]
  if different := distributed.differing(texts):
    process, places = next(iter(different.items()))
    what = ", ".join(f"{keys[i][0]} {keys[i][1]}" for i in places)
    raise ValueError(
      f"config.data.data_dir: process {', '.join(map(str, different))} reads other "
      f"data than process 0 (process {process} has another {what}); give all of them "
      "the same data"
    )


def different_data(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
  """In what two fingerprints of a split differ.

  Args:
    new: of `fingerprint`, one split's.
    old: likewise; not every way of reading a split has all the checksums.

  Returns:
    The names of what both have, and have differently.
  """
  return [
    key for key in new if key in old and new[key] != old[key] and key not in _DERIVED
  ]


def form_counts(
  found: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, int]]:
  """The number of images of each form, of those splits where it is known.

  Args:
    found: of `fingerprint`, or the content of data.json.

  Returns:
    By split, the counts as `pixel_form.count_forms` gives them.
  """
  return {
    name: split["pixel_forms"]
    for name, split in found.items()
    if split.get("pixel_forms")
  }


def warn_of_other_form(
  trained: Mapping[str, int] | None, counts: Mapping[str, int] | None, use: str
) -> None:
  """Logs a line where a network meets images of another form than it was trained on.

  The form of most images counts. Nothing is logged where one of the two is not known.

  Args:
    trained: the training images of each form, see `form_counts`.
    counts: likewise, of the other images.
    use: what is done with those, in words: "evaluated on".
  """
  forms = pixel_form.main_form(trained), pixel_form.main_form(counts)
  if trained and counts and None not in forms and forms[0] != forms[1]:
    logging.warning(
      "Other pixel form: the network was trained on %s images and is %s %s ones; "
      "results of the two forms can't be compared (docs/data.md).",
      pixel_form.describe_counts(trained),
      use,
      pixel_form.describe_counts(counts),
    )


def keep_fingerprint(
  datasets: Mapping[str, Dataset], workdir: str | os.PathLike
) -> None:
  """Writes the data sets' fingerprint into a workdir, as data.json."""
  write_fingerprint(fingerprint(datasets), workdir)


def write_fingerprint(found: Mapping[str, Any], workdir: str | os.PathLike) -> None:
  """Writes what `fingerprint` found into a workdir, as data.json; the first process."""
  text = json.dumps(found, indent=2, sort_keys=True) + "\n"
  if distributed.is_first():
    results.write_atomically(pathlib.Path(workdir) / "data.json", text.encode())


def check_same_data(
  datasets: Mapping[str, Dataset], workdir: str | os.PathLike
) -> None:
  """Compares data sets with those that a workdir was begun with, if any.

  Args:
    datasets: some of the splits.
    workdir: the run's folder.

  Raises:
    ValueError: if a split has other images, labels or classes.
  """
  path = pathlib.Path(workdir) / "data.json"
  # Together: to compare, all processes exchange checksums.
  if distributed.largest(path.exists())[0]:
    check_same_fingerprint(fingerprint(datasets), workdir)


def check_same_fingerprint(
  found: Mapping[str, Mapping[str, Any]], workdir: str | os.PathLike
) -> None:
  """`check_same_data` for what `fingerprint` found already.

  Where most images of a split are of another pixel form than those of train, a line in
  the log says so.

  Raises:
    ValueError: if a split has other images, labels or classes.
  """
  path = pathlib.Path(workdir) / "data.json"
  old = json.loads(path.read_text()) if path.exists() else {}
  for name, new in found.items():
    if different := different_data(new, old.get(name, {})):
      raise ValueError(
        f"{workdir} was begun with another {name} split (different: "
        f"{', '.join(different)}{_describe_forms(new, old[name])}). Point "
        "config.data.data_dir at the same data, or use another --workdir."
      )
  trained = form_counts({**old, **found}).get("train")
  for name, counts in form_counts(found).items():
    warn_of_other_form(trained, counts, f"evaluated ({name}) on")


def _describe_forms(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
  """The counts of two fingerprints' forms where they differ, for a message."""
  forms = [each.get("pixel_forms") for each in (old, new)]
  if forms[1] is None or forms[0] == forms[1]:
    return ""
  was, now = (
    pixel_form.describe_counts(each) if each else "not recorded" for each in forms
  )
  return f"; pixel form there: {was}; here: {now}"


def keep_provenance(
  workdir: str | os.PathLike,
  *,
  step: int,
  devices: Sequence[Any] | None = None,
  pixel_forms: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
  """Adds a line to provenance.jsonl: by what the run goes on from `step`.

  Args:
    workdir: the run's folder.
    step: that it goes on from.
    devices: those that it is on, by default all.
    pixel_forms: of `form_counts`, of the run's splits; left out where it is empty.
  """
  path = pathlib.Path(workdir) / "provenance.jsonl"
  before = path.read_text() if path.exists() else ""
  record = {"step": step, **results.provenance(devices)}
  if pixel_forms:
    record["pixel_forms"] = pixel_forms
  line = json.dumps(record, sort_keys=True)
  # In one move: a line that a kill cut short would spoil the file for good.
  results.write_atomically(path, f"{before}{line}\n".encode())


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
    old = comparable_settings(json.loads(path.read_text()))
  except (ValueError, AttributeError):
    raise ValueError(
      f"{path} is damaged: delete it to go on with the settings of this command"
    ) from None
  new = comparable_settings(json.loads(json.dumps(config.to_dict())))
  # A cosine ends with the last epoch: with more of them, every step would be another.
  bound = {"num_epochs"} if config.schedule.name == "cosine" else set()
  different = [
    f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and (key not in _FREE_SETTINGS or key in bound)
  ]
  if different:
    raise ValueError(
      f"{workdir} was begun with other settings: {'; '.join(different)}. Use these "
      "settings again, or another --workdir."
    )


def comparable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
  """A run's settings by their paths, as runs of any version can be compared.

  Settings that came after the run was stored have the value of what it did, and those
  of a plateau that is off are left out.

  Args:
    settings: a config's, as config.json or a report holds them.

  Returns:
    Path to setting.
  """
  flat = _LATER_SETTINGS | flatten(settings)
  if flat.get("plateau.patience") == 0:
    unused = ("factor", "min_improvement", "min_scale")
    flat = {k: v for k, v in flat.items() if k not in {f"plateau.{n}" for n in unused}}
  return flat


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested settings by their paths, as {"optimizer.name": "adam"}.

  Args:
    tree: of `ConfigDict.to_dict`, or of a report.
    prefix: of every path.

  Returns:
    Path to setting.
  """
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat
