"""Shared command-line code of the analyses: flags, errors, files of a workdir."""

import functools
import pathlib
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging

from emosynth_jax.analysis import directions, result_cache, trained_run
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli, errors, progress
from emosynth_jax.workdir import provenance

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()


def define_split(default: str) -> None:
  """Defines --split and --data_dir of a command that evaluates a trained network."""
  flags.DEFINE_enum(
    "split", default, ["train", "validation", "test"], "Split of the images."
  )
  cli.define_data_dir()


def define_flags(*, split: str, images: int, batch_size: int) -> None:
  """Defines the common flags of the commands that evaluate around a trained network.

  Args:
    split: default of --split.
    images: default of --images.
    batch_size: default of --batch_size.
  """
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.", required=True)
  flags.DEFINE_list(
    "compare",
    [],
    "Workdirs of further runs, drawn in one plot with common images, directions and "
    "levels.",
  )
  define_split(split)
  flags.DEFINE_integer("images", images, "Maximum number of images of the split.", 1)
  flags.DEFINE_integer(
    "batch_size",
    batch_size,
    "Batch size in images; with --batch_norm=batch also the batch of BatchNorm's "
    "statistics.",
    1,
  )
  flags.DEFINE_float(
    "range",
    1.0,
    "Largest coordinate along each direction: coordinates span -range to range.",
  )
  flags.DEFINE_integer("seed", 0, "Seed of the random directions and probes.", 0)
  flags.DEFINE_string(
    "directions",
    None,
    "File ..._directions.npz of directions to use instead of random ones.",
  )
  flags.DEFINE_enum(
    "batch_norm",
    "running",
    ["running", "batch"],
    "running: BatchNorm uses its running statistics, as in every evaluation. batch: "
    "it uses those of each batch of images, recomputed at every point.",
  )
  flags.DEFINE_enum(
    "vectors",
    "fixed",
    ["fixed", "normalized"],
    "Biases and BatchNorm's parameters: fixed as in the paper, or perturbed as well.",
  )
  flags.DEFINE_enum(
    "mapping",
    "map",
    ["map", "devices"],
    "map: one point after the other. devices: points are distributed over all "
    "devices, on a CPU over its cores.",
  )


def run(
  define_flags: Callable[[], None], action: Callable[[Any], object], **app_options: Any
) -> None:
  """Runs a command as `utils.cli.run` does, in full precision.

  Args:
    define_flags: defines the command's own flags.
    action: takes the flags.
    **app_options: further arguments of `absl.app.run`.
  """
  precise = functools.partial(call_precisely, action)
  cli.run(define_flags, precise, **app_options)


def call_precisely(action: Callable[[Any], object], args: Any) -> None:
  """Calls a command's action with matrix products in full precision.

  Args:
    action: takes the flags.
    args: the flags.
  """
  # Not every command has --mapping.
  if getattr(args, "mapping", "map") == "devices":
    # Before the backend starts; of no effect on accelerators.
    cpu_devices.split_cores()

  # Reduced-precision matrix products on a GPU would appear as curvature.
  jax.config.update("jax_default_matmul_precision", "highest")
  action(args)


def refuse_idle(args: Any, names: Sequence[str], beside: str) -> None:
  """Rejects flags that were given but have no effect.

  Args:
    args: the flags.
    names: names of the flags without effect.
    beside: the setting that makes them ineffective.

  Raises:
    ValueError: if one was given.
  """
  if not isinstance(args, flags.FlagValues):
    return
  if idle := [name for name in names if args[name].present]:
    raise ValueError(f"--{idle[0]} has no effect with {beside}: omit it")


def computed_in() -> dict[str, str]:
  """Numerical precision of the analyses, for a record: computation and products."""
  precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
  return {"dtype": "float32", "matmul_precision": precision or "default"}


def plane_settings(args: Any) -> dict[str, Any]:
  """The settings that identify the plane and its position."""
  settings = {
    "grid": args.grid,
    "range": args.range,
    "seed": args.seed,
    "vectors": args.vectors,
  }

  if args.directions:
    # By content: a file of this name may become another one.
    content = pathlib.Path(args.directions)
    if not content.is_file():
      raise FileNotFoundError(f"directions: {content} does not exist")
    settings["directions_crc32"] = zlib.crc32(content.read_bytes())

  return settings


def directions_for(params: Any, args: Any, count: int) -> tuple[Any, Any]:
  """Draws or reads the directions that the flags specify.

  Args:
    params: the network's parameters.
    args: the flags.
    count: number of directions.

  Returns:
    The filter-normalized directions, and the unnormalized ones, which fit other
    networks.
  """

  if args.directions:
    raw = directions.load_directions(args.directions, params, count)
  else:
    raw = directions.draw_directions(jax.random.key(args.seed), params, count)
  return directions.normalize_directions(raw, params, vectors=args.vectors), raw


def load_runs(workdirs: Sequence[str], args: Any, *, count: int) -> list[Any]:
  """Reads all runs of a command and checks that they can be compared.

  This is done before any computation, since a plane takes minutes.

  Args:
    workdirs: the runs' folders.
    args: the flags.
    count: how many directions a file of --directions must have for each; 0 without.

  Returns:
    A `trained_run.TrainedRun` each.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `trained_run.load_run` and
      `directions.load_directions`; ValueError for other images than the first's, or a
      folder that is given twice.
  """
  errors.refuse_twice(workdirs, "compare")
  runs = [
    trained_run.load_run(
      workdir,
      split=args.split,
      num_images=args.images,
      batch_size=args.batch_size,
      batch_norm=args.batch_norm,
      data_dir=args.data_dir,
    )
    for workdir in workdirs
  ]
  check_same_images([run.facts for run in runs], "compare")
  if args.directions and count:
    for run in runs:
      directions.load_directions(args.directions, run.params, count)
  return runs


def read_or_compute(
  run: Any,
  *,
  file: str,
  settings: Mapping[str, Any],
  compute: Callable[..., tuple[Any, ...]],
  total: int,
  unit: str = "point",
  passes: Callable[[], float] = lambda: 1.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a result of the same settings from a workdir, or computes and writes it.

  Args:
    run: the `trained_run.TrainedRun`.
    file: name of the result's files, without ending.
    settings: those beside the run's own.
    compute: takes a function that is called with the number of units done; returns the
      result's record and arrays, and the directions where there are any.
    total: number of units.
    unit: what they are called.
    passes: over the images, for each unit so far.

  Returns:
    The record and the arrays.
  """
  workdir, settings = run.facts["workdir"], run.facts | settings
  stem = pathlib.Path(workdir) / file
  if stored := result_cache.read(stem, settings):
    logging.info("%s has a result of these settings, which is reused.", workdir)
    return stored

  began = time.monotonic()
  bar = progress.Progress(first=0, total=total)
  record, arrays, *raw = compute(
    lambda done: bar.update(
      done,
      f"{workdir}: {unit} {done}/{total}",
      images_per_unit=round(run.facts["num_images"] * passes()),
    )
  )
  record = {
    "settings": settings,
    "name": run.name,
    "num_classes": run.num_classes,
    **record,
    "seconds": round(time.monotonic() - began, 1),
    "computed_in": computed_in(),
    "computed_by": provenance.provenance(),
  }
  result_cache.write(stem, record, arrays, *raw)
  return record, arrays


def check_same_images(settings: Sequence[Mapping[str, Any]], flag: str) -> None:
  """Checks that compared runs were evaluated on the same images and labels.

  Args:
    settings: of each run, with "workdir", "split" and the checksums of both.
    flag: the flag that names the runs, for the message.

  Raises:
    ValueError: if the images or labels of one are not those of the first.
  """
  for other in settings[1:]:
    for what in ("images", "labels"):
      if other[f"{what}_crc32"] != settings[0][f"{what}_crc32"]:
        raise ValueError(
          f"--{flag}: {other['workdir']} has different {what} in its "
          f"{other['split']} split than {settings[0]['workdir']}, so that nothing can "
          "be compared"
        )
