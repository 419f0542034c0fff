"""Benchmark of loss landscape and curvature map, with a PyTorch loop as reference.

  python -m benchmarks.landscape                        # minutes on two free cores
  python -m benchmarks.landscape --points=2601 --curvature_points=441    # both in full

The JAX program is that of `emosynth_jax.analysis`: one compiled map over the points.
PyTorch's is as in landscape tools: for each point set the weights and evaluate the
fixed images; for each Hessian-vector product differentiate twice. Weights, directions,
points and images are the same for both, and their losses and products are compared
before timing. Both run alternately on some grid points; the time of the whole grid is
extrapolated from the time per point, as every point costs the same. The curvature
has a fixed number of products per point.

Images and weights are random: no data set is read. Without torch
(`pip install -e '.[benchmark]'`) only the JAX half is printed.
"""

import functools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from jax.flatten_util import ravel_pytree

from benchmarks import cases, measure, throughput
from benchmarks.landscape_problem import Problem
from emosynth_jax.analysis import directions
from emosynth_jax.analysis.curvature import hessian
from emosynth_jax.analysis.loss_landscape import surface
from emosynth_jax.parallel import batched_map
from emosynth_jax.utils import cli, errors, text_table
from emosynth_jax.workdir import provenance

LANDSCAPE, CURVATURE = "landscape", "curvature map"


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_string("data", "fer2013", "Data set whose image shape is used.")
  flags.DEFINE_string("width", "small", "Width of the network.")
  flags.DEFINE_integer("grid", 51, "Points per side of the landscape.", 1)
  flags.DEFINE_integer("images", 256, "Images per point of the landscape.", 1)
  flags.DEFINE_integer("points", 8, "Number of timed points of the landscape.", 1)
  flags.DEFINE_integer("curvature_grid", 21, "Points per side of the curvature map.", 1)
  flags.DEFINE_integer(
    "curvature_images", 64, "Images per point of the curvature map.", 1
  )
  flags.DEFINE_integer(
    "curvature_points", 1, "Number of timed points of the curvature map.", 1
  )
  flags.DEFINE_integer("steps", 10, "Number of Hessian-vector products per point.", 1)
  flags.DEFINE_integer("batch_size", 64, "Batch size in images.", 1)
  flags.DEFINE_list(
    "forms", ["eager", "channels_last"], "PyTorch forms to time; empty for none."
  )
  flags.DEFINE_integer("rounds", 3, "Number of timed calls of each candidate.", 1)


def landscape(problem: Problem) -> Callable[[], np.ndarray]:
  """JAX losses at the points, as one program."""
  program = batched_map.compile_map(surface.at_point(problem.measure))
  shared = jax.device_put(
    (problem.params, problem.directions, problem.constants, problem.batches)
  )
  points = jax.device_put(problem.points)
  return lambda: np.asarray(program(points, *shared)["loss"])


def curvature(problem: Problem, steps: int) -> Callable[[], Any]:
  """JAX Lanczos at the points, all steps, with full reorthogonalization."""
  total = sum(x.size for x in jax.tree.leaves(problem.params))
  probe = jax.random.normal(jax.random.key(1), (total,))
  # No residual is below 0: every point has all the products.
  program = batched_map.compile_map(hessian.at_point(problem.measure, steps, 0.0))
  shared = jax.device_put(
    (problem.params, problem.directions, problem.constants, problem.batches, probe)
  )
  return measure.blocking(program, jax.device_put(problem.points), *shared)


def product(problem: Problem, vector: Any) -> np.ndarray:
  """JAX Hessian-vector product at the first point.

  Args:
    problem: the network, points and images.
    vector: a tree as the parameters.

  Returns:
    Its norm and its inner product with the vector.
  """

  def loss_fn(params, batch):
    return problem.measure(params, problem.constants, batch)["loss"]

  compute = jax.jit(functools.partial(hessian.hessian_vector_product, loss_fn))
  moved = directions.move(problem.params, problem.directions, problem.points[0])
  found = compute(moved, problem.batches, vector)
  flat, own = (np.asarray(ravel_pytree(x)[0], np.float64) for x in (found, vector))
  return np.array([np.linalg.norm(flat), flat @ own])


def check(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> str:
  """Checks that two programs compute the same before timing.

  Args:
    name: name of the compared value.
    ours: values in JAX.
    theirs: values in PyTorch.
    tolerance: tolerance of the relative difference.

  Returns:
    The largest relative difference, as text.

  Raises:
    ValueError: if they differ by more than rounding explains.
  """
  error = float(np.max(np.abs(ours - theirs) / np.abs(ours)))
  if not error < tolerance:
    raise ValueError(f"{name}: {ours} here, {theirs} in PyTorch")
  found = f"{name}: relative difference from PyTorch's {error:.1e}"
  logging.info("%s", found)
  return found


def candidates(
  task: str, problem: Problem, steps: int, forms: list[str]
) -> tuple[dict[str, Callable[[], Any]], list[str]]:
  """Runs the JAX and PyTorch programs once, and compares their results."""
  ours = landscape(problem) if task == LANDSCAPE else curvature(problem, steps)
  first = ours()
  found: dict[str, Callable[[], Any]] = {"ours": ours}
  compared: list[str] = []
  if forms:
    from benchmarks import landscape_torch

  for form in forms:
    other = landscape_torch.InTorch(problem, form)
    if task == LANDSCAPE:
      compared.append(check(f"losses, {form}", first, other.landscape(), 1e-3))
      found[f"torch, {form}"] = other.landscape
      continue
    vector = jax.tree.map(lambda d: d[0], problem.directions)
    compared.append(
      check(
        f"Hessian's product, {form}",
        product(problem, vector),
        other.first_product(vector),
        1e-2,
      )
    )
    other.curvature(1)
    found[f"torch, {form}"] = functools.partial(other.curvature, steps)
  return found, compared


def rows_of(
  task: str,
  seconds: Mapping[str, list[float]],
  points: int,
  grid: int,
) -> list[list[str]]:
  """Lines of the table: seconds per point and for the grid, and the ratio."""
  return [
    [
      f"{task} {grid}x{grid}",
      name,
      f"{statistics.median(taken) / points:.3f}",
      f"{statistics.median(taken) / points * grid**2:.0f}",
      f"{measure.ratio(seconds['ours'], taken):.2f}",
      f"{points} of {grid**2}",
    ]
    for name, taken in seconds.items()
  ]


def print_table(args: Any) -> None:
  """Prints the table."""
  errors.check_choice("--data", args.data, cases.DATA_SETS)
  errors.check_choice("--width", args.width, cases.WIDTHS)
  case = cases.Case(args.data, args.width, args.batch_size)
  forms = [form for form in args.forms if form]
  errors.check_choices("--forms", forms, ("eager", "channels_last"))
  if forms and throughput.load_torch() is None:
    logging.info("torch is not installed: only JAX is timed.")
    forms = []
  rows, compared = [], []
  for task, images, points, grid in (
    (LANDSCAPE, args.images, args.points, args.grid),
    (
      CURVATURE,
      args.curvature_images,
      args.curvature_points,
      args.curvature_grid,
    ),
  ):
    problem = Problem(case, images, points)
    found, differences = candidates(task, problem, args.steps, forms)
    compared += differences
    logging.info("%s: timing", task)
    own = rows_of(task, measure.alternate(found, args.rounds), points, grid)
    for row in own:  # Printed now, as the next task takes long.
      logging.info("%s", "  ".join(row))
    rows += own
  made = provenance.provenance()
  print(f"{made['hardware']}; commit {made['commit']}; {case}")
  print(
    f"{args.images} images per point; curvature: {args.curvature_images} images, "
    f"{args.steps} products per point; medians of {args.rounds} rounds"
  )
  for line in compared:
    print(line)
  header = ("task", "program", "s/point", "s/grid", "ratio", "points timed")
  print("\n".join(text_table.align([header, *rows])))


if __name__ == "__main__":
  cli.run(define_flags, print_table)
