"""Trains a network on the probabilities of out-of-fold teachers.

  python -m experiments.distillation --config=fer2013:fer_vgg,small,strong \\
      --config.data.data_dir=data/fer2013.csv --config.model.width=0.5 \\
      --teacher=model.width=0.25,num_epochs=40 --workdir=runs/distilled

The training split is divided into folds, near-duplicates together. A teacher is trained
without each fold and evaluated on it. The student learns, for each image, a mixture of
its label and the probabilities of the teacher that has not seen it. Epochs are selected
on the validation split, which is the same for all; only the student reads the test
split. With --folds=0 there are no teachers: --average_duplicates alone gives all
near-duplicates the mean of their labels. --logits=FILE reuses the teachers of another
distillation for another weight, temperature or student; FILE is its soft_labels.npz.

Outputs: folds.npz, teacherN/ (workdirs), student/ (a workdir) and soft_labels.npz,
which any other config uses by --config.data.soft_labels. Rerun an interrupted command
to resume.
"""

import pathlib
from typing import Any

import ml_collections
import numpy as np
from absl import flags, logging

from emosynth_jax import evaluate
from emosynth_jax.config import command_line
from emosynth_jax.data import run_data
from emosynth_jax.metrics import calibration
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.training import epoch, test_time_augmentation
from emosynth_jax.training import seeds as training_seeds
from emosynth_jax.utils import cli
from experiments.lib import distillation
from experiments.lib.trainer import train_to_end


def define_flags() -> None:
  """The flags of this command."""
  command_line.define_config(
    "Config file or recipe of the student, with variants after a colon."
  )
  command_line.define_data_dir()
  flags.DEFINE_string("workdir", "runs/distilled", "Output folder.")
  flags.DEFINE_integer("folds", 3, "Number of folds and teachers; 0 for none.", 0)
  flags.DEFINE_list(
    "teacher",
    [],
    "Settings in which the teachers differ from the student, as model.width=0.25; "
    "another model.name or loss.name starts from the defaults of its arguments.",
  )
  flags.DEFINE_float(
    "weight", 0.7, "Weight of the teachers beside the label.", 0.0, 1.0
  )
  flags.DEFINE_float(
    "temperature", 1.0, "Number by which the teachers' logits are divided.", 1e-3
  )
  flags.DEFINE_enum(
    "views",
    "none",
    ("none", *test_time_augmentation.VIEWS),
    "Views of an image over which a teacher's probabilities are averaged, as "
    "config.eval_augment; none for the image alone.",
  )
  flags.DEFINE_string(
    "logits",
    "",
    "soft_labels.npz of another distillation, whose teachers are reused: none is "
    "trained, and --folds is without effect.",
  )
  flags.DEFINE_bool(
    "average_duplicates",
    False,
    "Give near-duplicates of the training split the mean of their labels.",
  )


def run(args: Any) -> None:
  """Trains the teachers and the student."""
  workdir, config = pathlib.Path(args.workdir), command_line.config_of(args)
  _check_flags(args, config)
  # The teachers' logits are computed before the student's training divides the cores.
  cpu_devices.split_cores(config.batch_size)
  folds_file = workdir / distillation.FOLDS
  num_teachers = 0 if args.logits else args.folds
  teachers = [
    distillation.teacher_config(config, args.teacher, folds_file, fold)
    for fold in range(num_teachers)
  ]

  path = workdir / distillation.SOFT_LABELS
  if args.logits:
    origin = distillation.read_origin(args.logits)
  else:
    # Without teachers weight, temperature and views are of no effect.
    origin = {"folds": args.folds, "views": args.views if args.folds else "none"}
  mixture = {
    "logits": distillation.FILE if args.logits else distillation.NO_FILE,
    **origin,
    "weight": args.weight if origin["folds"] else 0.0,
    "temperature": args.temperature if origin["folds"] else 1.0,
    "average_duplicates": float(args.average_duplicates),
  }
  distillation.check_mixture(path, mixture)

  training = run_data.load_data(config, ("train",))["train"]
  logits = np.zeros((len(training), len(training.class_names)), np.float32)
  if args.logits:
    logits = distillation.read_logits(args.logits, training)

  workdir.mkdir(parents=True, exist_ok=True)
  groups = {}
  if num_teachers or args.average_duplicates:
    groups = distillation.read_or_choose_folds(
      training, num_teachers, workdir, thresholds=config.data.near_duplicates
    )
  for fold, own in enumerate(teachers):
    folder = workdir / f"teacher{fold}"
    _train(own, folder, f"teacher {fold + 1} of {args.folds}")
    rows = np.flatnonzero(groups["folds"] == fold)
    logits[rows] = distillation.left_out_logits(
      own, folder, training.take(rows), views=args.views
    )
  if origin["folds"]:
    accuracy = np.mean(logits.argmax(axis=1) == training.labels)
    logging.info("Out-of-fold accuracy of the teachers: %.2f %%.", 100 * accuracy)
    cross_entropy = calibration.negative_log_likelihood(logits, training.labels, 1.0)
    logging.info("Out-of-fold cross-entropy of the teachers: %.4f.", cross_entropy)

  distillation.write_soft_labels(
    path,
    training,
    logits,
    duplicates=groups["duplicates"] if args.average_duplicates else None,
    mixture=mixture,
  )
  config.data.soft_labels = str(path)
  _train(config, workdir / distillation.STUDENT, "student")


def _check_flags(args: Any, config: ml_collections.ConfigDict) -> None:
  if config.data.soft_labels or config.data.folds.file:
    raise ValueError(
      "config.data.soft_labels, config.data.folds.file: this command sets them; leave "
      "them empty"
    )
  if args.logits and (args.teacher or args.views != "none"):
    raise ValueError("--logits: no teacher is trained; leave out --teacher and --views")
  if (
    (args.logits or args.folds)
    and config.data.drop_duplicates
    and config.data.test_split
  ):
    raise ValueError(
      "config.data.drop_duplicates: teachers do not read the test split, and would "
      "keep other training images than the student; add --config.data.test_split=, "
      "which keeps near-duplicates of the test split in the training, and judge the "
      "student by --config.evaluate_deduplicated=True"
    )
  if args.logits:
    return
  if args.folds == 1 or not (args.folds or args.average_duplicates):
    raise ValueError(
      f"--folds: expected 2 or more, or 0 with --average_duplicates; got {args.folds}"
    )


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path, name: str) -> None:
  """Trains and evaluates a network, unless that is done."""
  if training_seeds.finished_report(config, folder) is not None:
    logging.info("%s: already finished, in %s.", name, folder)
    return
  logging.info("%s, in %s.", name, folder)
  load = run_data.shared_loader(config)
  train_to_end(config, folder, load=load)
  evaluate.evaluate_run(config, folder, load=load)


if __name__ == "__main__":
  cli.run(
    define_flags,
    run,
    epoch.NonFiniteError,
    flags_parser=command_line.parse_config_flags,
  )
