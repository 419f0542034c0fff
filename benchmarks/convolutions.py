"""Benchmark of convolution forms: XLA's and Winograd's.

  python -m benchmarks.convolutions            # EmoSynthNet's shapes, a minute or two
  python -m benchmarks.convolutions --batch=8

Values, and gradients with respect to the kernel, of stride-1 SAME convolutions in
float32, in turn: XLA's convolution, and Winograd's algorithm with each tile, with the
largest difference between the two. GFLOP/s count the multiply-adds of the direct form,
padding included, for all forms. The choice in
`emosynth_jax/models/ops/unit_stride.py` is based on these.
"""

import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import measure
from emosynth_jax.models.ops import unit_stride, winograd
from emosynth_jax.utils import cli, text_table
from emosynth_jax.workdir import provenance

# Kernel side, image side, input and output channels: EmoSynthNet's at 32x32.
SHAPES = (
  (3, 32, 64, 64),
  (3, 16, 128, 128),
  (3, 16, 192, 192),
  (3, 8, 256, 256),
  (3, 4, 512, 512),
  (5, 16, 96, 96),
)


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_integer("batch", 64, "Images.", 1)
  flags.DEFINE_integer("rounds", 5, "Number of timed calls of each form.", 1)


def forms(size: int, side: int) -> dict[str, dict[str, Any]]:
  """By "value" and "kernel's gradient": each form as a function of two arrays.

  Args:
    size: of the kernel.
    side: of an image.

  Returns:
    `(inputs, kernel) -> outputs` of the first, `(inputs, cotangent) -> gradient` of the
    second; "XLA" among them.
  """
  kernel_gradient = functools.partial(unit_stride.plain_kernel_gradient, size)
  values: dict[str, Any] = {"XLA": unit_stride.plain}
  gradients: dict[str, Any] = {"XLA": kernel_gradient}
  for tile, of_size in winograd.TILES:
    if of_size != size or (tile == 4 and side < 8):
      continue
    name = f"Winograd, tile {tile}"
    values[name] = functools.partial(winograd.convolve, tile=tile, pixels=4096)
    gradients[name] = functools.partial(
      winograd.kernel_gradient, size=size, tile=tile, pixels=2048
    )
  return {"value": values, "kernel's gradient": gradients}


def rows(batch: int, rounds: int) -> list[list[str]]:
  """The table's rows.

  Args:
    batch: images.
    rounds: timed calls of each form.
  """
  rng = np.random.default_rng(0)
  lines = []
  for size, side, channels, features in SHAPES:
    inputs, cotangent, kernel = (
      jnp.asarray(rng.normal(size=shape), jnp.float32)
      for shape in (
        (batch, side, side, channels),
        (batch, side, side, features),
        (size, size, channels, features),
      )
    )
    operations = 2 * batch * side**2 * size**2 * channels * features
    for part, candidates in forms(size, side).items():
      other = kernel if part == "value" else cotangent
      programs, answers = {}, {}
      for name, form in candidates.items():
        program = jax.jit(form)
        answers[name] = np.asarray(program(inputs, other))
        programs[name] = measure.blocking(program, inputs, other)
      seconds = measure.alternate(programs, rounds)
      exact = answers["XLA"]
      for name, times in seconds.items():
        difference = np.abs(answers[name] - exact).max() / np.abs(exact).max()
        lines.append(
          [
            f"{size}x{size}, {channels} to {features} channels at {side}, {part}: "
            f"{name}",
            f"{operations / statistics.median(times) / 1e9:.0f}",
            f"{operations / min(times) / 1e9:.0f}",
            f"{difference:.0e}" if name != "XLA" else "",
          ]
        )
  return lines


def print_table(args: Any) -> None:
  """Prints the table."""
  made = provenance.provenance()
  print(f"{made['hardware']}; JAX {made['packages']['jax']}")
  print(f"{made['date']}, commit {made['commit']}, {made['command']}")
  rate = measure.product_rate()
  print(f"the product of two 2048 x 2048 matrices: {rate / 1e9:.0f} GFLOP/s")
  header = ["GFLOP/s of the reference form", "median", "best", "difference"]
  print("\n".join(text_table.align([header, *rows(args.batch, args.rounds)])))


if __name__ == "__main__":
  cli.run(define_flags, print_table)
