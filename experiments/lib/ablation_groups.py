"""The members of an ablation in groups, each trained by one call of one program.

A group is described by plain values and can be pickled: `run_group` loads the data,
compiles the program and trains, in this process or in any other one. Data and programs
are kept for the process's next groups.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from emosynth_jax import data, models
from emosynth_jax.data import label_noise
from emosynth_jax.data.augmentation import augment
from emosynth_jax.data.dataset import subset
from emosynth_jax.training import named_parts
from emosynth_jax.utils import own_code
from experiments.lib import (
  ablation,
  ablation_grids,
  ablation_members,
  ablation_records,
)
from experiments.lib.ablation_members import Formula, Member

# Maximum shift of the training images by default, as a fraction of their side.
SHIFT = 0.08
_EVAL_BATCH_SIZE = 512
# FER-2013 and others without a validation split of their own: drawn once, for all.
_VALIDATION_FRACTION, _DATA_SEED = 0.1, 0


class DataSource(NamedTuple):
  """A data set's training and validation images, in plain values.

  Attributes:
    name: as `data.load_splits` takes it; the user's own with an absolute path.
    data_dir: its folder.
    options: keyword arguments of its loader.
    train_images: maximum number of training images, stratified by class.
    validation_images: likewise of the validation split.
    side: of the images, in pixels; 0 leaves them as they are.
    noise: of the training labels, see `with_noise`.
  """

  name: str
  data_dir: str
  options: dict[str, Any]
  train_images: int
  validation_images: int
  side: int
  noise: str = ""


class Program(NamedTuple):
  """Plain values that all members of one compiled program share.

  Attributes:
    source: the images.
    model: the network's arguments, its name under "name".
    settings: those whose formulas the program has; see `ablation_members.expand_grid`.
    epochs: passes over the training images.
    batch_size: N.
    flip: whether images are mirrored with probability 0.5.
    mapping: one of `ablation.MAPPINGS`.
    validates_each_epoch: whether members are evaluated after each epoch.
    keeps_weights: whether the results have the members' variables.
    shift: maximum shift of an image, as a fraction of its side.
  """

  source: DataSource
  model: dict[str, Any]
  settings: list[dict[str, Any]]
  epochs: int
  batch_size: int
  flip: bool
  mapping: str
  validates_each_epoch: bool = False
  keeps_weights: bool = False
  shift: float = SHIFT


class Group(NamedTuple):
  """Members that are trained by one call of a program.

  Attributes:
    program: what they have in common.
    members: the trainings.
    size: members of the program's every call, which an incomplete group is padded to.
  """

  program: Program
  members: list[Member]
  size: int


class Trained(NamedTuple):
  """The result of one member.

  Attributes:
    record: its metrics by name, JSON values; see `ablation_records.metrics_of`.
    variables: "params" and "batch_stats" as NumPy arrays; None if they are not kept.
  """

  record: dict[str, Any]
  variables: dict[str, Any] | None


def split_members(
  program: Program, members: Sequence[Member], *, members_per_call: int = 0
) -> list[Group]:
  """Splits members into groups.

  Args:
    program: of all of them.
    members: the trainings.
    members_per_call: of a group, rounded down to a multiple of the devices with the
      mapping "devices"; 0 for one a device.

  Returns:
    The groups, in the order of the members.
  """
  devices = jax.device_count() if program.mapping == "devices" else 1
  size = max(members_per_call or devices, devices) // devices * devices
  return [
    Group(program, list(members[first : first + size]), size)
    for first in range(0, len(members), size)
  ]


def run_group(group: Group) -> list[Trained]:
  """Trains the members of a group.

  Args:
    group: the description; nothing else determines the results.

  Returns:
    One result for each member, in their order.

  Raises:
    FileNotFoundError, ValueError: as `data.load_splits`, or for the user's own code.
  """
  train_all, class_names = _compile_program(_key(group.program))
  members = group.members
  # The last group of a program is padded with its last member; with the mapping
  # "devices" all are, if this process has more devices.
  devices = jax.device_count() if group.program.mapping == "devices" else 1
  size = -(-max(group.size, len(members)) // devices) * devices
  padded = [*members, *[members[-1]] * (size - len(members))]

  began = time.monotonic()
  out = jax.device_get(train_all(padded))
  seconds = round((time.monotonic() - began) / len(padded), 2)

  results = []
  for i in range(len(members)):
    own = jax.tree.map(lambda leaf, i=i: leaf[i], out)
    variables = own.pop("variables", None)
    record = ablation_records.metrics_of(own, class_names) | {"seconds": seconds}
    results.append(Trained(record, variables))
  return results


def _key(description: Program | DataSource) -> str:
  """A description in JSON, and the versions of the user's own code in it."""
  if isinstance(description, Program):
    names = [description.source.name, description.model["name"]]
    names += [value for setting in description.settings for value in setting.values()]
  else:
    names = [description.name]
  versions = sorted(
    {ablation_grids.describe_name(n) for n in names if own_code.is_own(n)}
  )
  return json.dumps([description, versions])


@functools.lru_cache(maxsize=4)
def _compile_program(
  key: str,
) -> tuple[Callable[[list[Member]], dict[str, Any]], tuple[str, ...]]:
  """The compiled program of members, and the names of the classes.

  Args:
    key: of a `Program`.
  """
  source, *others = json.loads(key)[0]
  program = Program(DataSource(*source), *others)
  training, validation = load_arrays(program.source)
  num_classes = len(training.class_names)
  formulas = formulas_of(program.settings)
  steps = len(training) // program.batch_size * program.epochs
  train_all = ablation.compile_members(
    program.mapping,
    formulas,
    model=build_network(program.model, training),
    build_optimizer=lambda rate: optax.adam(optax.cosine_decay_schedule(rate, steps)),
    augment=functools.partial(augment.augment, shift=program.shift, flip=program.flip),
    num_classes=num_classes,
    num_epochs=program.epochs,
    batch_size=program.batch_size,
    eval_batch_size=_EVAL_BATCH_SIZE,
    validates_each_epoch=program.validates_each_epoch,
    returns_variables=program.keeps_weights,
  )
  parts = [training, validation]
  if training.clean_labels is not None:
    wrong = np.flatnonzero(training.labels != training.clean_labels)
    if len(wrong):
      parts.append(training.take(wrong))
  arrays = [(jnp.asarray(part.images), jnp.asarray(part.labels)) for part in parts]
  return (
    lambda members: train_all(
      ablation_members.stack_members(members, formulas), *arrays
    ),
    training.class_names,
  )


def formulas_of(settings: Iterable[dict[str, Any]]) -> list[Formula]:
  """The formulas of settings, each once, in their order."""
  return list(dict.fromkeys(ablation_members.formula_of(s)[0] for s in settings))


def load_arrays(source: DataSource) -> tuple[data.Dataset, data.Dataset]:
  """Loads the training and the validation images.

  Args:
    source: the data set.

  Returns:
    `(training, validation)`, images of `source.side`.

  Raises:
    FileNotFoundError, ValueError: as `data.load_splits`; ValueError for class
      probabilities, of which the members would learn the largest alone.
  """
  # All noises are of one reading.
  training, validation = _load_arrays(_key(source._replace(noise="")))
  return with_noise(training, source.noise), validation


@functools.lru_cache(maxsize=2)
def _load_arrays(key: str) -> tuple[data.Dataset, data.Dataset]:
  source = DataSource(*json.loads(key)[0])
  loaded = data.load_splits(
    source.name,
    source.data_dir,
    ("train", "validation"),
    validation_fraction=_VALIDATION_FRACTION,
    seed=_DATA_SEED,
    **_tuples(source.options),
  )
  if loaded["train"].soft_labels is not None:
    raise ValueError(
      f"--data_option: {source.name} with {source.options} has class probabilities, "
      "and an ablation trains with classes, as labels=majority"
    )
  limits = {"train": source.train_images, "validation": source.validation_images}
  training, validation = (
    _resize(subset(loaded[split], limit, _DATA_SEED), source.side)
    for split, limit in limits.items()
  )
  return training, validation


def label_noise_of(noise: str) -> dict[str, Any]:
  """Parses label noise to the settings of `config.data.label_noise`.

  Args:
    noise: "" for none; the share of labels that become another class, as "0.4"; or
      shares of single classes, as "7:1:0.4+2:7:0.4".

  Returns:
    "rate", "confusion" and "seed".

  Raises:
    ValueError: for a number in another form.
  """
  is_by_class = ":" in noise
  return {
    "rate": 0.0 if is_by_class else float(noise or 0),
    "confusion": tuple(noise.split("+")) if is_by_class else (),
    "seed": _DATA_SEED,
  }


def canonical_noise(noise: str) -> str:
  """One text for all spellings of a label noise, "" for none, see `label_noise_of`."""
  if ":" in noise:
    parts = ([*map(str.strip, part.split(":"))] for part in noise.split("+"))
    return "+".join(sorted(":".join([*of, _share(last)]) for *of, last in parts))
  share = _share(noise)
  return "" if share == "0" else share


def _share(text: str) -> str:
  """One text for all spellings of a number; text that is none stays, to be refused."""
  try:
    return f"{float(text) or 0:g}"  # Not -0.
  except ValueError:
    return text


def with_noise(training: data.Dataset, noise: str) -> data.Dataset:
  """Changes labels of the training images, the same ones for every member.

  Args:
    training: the images.
    noise: as for `label_noise_of`.

  Returns:
    The images with changed labels.

  Raises:
    ValueError: for other text, an unknown class, shares that are too large or change no
      label, or images that are trained on class probabilities.
  """
  if not noise:
    return training
  try:
    settings = label_noise_of(noise)
    seed = settings.pop("seed")
    matrix = label_noise.transition_matrix(training.class_names, **settings)
    noisy = label_noise.add_label_noise(training, matrix, seed)
    if (noisy.labels == training.labels).all():
      raise ValueError(f"it changes none of {len(training):,} labels")
  except ValueError as error:
    raise ValueError(
      "--label_noise: expected a share as 0.4, or FROM:TO:SHARE joined by +, got "
      f"{noise!r} ({error})"
    ) from None
  return noisy


def _resize(dataset: data.Dataset, side: int) -> data.Dataset:
  if not side or dataset.images.shape[1:3] == (side, side):
    return dataset
  images = np.stack(
    [
      cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
      for image in dataset.images
    ]
  )
  # OpenCV leaves out an axis of one channel.
  images = images.reshape(*images.shape[:3], -1)
  return dataclasses.replace(dataset, images=images)


def build_network(arguments: dict[str, Any], training: data.Dataset) -> nn.Module:
  """Builds the network for a data set.

  Args:
    arguments: `Program.model`.
    training: the training images.

  Returns:
    The module.

  Raises:
    ValueError: for an unknown name or argument, or a network of the user's that does
      not return what a network does.
  """
  name, num_classes = arguments["name"], len(training.class_names)
  model = _build(arguments, num_classes)
  if own_code.is_own(name):
    height, width, channels = training.images.shape[1:]
    named_parts.check_network(model, name, (height, width, channels), num_classes)
  return model


def check_network(arguments: dict[str, Any]) -> None:
  """Checks a network's name and arguments, before any data is read.

  Args:
    arguments: `Program.model`.

  Raises:
    FileNotFoundError, ValueError: as `build_network`.
  """
  _build(arguments, num_classes=2)


def _build(arguments: dict[str, Any], num_classes: int) -> nn.Module:
  others = _tuples(arguments)
  network = named_parts.resolve_model(others.pop("name"))
  return models.build_model(network, num_classes=num_classes, **others)


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
  """Arguments whose lists, as JSON has them, are tuples again."""
  return {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
