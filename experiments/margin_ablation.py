"""Ablation over margin formula, scale, margin and seed, against cross-entropy.

  python -m experiments.margin_ablation --data=mnist --data_dir=data/tfds
  python -m experiments.margin_ablation --data=fer2013 --grid=angular --seeds=0,1,2
  python -m experiments.margin_ablation --grid=mine --margin_file=my_margin.py

Every member is a small VGG-like network trained on a part of the training split and
evaluated, after its last epoch, on validation images (FER-2013: PublicTest; MNIST: held
out of train). No test image is read. Members of one seed are paired: they have the same
initialization, batches and augmentation. Rerun the same command to resume.

A custom margin formula is a function in a user's file, logits (N, K) to margins (N,):

  import jax, jax.numpy as jnp

  def margin(logits):
    top = jax.lax.top_k(logits, 2)[0]
    return jax.lax.stop_gradient(0.5 * (top[:, 0] - top[:, 1]))
"""

import functools
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags, logging

from emosynth_jax import data, models
from emosynth_jax.data.augmentation import augment
from emosynth_jax.utils import cli, files, output_files, progress
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance
from emosynth_jax.workdir import record as run_record
from experiments.lib import (
  ablation,
  ablation_grids,
  ablation_members,
  ablation_records,
  ablation_report,
)

# Both data sets at one size, so that they share programs, and the CPU time is limited.
_SIDE = 32
_BATCH_SIZE = 64


def load_arrays(
  name: str, data_dir: str, train_images: int, validation_images: int
) -> tuple[data.Dataset, data.Dataset]:
  """Loads the training and validation part, 32x32."""
  parts = []
  for split, limit in (("train", train_images), ("validation", validation_images)):
    loaded = data.load_splits(
      name, data_dir, (split,), validation_fraction=0.1, seed=0, limit=limit
    )[split]
    if loaded.images.shape[1] != _SIDE:
      images = np.stack(
        [
          cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
          for image in loaded.images
        ]
      )
      images = images.reshape(*images.shape[:3], -1)
      loaded = data.Dataset(
        images, loaded.labels, loaded.class_names, split, loaded.sources
      )
    parts.append(loaded)
  return parts[0], parts[1]


def run_ablation(
  settings: list[dict[str, Any]],
  training: data.Dataset,
  validation: data.Dataset,
  workdir: pathlib.Path,
  *,
  seeds: int,
  epochs: int,
  width: float,
  learning_rate: float,
  mapping: str,
  members_per_call: int = 0,
  flip: bool = False,
  margin_hash: str = "",
) -> list[dict[str, Any]]:
  """Trains the missing members.

  Args:
    settings: as `ablation_members.expand_grid` returns them.
    training: the images to train on.
    validation: the images to evaluate on.
    workdir: folder of results.jsonl, with one line per member.
    seeds: number of seeds, counted from 0.
    epochs: passes over the training images.
    width: factor on the network's channels.
    learning_rate: of the first step.
    mapping: one of `ablation.MAPPINGS`.
    members_per_call: members of one call, see --members_per_call.
    flip: whether images are mirrored with probability 0.5.
    margin_hash: of the user's margin file.

  Returns:
    One record per member.
  """
  for setting in settings:
    ablation_members.check_values(setting, len(training.class_names))
  path = workdir / "results.jsonl"
  # Ordered by setting first: settings are complete if the run is interrupted.
  members = {
    ablation_records.key(ablation_grids.describe(setting, margin_hash), seed): (
      setting,
      seed,
    )
    for setting in settings
    for seed in range(seeds)
  }
  done = _read_done(path)
  todo = [member for key, member in members.items() if key not in done]

  formulas = list(dict.fromkeys(ablation_members.formula_of(s)[0] for s in settings))
  steps = len(training) // _BATCH_SIZE * epochs
  train_all = ablation.compile_members(
    mapping,
    formulas,
    model=_build_network(width, len(training.class_names)),
    optimizer=optax.adam(optax.cosine_decay_schedule(learning_rate, steps)),
    # Faces are mirrored, digits are not.
    augment=functools.partial(augment.augment, shift=0.08, flip=flip),
    num_classes=len(training.class_names),
    num_epochs=epochs,
    batch_size=_BATCH_SIZE,
    eval_batch_size=512,
  )
  arrays = [
    (jnp.asarray(d.images), jnp.asarray(d.labels)) for d in (training, validation)
  ]

  size = jax.device_count() if mapping == "devices" else 1
  _train_members(
    lambda members: train_all(
      ablation_members.stack_members(members, formulas), *arrays
    ),
    todo,
    path,
    members_per_call=max(members_per_call or size, size) // size * size,
    class_names=validation.class_names,
    margin_hash=margin_hash,
    images_per_member=steps * _BATCH_SIZE,
  )
  return [
    r
    for r in ablation_records.read_records(path)
    if ablation_records.key(r["setting"], r["seed"]) in members
  ]


def _train_members(
  train_all: Callable[[list[Any]], Any],
  todo: list[tuple[dict[str, Any], int]],
  path: pathlib.Path,
  *,
  members_per_call: int,
  class_names: tuple[str, ...],
  margin_hash: str,
  images_per_member: int,
) -> None:
  """Trains settings and seeds call by call, and appends their records to `path`."""
  commit = provenance.provenance()["commit"]
  line = progress.Progress(first=0, total=len(todo))
  for first in range(0, len(todo), members_per_call):
    group = todo[first : first + members_per_call]
    # An incomplete last call is padded with its last member.
    padded = group + group[-1:] * (members_per_call - len(group))

    began = time.monotonic()
    out = jax.device_get(train_all(padded))
    common = {
      "seconds": round((time.monotonic() - began) / len(padded), 2),
      "commit": commit,
    }
    results = [jax.tree.map(lambda leaf, i=i: leaf[i], out) for i in range(len(group))]
    records = [
      {
        "setting": ablation_grids.describe(setting, margin_hash),
        "seed": seed,
        **ablation_records.figures_of(result, class_names),
        **common,
      }
      for (setting, seed), result in zip(group, results, strict=True)
    ]
    _append(path, records)
    line.update(
      first + len(group),
      f"member {first + len(group)}/{len(todo)}, "
      + ablation_report.label(ablation_grids.describe(group[-1][0])),
      images_per_unit=images_per_member,
    )


def _build_network(width: float, num_classes: int) -> nn.Module:
  return models.build_model(
    "fer_vgg",
    num_classes=num_classes,
    width=width,
    dense_features=(64,),
    dropout_rate=0.0,
  )


def _read_done(path: pathlib.Path) -> set[Any]:
  """The keys of the members in results.jsonl."""
  records = ablation_records.read_records(path)
  # Removes a truncated line, to which the next one would be appended.
  lines = "".join(json.dumps(record) + "\n" for record in records)
  files.write_atomically(path, lines.encode())
  return {ablation_records.key(record["setting"], record["seed"]) for record in records}


def _append(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
  """Appends records to results.jsonl, and waits until they are on the disk."""
  with output_files.writing(path), path.open("a") as file:
    for record in records:
      file.write(json.dumps(files.to_jsonable(record)) + "\n")
    file.flush()
    os.fsync(file.fileno())


def define_flags() -> None:
  """Defines the command's flags; not at import."""
  flags.DEFINE_enum("data", "mnist", ["mnist", "fer2013"], "Data set.")
  flags.DEFINE_string(
    "data_dir",
    None,
    "Data set directory. By default data/tfds for MNIST and data for FER-2013.",
  )
  flags.DEFINE_enum(
    "grid", "thesis", sorted(ablation_grids.GRIDS), "Grid of losses to train."
  )
  flags.DEFINE_string(
    "margin_file",
    None,
    "Python file with a function margin(logits): added to the grid.",
  )
  cli.define_seeds(5, "Seeds of each setting.", least=2)
  flags.DEFINE_integer("epochs", 10, "Number of epochs.", 1)
  flags.DEFINE_integer(
    "train_images", 4000, "Number of training images, stratified by class.", 64
  )
  flags.DEFINE_integer(
    "validation_images", 3000, "Number of validation images, stratified by class.", 1
  )
  flags.DEFINE_float("width", 0.125, "Width multiplier of the network.", 0.01)
  flags.DEFINE_float(
    "learning_rate", 4e-3, "Initial learning rate of Adam, with cosine decay to 0.", 0
  )
  flags.DEFINE_enum(
    "mapping",
    "devices",
    ablation.MAPPINGS,
    "Execution of the members; benchmarks/ablation_mappings.py compares the choices.",
  )
  flags.DEFINE_integer(
    "members_per_call",
    0,
    "Number of members per call, rounded down to a multiple of the number of devices; "
    "0 for the number of devices with --mapping=devices, else 1.",
    0,
  )
  flags.DEFINE_string(
    "workdir", None, "Output folder. By default runs/margin_ablation-DATA-GRID."
  )


def run(given: Any) -> None:
  """Trains the members, and writes the table and the plot."""
  if given.mapping == "devices":
    # One device per core: two concurrent small trainings are more efficient than one on
    # both cores.
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
  for flag in ("width", "learning_rate"):
    value = getattr(given, flag)
    if not 0 < value < math.inf:  # absl's bounds accept NaN
      raise ValueError(f"--{flag}: expected a number above 0, got {value}")
  if given.grid == "mine" and not given.margin_file:
    raise ValueError(
      "--grid=mine: requires --margin_file, which is added to cross-entropy"
    )
  name = given.data
  workdir = pathlib.Path(given.workdir or f"runs/margin_ablation-{name}-{given.grid}")
  grid: list[dict[str, Any]] = list(ablation_grids.GRIDS[given.grid])
  margin_hash = ""
  if given.margin_file:
    margin = ablation_grids.load_margin(given.margin_file)
    content = pathlib.Path(given.margin_file).read_bytes()
    margin_hash = hashlib.sha256(content).hexdigest()[:8]
    grid.append(
      {"loss": "mam_softmax", "margin_fn": margin, "kappa": ablation_grids.KAPPAS}
    )
  settings = ablation_members.expand_grid(grid)
  training, validation = load_arrays(
    name,
    given.data_dir or {"mnist": "data/tfds", "fer2013": "data"}[name],
    given.train_images,
    given.validation_images,
  )
  workdir.mkdir(parents=True, exist_ok=True)
  protocol = {
    "data_set": name,
    "num_classes": len(training.class_names),
    "train_images": len(training),
    "validation_images": len(validation),
    "network": f"fer_vgg, width {given.width}, dense (64,), input {_SIDE}x{_SIDE}",
    "epochs": given.epochs,
    "batch_size": _BATCH_SIZE,
    "learning_rate": given.learning_rate,
  }
  ablation_records.keep_protocol(workdir / "protocol.json", protocol)
  with run_record.only_training_in(workdir):
    records = run_ablation(
      settings,
      training,
      validation,
      workdir,
      seeds=given.seeds,
      epochs=given.epochs,
      width=given.width,
      learning_rate=given.learning_rate,
      mapping=given.mapping,
      members_per_call=given.members_per_call,
      flip=name == "fer2013",
      margin_hash=margin_hash,
    )
  protocol = read_json(workdir / "protocol.json")
  text = ablation_report.write(records, protocol, workdir)
  print(text)
  logging.info("Wrote results.csv, table.txt and ablation.png to %s.", workdir)


if __name__ == "__main__":
  cli.run(define_flags, run)
