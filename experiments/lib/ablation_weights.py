"""Weights of an ablation's members: one bundle each, or arrays for a user's network."""

import hashlib
import pathlib
import re
from typing import Any

import flax.traverse_util
import ml_collections

from emosynth_jax import bundle
from emosynth_jax.config.defaults import get_default_config
from emosynth_jax.utils import npz, own_code
from emosynth_jax.utils.files import shorten
from emosynth_jax.workdir import own_parts
from experiments.lib import ablation_records, ablation_report
from experiments.lib.ablation_groups import Program, label_noise_of
from experiments.lib.ablation_members import Member

FOLDER = "weights"


def file_of(identity: dict[str, Any], program: Program) -> str:
  """Name of a member's file, relative to the ablation's folder.

  Args:
    identity: its record's setting, seed and values of `ablation_records.AXES`.
    program: the member's.
  """
  name = ablation_report.label(identity["setting"])
  name = re.sub(r"[^A-Za-z0-9_.=+-]+", "_", name)
  key = hashlib.sha256(ablation_records.key(identity).encode()).hexdigest()[:8]
  suffix = ".npz" if own_code.is_own(program.model["name"]) else ".safetensors"
  end = f"-seed{identity['seed']}-{key}{suffix}"
  return f"{FOLDER}/{shorten(name, reserve=len(end))}{end}"


def write(
  path: pathlib.Path,
  variables: dict[str, Any],
  program: Program,
  member: Member,
  *,
  class_names: tuple[str, ...],
  image_shape: tuple[int, int, int],
) -> None:
  """Writes a member's weights.

  A library's network becomes a bundle, which `bundle.read_bundle` and every command on
  trained networks read. A bundle has no code, so that of a network of the user's own
  the arrays are written, by names as "params/logits/kernel".

  Args:
    path: the file, of `file_of`.
    variables: "params" and "batch_stats".
    program: what the member was trained with.
    member: the training.
    class_names: in the order of the labels.
    image_shape: `(height, width, channels)`.
  """
  if path.suffix == ".npz":
    npz.write_npz(path, flax.traverse_util.flatten_dict(variables, sep="/"))
    return

  network = bundle.Bundle(
    config=own_parts.without_code(config_of(program, member)),
    class_names=class_names,
    image_shape=image_shape,
    variables=variables,
    input_scale=1 / 255,
    temperature=1.0,
    facts={"trained_by": "experiments.margin_ablation", "calibration": None},
  )
  bundle.write_bundle(path, network, dtype="float32")


def config_of(program: Program, member: Member) -> ml_collections.ConfigDict:
  """The config of a run that trains as the member did."""
  config = get_default_config()
  setting = dict(member.setting)
  with config.unlocked():
    config.model = {"dtype": "float32", **program.model}
    config.loss = {"name": setting.pop("loss"), **setting}
    config.data.name = program.source.name
    config.data.options = program.source.options
    config.data.limit = program.source.train_images
    config.data.label_noise.update(label_noise_of(program.source.noise))
  config.seed = member.seed
  config.num_epochs = program.epochs
  config.batch_size = program.batch_size
  config.optimizer.learning_rate = member.learning_rate
  config.schedule.name = "cosine"
  config.plateau.patience = 0
  config.augment.shift = program.shift
  config.augment.flip = program.flip
  return config
