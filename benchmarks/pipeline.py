"""Benchmark of input pipelines: images on the device, in host memory, or on disk.

  python -m benchmarks.pipeline

Trains the same steps from a resident split, from host memory by Grain and from PNG
files by Grain, alternating, and prints medians and ratios. The network is small, so
that the pipeline is measurable: with a large one, reading is hidden behind the
computation. Each round begins an epoch, and a first call, in which Grain starts, is not
timed.
"""

import functools
import pathlib
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from PIL import Image

from emosynth_jax import data as loaders
from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import build, streaming
from emosynth_jax.training.programs import order_by_epoch
from emosynth_jax.training.train_step import (
  StepSetup,
  compile_train_on_batches,
  compile_train_steps,
)
from emosynth_jax.utils import cli
from emosynth_jax.workdir import provenance

_SIDE = 48
# Steps of one program, as in a training on a CPU.
_CALL = 5


def write_images(folder: pathlib.Path, number: int) -> None:
  """Random grayscale PNG files of two classes."""
  rng = np.random.default_rng(0)
  for k in range(number):
    path = folder / "train" / "ab"[k % 2] / f"{k:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (_SIDE, _SIDE), np.uint8)).save(path)


def print_table(args: Any) -> None:
  """Prints the table."""
  epoch = args.images // args.batch_size
  if args.steps % _CALL or args.steps + _CALL > epoch:
    raise ValueError(
      f"--steps: expected a multiple of {_CALL} of at most {epoch - _CALL}, as an "
      f"epoch of {args.images} images has {epoch} steps; got {args.steps}"
    )
  config = defaults.get_default_config()
  config.model = {
    "name": "fer_vgg",
    "width": args.width,
    "dense_features": (64,),
    "dropout_rate": 0.0,
    "norm_momentum": 0.9,
    "dtype": "float32",
  }
  config.augment.flip = True
  with tempfile.TemporaryDirectory() as folder:
    write_images(pathlib.Path(folder), args.images)
    lazy = loaders.load_splits(
      "image_folder",
      folder,
      ("train",),
      validation_fraction=0.0,
      seed=0,
      lazily=True,
      image_size=_SIDE,
      channels=1,
    )["train"]
    ways = _ways(config, lazy, args.batch_size)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name in list(ways) * (1 + args.rounds):
      times[name].append(ways[name](args.steps))
  made = provenance.provenance()
  print(f"{made['hardware']}; {jax.device_count()} JAX devices")
  print(f"{made['date']}, commit {made['commit']}, {made['command']}")
  print(f"batch {args.batch_size}, {_SIDE}x{_SIDE}x1, fer_vgg width {args.width}")
  print("images are          images/s  ratio")
  # The first round compiles.
  medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
  for name, median in medians.items():
    rate = args.steps * args.batch_size / median
    ratio = medians["on the device"] / median
    print(f"{name:18}  {rate:8.0f}  {ratio:5.2f}")


def _ways(config: Any, lazy: Dataset, batch_size: int) -> dict[str, Any]:
  """Functions of a number of steps to their time in seconds."""
  placement = build_placement()
  placement.check_batch_size(batch_size)
  built = build.build_experiment(config, image_shape=(_SIDE, _SIDE, 1), num_classes=2)
  shardings = placement.state(build.state_shapes(built))
  setup = StepSetup.of(built, class_weights=np.ones(2, np.float32))
  whole = lazy.in_memory()
  resident = compile_train_steps(
    setup, batch_size=batch_size, placement=placement, shardings=shardings
  )
  arrays = placement.put_split(whole.images, whole.labels)
  order = order_by_epoch(len(whole), batch_size, placement)
  batches = compile_train_on_batches(setup, placement=placement, shardings=shardings)
  streamed = functools.partial(
    streaming.StreamedSteps, batch_size=batch_size, placement=placement
  )
  takes = {
    "on the device": lambda state, num_steps: resident(
      state, *arrays, order(state), num_steps=num_steps
    ),
    "in host memory": streamed(whole, batches),
    "as PNG files": streamed(lazy, batches),
  }
  first = placement.put(build.create_state(built, 0), shardings)

  def seconds(take, steps):
    state = take(jax.tree.map(jnp.copy, first), num_steps=_CALL)
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(steps // _CALL):
      state = jax.block_until_ready(take(state, num_steps=_CALL))
    return time.perf_counter() - began

  return {name: functools.partial(seconds, take) for name, take in takes.items()}


def define_flags() -> None:
  """Defines the command's flags; not at import."""
  flags.DEFINE_integer("images", 4096, "Number of images of the split.", 64)
  flags.DEFINE_integer("batch_size", 64, "Batch size in images.", 1)
  flags.DEFINE_integer(
    "steps", 50, "Number of timed steps per round, a multiple of 5.", 5
  )
  flags.DEFINE_integer("rounds", 5, "Number of timed rounds.", 1)
  flags.DEFINE_float("width", 0.125, "Width multiplier of the network.", 0.01)


if __name__ == "__main__":
  cli.run(define_flags, print_table)
