"""One command for FER-2013 on one GPU: teachers, soft labels, students, one test.

  python -m experiments.fer2013_record --data_dir=data/fer2013.csv --workdir=runs/record
  python -m experiments.fer2013_record --estimate     # its time on one H200
  python -m experiments.fer2013_record --rehearse     # on a CPU, synthetic faces

1. Three ResNet18 with squeeze-and-excitation are trained by one compiled program, each
   without one fold of the training split; near-duplicates share a fold.
2. Each image gets a mixture of the mean label of its near-duplicates and the
   probabilities of the teacher that has not seen it.
3. Students learn these: the same network for 300 epochs with mixup, averaged weights
   and, in the last fifth, sharpness-aware minimization; and two of at most 4 MB.
4. Epochs, views and the better of the small students are chosen on PublicTest. Then
   the chosen students read PrivateTest, once.

Outputs: folds.npz, teachers/, soft_labels.npz, students/NAME (workdirs), summary.json
and summary.txt. Rerun an interrupted command to resume.
"""

import contextlib
import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
from absl import flags, logging

from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.training import epoch
from emosynth_jax.utils import cli, files, npz
from emosynth_jax.workdir import provenance, record
from experiments.lib import distillation, record_recipe, record_students, teachers

_LOGITS = "teacher_logits.npz"
_SUMMARY = "summary.json"


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("data_dir", None, "FER-2013's file or folder.")
  flags.DEFINE_string(
    "workdir",
    None,
    "Output folder; by default runs/fer2013_record, or runs/fer2013_rehearsal.",
  )
  flags.DEFINE_bool(
    "rehearse",
    False,
    "Rehearse every stage: an eighth of the width, 112 images of each split, few "
    "epochs; on synthetic faces without --data_dir.",
  )
  flags.DEFINE_bool("estimate", False, "Print the time on one H200, and end.")
  flags.DEFINE_enum(
    "mapping",
    "map",
    teachers.MAPPINGS,
    "Teachers in their program: map trains an epoch of one after the other, vmap a "
    "batch of networks.",
  )


def run(args: Any) -> None:
  """Runs the stages that are not done, and prints the summary."""
  if args.estimate:
    print(record_recipe.describe_estimate())
    return

  default = "runs/fer2013_rehearsal" if args.rehearse else "runs/fer2013_record"
  workdir = pathlib.Path(args.workdir or default)
  configs = {
    name: record_recipe.build_config(
      name, data_dir=args.data_dir, is_rehearsal=args.rehearse
    )
    for name in record_recipe.NETWORKS
  }
  workdir.mkdir(parents=True, exist_ok=True)
  seconds: dict[str, float] = {}

  with _timed(seconds, "teachers"):
    taught = _teach(configs[record_recipe.TEACHER], workdir, args.mapping)

  choices = {}
  for name in record_recipe.STUDENTS:
    configs[name].data.soft_labels = str(workdir / distillation.SOFT_LABELS)
    with _timed(seconds, name):
      choices[name] = record_students.train(configs[name], _folder(workdir, name))

  for name in record_students.choose(choices):
    with _timed(seconds, f"{name} on the test split"):
      report = record_students.read_test_split(
        configs[name], _folder(workdir, name), choices[name]["views"]
      )
    choices[name]["test"] = record_students.accuracies(report)

  summary = {
    "data": _describe_data(configs[record_recipe.TEACHER], args.rehearse),
    "teachers": taught,
    "students": choices,
    "seconds": seconds,
    "provenance": provenance.provenance(),
  }
  text = record_students.describe(summary)
  files.write_report(workdir / _SUMMARY, summary)
  files.write_atomically(workdir / "summary.txt", f"{text}\n".encode())
  print(text)


def _folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """The workdir of a student."""
  return workdir / "students" / name


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
  """Context that notes the seconds of a stage."""
  logging.info("%s.", stage)
  began = time.monotonic()
  yield
  seconds[stage] = time.monotonic() - began


def _describe_data(config: ml_collections.ConfigDict, is_rehearsal: bool) -> str:
  """The data set, and whether the numbers mean anything."""
  name = f"{config.data.name}, {config.data.data_dir}"
  return f"{name}; a rehearsal, no result" if is_rehearsal else name


def _teach(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, mapping: str
) -> dict[str, Any]:
  """Trains the teachers and writes the soft labels, unless that is done.

  Args:
    config: the teachers'.
    workdir: the command's.
    mapping: one of `teachers.MAPPINGS`.

  Returns:
    The mapping, and the teachers' accuracy on images "unseen" and "seen" in training.
  """
  training = run_data.load_data(config, ("train",))["train"]
  groups = distillation.read_or_choose_folds(
    training, record_recipe.FOLDS, workdir, thresholds=config.data.near_duplicates
  )
  found = _read_or_compute_logits(config, training, groups["folds"], workdir, mapping)
  distillation.write_soft_labels(
    workdir / distillation.SOFT_LABELS,
    training,
    found["unseen"],
    duplicates=groups["duplicates"],
    mixture={
      "weight": record_recipe.WEIGHT,
      "temperature": record_recipe.TEMPERATURE,
    },
  )
  shares = {
    name: float(np.mean(found[name].argmax(axis=1) == training.labels))
    for name in ("unseen", "seen")
  }
  return {"mapping": str(found["mapping"]), **shares}


def _read_or_compute_logits(
  config: ml_collections.ConfigDict,
  training: Dataset,
  folds: np.ndarray,
  workdir: pathlib.Path,
  mapping: str,
) -> dict[str, np.ndarray]:
  """The teachers' logits of the training images, kept once they are computed.

  Returns:
    "unseen" and "seen", float32 `(N, K)` each, see `teachers.left_out_logits`, and
    "mapping".
  """
  path, folder = workdir / _LOGITS, workdir / "teachers"
  record.check_same_config(config, folder)
  pixels = np.uint32(zlib.crc32(training.images.tobytes()))
  if path.exists():
    found = npz.read_npz(path)
    if found["pixels"] != pixels:
      raise ValueError(f"{path} is of other training images; use another --workdir")
    return found

  trained = teachers.train(
    config,
    training,
    folds,
    folder,
    num_folds=record_recipe.FOLDS,
    mapping=mapping,
  )
  unseen, seen = teachers.left_out_logits(
    trained, training.images, folds, batch_size=config.eval_batch_size
  )
  values = {
    "unseen": unseen,
    "seen": seen,
    "mapping": np.asarray(mapping),
    "pixels": np.asarray(pixels),
  }
  npz.write_npz(path, values)
  return values


if __name__ == "__main__":
  cli.run(define_flags, run, epoch.NonFiniteError)
