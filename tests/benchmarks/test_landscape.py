"""The landscape benchmark: what it times, and what it makes of the seconds."""

import jax
import numpy as np
import pytest

from benchmarks import landscape, landscape_problem
from benchmarks.cases import Case
from emosynth_jax.analysis import directions

_CASE = Case("tiny", "tiny", 4)


def test_the_grids_time_is_a_points_times_their_number():
  seconds = {"ours": [2.0, 1.0, 3.0], "torch, eager": [8.0, 3.0, 6.0]}
  rows = landscape.rows_of("landscape", seconds, points=4, grid=51)
  # Medians of 2 and 6 seconds for 4 points; ratios of 4, 3 and 2 by round.
  assert rows == [
    ["landscape 51x51", "ours", "0.500", "1300", "1.00", "4 of 2601"],
    ["landscape 51x51", "torch, eager", "1.500", "3902", "3.00", "4 of 2601"],
  ]


@pytest.mark.slow
def test_the_losses_are_those_at_the_points():
  problem = landscape_problem.Problem(_CASE, images=8, points=2)
  found = landscape.landscape(problem)()
  moved = directions.move(problem.params, problem.directions, problem.points[1])
  # For two calls, optimization would take longer than what it saves.
  measure = jax.jit(
    problem.measure, compiler_options={"xla_backend_optimization_level": 0}
  )
  each = [
    float(measure(moved, problem.constants, (images, labels))["loss"])
    for images, labels in zip(*problem.batches, strict=True)
  ]
  assert len(each) == 2
  assert found.shape == (2,)
  assert found[1] == pytest.approx(np.mean(each), rel=1e-4)
  assert found[0] != found[1]


def test_part_of_a_batch_is_refused():
  with pytest.raises(ValueError, match="whole batches of 4, got 6"):
    landscape_problem.Problem(_CASE, images=6, points=1)


def test_programs_that_differ_are_not_timed():
  ours = np.array([1.0, 2.0])
  told = landscape.check("losses", ours, ours * [1, 1 + 2e-5], 1e-3)
  assert told == "losses: relative difference from PyTorch's 2.0e-05"
  for theirs in (ours * [1, 1.01], ours * np.nan):
    with pytest.raises(ValueError, match="in PyTorch"):
      landscape.check("losses", ours, theirs, 1e-3)


def test_pytorchs_losses_at_the_points_are_ours():
  pytest.importorskip("torch")
  from benchmarks import landscape_torch

  problem = landscape_problem.Problem(_CASE, images=4, points=1)
  found = landscape_torch.InTorch(problem, "channels_last").landscape()
  moved = directions.move(problem.params, problem.directions, problem.points[0])
  batch = [part[0] for part in problem.batches]
  expected = problem.measure(moved, problem.constants, batch)["loss"]
  assert found == pytest.approx([float(expected)], rel=1e-4)
