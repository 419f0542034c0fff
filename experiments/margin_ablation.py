"""Ablation over losses, margins, scales and seeds, against cross-entropy.

  python -m experiments.margin_ablation --data=synthetic_faces --grid=angular
  python -m experiments.margin_ablation --data=fer2013 --grid=thesis --seeds=0,1,2
  python -m experiments.margin_ablation --grid=mine \\
      --margins=my_margin.py:gap,my_margin.py:spread --vary=factor=0.3,0.5

Every member is a network trained on a part of the training split and evaluated, after
its last epoch, on validation images (the data set's own, or held out of train). No test
image is read. Members of one seed are paired: they have the same initialization,
batches and augmentation. The table has every member of the workdir. Rerun the same
command to resume.

A margin formula of one's own is a function of logits (N, K) that returns margins (N,);
arguments with a default are settings, which --vary tries:

  import jax

  def gap(logits, factor=0.5):
    top = jax.lax.top_k(logits, 2)[0]
    return jax.lax.stop_gradient(factor * (top[:, 0] - top[:, 1]))
"""

import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from absl import flags, logging

from emosynth_jax import data
from emosynth_jax.config import recipes
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli, files, own_code, progress
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance
from emosynth_jax.workdir import record as run_record
from experiments.lib import (
  ablation,
  ablation_engines,
  ablation_grids,
  ablation_groups,
  ablation_members,
  ablation_records,
  ablation_report,
  ablation_weights,
  engines,
)
from experiments.lib.ablation_groups import DataSource, Group, Program, Trained
from experiments.lib.ablation_members import Member


def run_ablation(
  programs: list[Program],
  learning_rates: list[float],
  workdir: pathlib.Path,
  *,
  seeds: int,
  members_per_call: int = 0,
  options: engines.Options = engines.LOCAL,
) -> list[dict[str, Any]]:
  """Trains the missing members of a folder.

  Args:
    programs: of one data set and network; each trains its settings.
    learning_rates: of the first step, each with each setting.
    workdir: folder of results.jsonl, with one line per member.
    seeds: number of seeds, counted from 0.
    members_per_call: members of one group, see --members_per_call.
    options: where the groups are trained, and which of the members.

  Returns:
    One record per member of the folder, those of other commands included.
  """
  path = ablation_records.file_of(workdir, options.shard)
  done = _read_done(workdir, path)
  groups: list[Group] = []
  for program in programs:
    # Ordered by setting first: settings are complete if the run is interrupted.
    members = [
      Member(setting, seed, rate)
      for rate in learning_rates
      for setting in program.settings
      for seed in range(seeds)
    ]
    todo = [
      member
      for member in engines.select_shard(members, options)
      if not _is_done(done.get(_key(program, member)), program, workdir)
    ]
    groups += ablation_groups.split_members(
      program, todo, members_per_call=members_per_call
    )

  _train_groups(groups, path, options)
  settings = [s for program in programs for s in program.settings]
  return ablation_records.read_folder(workdir, _described(settings))


def _described(settings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  return [ablation_grids.describe(setting) for setting in settings]


def _train_groups(
  groups: list[Group], path: pathlib.Path, options: engines.Options
) -> None:
  """Trains groups, and writes their weights and records as they are done."""
  commit = provenance.provenance()["commit"]
  total, done = sum(len(group.members) for group in groups), 0
  line = progress.Progress(first=0, total=total)
  for group, results in ablation_engines.train_groups(groups, options):
    records = [
      identity | result.record | {"commit": commit}
      for identity, result in _with_weights(group, results, path.parent)
    ]
    _append(path, records)
    training, _ = ablation_groups.load_arrays(group.program.source)
    done += len(results)
    line.update(
      done,
      f"member {done}/{total}, {ablation_report.label(records[-1]['setting'])}",
      images_per_unit=len(training) * group.program.epochs,
    )


def _with_weights(
  group: Group, results: list[Trained], workdir: pathlib.Path
) -> Iterator[tuple[dict[str, Any], Trained]]:
  """Each result with what identifies its member, after writing its weights."""
  for member, result in zip(group.members, results, strict=True):
    identity = _identity(group.program, member)
    if result.variables is not None:
      training, _ = ablation_groups.load_arrays(group.program.source)
      height, width, channels = training.images.shape[1:]
      file = ablation_weights.file_of(identity, group.program)
      ablation_weights.write(
        workdir / file,
        result.variables,
        group.program,
        member,
        class_names=training.class_names,
        image_shape=(height, width, channels),
      )
      identity["weights"] = file
    yield identity, result


def _is_done(
  record: dict[str, Any] | None, program: Program, workdir: pathlib.Path
) -> bool:
  """Returns whether a member has been trained, with all that the program keeps."""
  if record is None:
    return False
  if program.keeps_weights and not (workdir / record.get("weights", "-")).is_file():
    return False
  return not program.validates_each_epoch or "loss" in record.get("curves", ())


def _key(program: Program, member: Member) -> str:
  return ablation_records.key(_identity(program, member))


def _identity(program: Program, member: Member) -> dict[str, Any]:
  """Fields of a record that identify its member."""
  return {
    "setting": ablation_grids.describe(member.setting),
    "seed": member.seed,
    "epochs": program.epochs,
    "batch_size": program.batch_size,
    "learning_rate": member.learning_rate,
    # Not in the records of clean labels, which older ones are.
    **({"label_noise": program.source.noise} if program.source.noise else {}),
  }


def _read_done(workdir: pathlib.Path, path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The records of a folder, by key; `path` is the file that this process writes."""
  records = ablation_records.read_records(path)
  # Removes a truncated line, to which the next one would be appended.
  lines = "".join(json.dumps(record) + "\n" for record in records)
  files.write_atomically(path, lines.encode())
  return {ablation_records.key(r): r for r in ablation_records.read_folder(workdir)}


def _append(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
  """Appends records to results.jsonl, and waits until they are on the disk."""
  with files.writing(path), path.open("a") as file:
    for record in records:
      file.write(json.dumps(files.to_jsonable(record)) + "\n")
    file.flush()
    os.fsync(file.fileno())


class _ListParser(flags.ArgumentParser):
  """Parses numbers above 0, as "32,64"."""

  def __init__(self, kind: type[int] | type[float]):
    self._kind = kind
    self.syntactic_help = "numbers above 0, separated by commas"

  def parse(self, argument: Any) -> list[Any]:
    if isinstance(argument, list):
      return argument
    try:
      values = [self._kind(text) for text in str(argument).split(",")]
    except ValueError:
      values = []
    if not values or not all(0 < value < math.inf for value in values):
      kind = "whole numbers" if self._kind is int else "numbers"
      raise ValueError(f"expected {kind} above 0, separated by commas")
    return list(dict.fromkeys(values))


def _define_list(name: str, default: str, text: str, kind: Any) -> None:
  flags.DEFINE(
    _ListParser(kind), name, default, text, serializer=flags.CsvListSerializer(",")
  )


def define_flags() -> None:
  """Defines the command's flags; not at import."""
  _define_data_and_network()
  _define_losses()
  cli.define_seeds(5, "Seeds of each setting.", least=2)
  _define_list("epochs", "10", "Number of epochs; several are tried in turn.", int)
  _define_list("batch_size", "64", "Batch size; several are tried in turn.", int)
  _define_list(
    "learning_rate",
    "4e-3",
    "Initial learning rate of Adam, with cosine decay to 0; several are tried.",
    float,
  )
  flags.DEFINE_list(
    "label_noise",
    ["0"],
    "Label noise of the training images: the share of labels that becomes another "
    "class, or shares of single classes as FROM:TO:SHARE, joined by +; several are "
    "tried in turn, as 0,0.2,0.4,7:1:0.4+2:7:0.4. Validation labels stay.",
  )
  flags.DEFINE_integer(
    "train_images", 4000, "Number of training images, stratified by class.", 64
  )
  flags.DEFINE_integer(
    "validation_images", 3000, "Number of validation images, stratified by class.", 1
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
  flags.DEFINE_bool(
    "validation_curves",
    False,
    "Evaluate on the validation images after each epoch, for curves.csv.",
  )
  flags.DEFINE_bool(
    "keep_weights",
    False,
    "Write each member's weights into WORKDIR/weights: as a bundle, which "
    "emosynth_jax.predict takes as --bundle; of a network of the user's own as .npz.",
  )
  flags.DEFINE_string(
    "workdir", None, "Output folder. By default runs/margin_ablation-DATA-GRID."
  )
  engines.define_flags("member")


def _define_data_and_network() -> None:
  flags.DEFINE_string(
    "data",
    "mnist",
    f"Data set: {', '.join(data.LOADERS)}, or the user's own as file.py:function. "
    "synthetic_faces is drawn, the others are read.",
  )
  flags.DEFINE_string(
    "data_dir", None, "Data set directory; by default that of the data set's config."
  )
  flags.DEFINE_multi_string(
    "data_option",
    [],
    "Option of the data set, as image_size=48; can be repeated.",
  )
  flags.DEFINE_string(
    "model",
    "fer_vgg",
    "Network, by name, or the user's own as file.py:class. fer_vgg has dense layers "
    "of 64 and no dropout here.",
  )
  flags.DEFINE_float(
    "width",
    None,
    "Width multiplier of the network; 0.125 for fer_vgg by default.",
    0.01,
  )
  flags.DEFINE_multi_string(
    "model_option",
    [],
    "Argument of the network, as features=32; can be repeated.",
  )
  flags.DEFINE_integer(
    "side", 32, "Side of the images, in pixels; 0 leaves them as they are.", 0
  )
  flags.DEFINE_bool(
    "flip",
    None,
    "Mirror images with probability 0.5; by default where a mirrored image has the "
    "same label, which is not so for digits.",
  )

  flags.DEFINE_float(
    "shift",
    ablation_groups.SHIFT,
    "Maximum shift of an image at random, as a fraction of its side; 0: none.",
    0.0,
    0.5,
  )


def _define_losses() -> None:
  flags.DEFINE_enum(
    "grid", "thesis", sorted(ablation_grids.GRIDS), "Grid of losses to train."
  )
  flags.DEFINE_list(
    "margins",
    [],
    "Margin formulas as file.py:function, added to the grid under mam_softmax; their "
    "own arguments and kappa are tried at the values of --vary.",
  )
  flags.DEFINE_list(
    "losses", [], "Losses by name or as file.py:function, added to the grid."
  )
  flags.DEFINE_multi_string(
    "vary",
    [],
    "Values of an argument of --margins and --losses, as factor=0.3,0.5; can be "
    "repeated. kappa is 0.5, 1 and 2 by default.",
  )
  flags.DEFINE_string(
    "margin_file",
    None,
    "File with a function margin(logits): --margins=FILE:margin.",
  )


def run(args: Any) -> None:
  """Trains the missing members, and writes the table and the plot."""
  options = engines.options_of(args)
  settings = _settings(args)
  short = _short_name(args.data)
  workdir = pathlib.Path(args.workdir or f"runs/margin_ablation-{short}-{args.grid}")
  if args.train:
    _train(args, settings, workdir, options)
    if options.shard:
      logging.info("The shard is finished; --notrain writes the table of all.")
      return

  records = ablation_records.read_folder(workdir, _described(settings))
  if not records:
    raise ValueError(f"--notrain: {workdir} has no finished members")
  protocol = read_json(workdir / "protocol.json")
  text = ablation_report.write(records, protocol, workdir)
  print(text)
  logging.info(
    "Wrote results.csv, curves.csv, table.txt, ablation.png and curves.png to %s.",
    workdir,
  )


def _split_cores(args: Any, options: engines.Options) -> None:
  """Makes a JAX device of each core, for --mapping=devices.

  Two concurrent small trainings are more efficient than one on both cores.
  """
  if args.mapping != "devices":
    return

  if options.engine == "local":
    cpu_devices.split_cores()
  else:
    # Groups are split for the workers.
    jax.config.update("jax_num_cpu_devices", options.num_cpus)


def _check_flags(args: Any) -> None:
  """Checks what needs no data; absl accepts NaN."""
  if args.width is not None and not 0 < args.width < math.inf:
    raise ValueError(f"--width: expected a number above 0, got {args.width}")
  if not math.isfinite(args.shift):
    raise ValueError(f"--shift: expected a number in [0, 0.5], got {args.shift}")
  if not args.label_noise or not all(map(str.strip, args.label_noise)):
    raise ValueError(
      f"--label_noise: expected shares or 0, got {','.join(args.label_noise)!r}"
    )


def _train(
  args: Any,
  settings: list[dict[str, Any]],
  workdir: pathlib.Path,
  options: engines.Options,
) -> None:
  """Checks the flags and trains the missing members."""
  _split_cores(args, options)
  _check_flags(args)
  source = _data_source(args)
  model = _network(args)
  training, validation = ablation_groups.load_arrays(source)
  ablation_groups.build_network(model, training)
  for setting in settings:
    ablation_members.check_values(setting, len(training.class_names))
  if len(training) < max(args.batch_size):
    raise ValueError(
      f"--batch_size: expected at most the {len(training):,} training images, got "
      f"{max(args.batch_size)}"
    )

  noises = dict.fromkeys(map(ablation_groups.canonical_noise, args.label_noise))
  for noise in noises:  # Each is refused before any is trained.
    ablation_groups.with_noise(training, noise)
  is_mirrored_same = data.find_loader(source.name).is_mirrored_same
  flip = is_mirrored_same if args.flip is None else args.flip
  programs = [
    Program(
      source._replace(noise=noise),
      model,
      settings,
      epochs,
      batch_size,
      flip,
      args.mapping,
      validates_each_epoch=args.validation_curves,
      keeps_weights=args.keep_weights,
      shift=args.shift,
    )
    for noise, epochs, batch_size in itertools.product(
      noises, args.epochs, args.batch_size
    )
  ]
  protocol = {
    "data_set": ablation_grids.describe_name(source.name),
    "num_classes": len(training.class_names),
    "train_images": len(training),
    "validation_images": len(validation),
    "network": _describe_network(model, training),
  }
  if source.options:
    protocol["data_options"] = source.options
  # Only where they differ from the defaults: folders of older runs have neither.
  if flip != is_mirrored_same:
    protocol["flip"] = flip
  if args.shift != ablation_groups.SHIFT:
    protocol["shift"] = args.shift

  workdir.mkdir(parents=True, exist_ok=True)
  ablation_records.keep_protocol(workdir / "protocol.json", protocol)
  # Jobs of several shards write to files of their own.
  locked = "shard-{}-of-{}".format(*options.shard) if options.shard else ""
  with run_record.only_training_in(workdir / locked):
    own = [source.name, model["name"], *(v for s in settings for v in s.values())]
    ablation_grids.keep_sources(workdir, own)
    run_ablation(
      programs,
      args.learning_rate,
      workdir,
      seeds=args.seeds,
      members_per_call=args.members_per_call,
      options=options,
    )


def _settings(args: Any) -> list[dict[str, Any]]:
  """The settings of the grid, --margins, --losses and --vary."""
  margins = list(args.margins)
  if args.margin_file:
    margins.append(f"{args.margin_file}:margin")
  if args.grid == "mine" and not (margins or args.losses):
    raise ValueError(
      "--grid=mine: requires --margins or --losses, which are added to cross-entropy"
    )
  axes = dict(ablation_grids.parse_axis(text) for text in args.vary)
  return ablation_members.expand_grid(
    [
      *ablation_grids.GRIDS[args.grid],
      *ablation_grids.entries(margins, args.losses, axes),
    ]
  )


def _data_source(args: Any) -> DataSource:
  data.find_loader(args.data)
  data_dir, options = args.data_dir or "data", {}
  if args.data in recipes.__all__:
    known = getattr(recipes, args.data)().data
    data_dir = args.data_dir or known.data_dir
    options = known.options.to_dict()
  options |= _options("--data_option", args.data_option)
  data.check_options(args.data, options)
  return DataSource(
    name=ablation_grids.absolute(args.data),
    # A worker of another engine may have another working directory.
    data_dir=str(pathlib.Path(data_dir).resolve()),
    options=options,
    train_images=args.train_images,
    validation_images=args.validation_images,
    side=args.side,
  )


def _network(args: Any) -> dict[str, Any]:
  model: dict[str, Any] = {"name": ablation_grids.absolute(args.model)}
  if args.model == "fer_vgg":
    model |= {"width": 0.125, "dense_features": (64,), "dropout_rate": 0.0}
  if args.width is not None:
    model["width"] = args.width
  model |= _options("--model_option", args.model_option)
  ablation_groups.check_network(model)
  return model


def _options(flag: str, texts: list[str]) -> dict[str, Any]:
  """Parses NAME=VALUE."""
  options = {}
  for text in texts:
    name, equals, value = text.partition("=")
    if not equals:
      raise ValueError(f"{flag}: expected NAME=VALUE, as image_size=48, got {text!r}")
    options[name.strip()] = cli.parse_value(value)
  return options


def _describe_network(model: dict[str, Any], training: data.Dataset) -> str:
  height, width = training.images.shape[1:3]
  arguments = dict(model)
  parts = [str(ablation_grids.describe_name(arguments.pop("name")))]
  if model["name"] == "fer_vgg":
    parts += [
      f"width {arguments.pop('width')}",
      f"dense {arguments.pop('dense_features')}",
    ]
    if not arguments["dropout_rate"]:
      arguments.pop("dropout_rate")
  parts += [f"{key} {value}" for key, value in sorted(arguments.items())]
  return ", ".join([*parts, f"input {height}x{width}"])


def _short_name(name: str) -> str:
  """A name that can be a folder's: of own code, the function's."""
  return name.rpartition(":")[2] if own_code.is_own(name) else name


if __name__ == "__main__":
  cli.run(define_flags, run)
