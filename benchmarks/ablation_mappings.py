"""Benchmark of mappings over a grid's members: sequential, batched, one per device.

  python -m benchmarks.ablation_mappings

Trains the margin ablation's network on random images of its size, the same members by
each mapping, alternating, and prints medians and ratios. On a CPU each core is one
device.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from benchmarks import measure
from emosynth_jax import models
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli
from emosynth_jax.workdir import provenance
from experiments.lib import ablation, ablation_groups, ablation_members

_GRID: list[dict[str, Any]] = [
  {"loss": "cross_entropy"},
  {"loss": "arcface", "scale": 16.0, "margin": [0.1, 0.2]},
  {"loss": "mam_softmax", "kappa": 1.0},
  {"loss": "mam_softmax_class_ema", "kappa": 1.0},
  {"loss": "sce_loss"},
  {"loss": "sphereface", "margin": 2},
]


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_integer("members", 4, "Number of members per call.", 1)
  flags.DEFINE_integer("images", 1024, "Number of training images.", 64)
  flags.DEFINE_integer("side", 32, "Side of the images, in pixels.", 16)
  flags.DEFINE_float("width", 0.125, "Width multiplier of the network.", 0.01)
  flags.DEFINE_integer("rounds", 3, "Number of timed calls of each mapping.", 1)


def run(args: Any) -> None:
  """Prints the table."""
  cpu_devices.split_cores()
  rng = np.random.default_rng(0)
  shape = (args.images, args.side, args.side, 1)
  arrays = (
    jnp.asarray(rng.integers(0, 256, shape), jnp.uint8),
    jnp.asarray(rng.integers(0, 7, args.images), jnp.int32),
  )
  settings = ablation_members.expand_grid(_GRID)
  formulas = ablation_groups.formulas_of(settings)
  count = args.members // jax.device_count() * jax.device_count()
  if not count:
    cli.fail(f"--members: expected at least {jax.device_count()}, one per device")
  members = ablation_members.stack_members(
    [
      ablation_members.Member(settings[i % len(settings)], seed=i, learning_rate=1e-3)
      for i in range(count)
    ],
    formulas,
  )
  programs, compilation = {}, {}
  for mapping in ablation.MAPPINGS:
    program = ablation.compile_members(
      mapping,
      formulas,
      model=models.build_model(
        "fer_vgg",
        num_classes=7,
        width=args.width,
        dense_features=(64,),
        dropout_rate=0.0,
      ),
      build_optimizer=optax.adam,
      augment=lambda key, images: images.astype(jnp.float32),
      num_classes=7,
      num_epochs=1,
      batch_size=64,
      eval_batch_size=512,
    )
    programs[mapping] = measure.blocking(program, members, arrays, arrays)
    began = time.perf_counter()
    programs[mapping]()
    compilation[mapping] = time.perf_counter() - began
  times = measure.alternate(programs, args.rounds)
  best = min(statistics.median(t) for t in times.values())
  print(f"{provenance.provenance()['hardware']}; {jax.device_count()} JAX devices")
  print(f"{count} members, {args.images} images {args.side}x{args.side}, 1 epoch")
  print("mapping  seconds  images/s  ratio  first call, with compilation")
  for mapping, taken in times.items():
    median = statistics.median(taken)
    print(
      f"{mapping:7}  {median:7.2f}  {count * args.images / median:8.0f}  "
      f"{median / best:5.2f}  {compilation[mapping]:.1f} s"
    )


if __name__ == "__main__":
  cli.run(define_flags, run, compilation_cache=False)
