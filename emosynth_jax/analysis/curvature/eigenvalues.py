"""Eigenvalues of the loss's Hessian at a trained network, and over a plane."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.curvature import hessian, lanczos, spectrum
from emosynth_jax.analysis.loss_landscape import surface
from emosynth_jax.analysis.result_cache import Found
from emosynth_jax.parallel import batched_map


def spectra_of(workdirs: Sequence[str], args: Any) -> list[Found]:
  """The spectra at networks that can be compared, computed or read.

  Args:
    workdirs: the runs' folders.
    args: the command's flags.

  Returns:
    For each, the content of curvature.json, and the arrays of curvature.npz:
    "eigenvalues" and "density", and "nodes" and "weights" of all probes, `(probes,
    steps)`, NaN where a probe ended early.

  Raises:
    ValueError: before anything is computed, if a run was evaluated on other images than
      the first, or if two folders are the same.
  """
  runs = cli.load_runs(workdirs, args, count=0)
  return [_spectrum_of(run, args) for run in runs]


def _spectrum_of(run: Any, args: Any) -> Found:
  """Computes and writes the spectrum at a network, or reads it."""
  tally = _Tally()

  def compute(report):
    keys = jax.random.split(jax.random.key(args.seed), args.probes)
    chunk = jax.device_count() if args.mapping == "devices" else 1
    stack = batched_map.run_in_chunks(
      tally.of(
        batched_map.compile_map(
          hessian.at_network(run.measure, args.steps), args.mapping
        )
      ),
      keys,
      (run.params, run.constants, run.batches),
      chunk=chunk,
      report=report,
    )

    return spectrum.summarize(
      lanczos.unstack(stack),
      run.facts["num_parameters"],
      tolerance=args.tolerance,
      broadening=args.broadening,
    )

  settings = {
    "probes": args.probes,
    "steps": args.steps,
    "tolerance": args.tolerance,
    "broadening_share": args.broadening,
    "seed": args.seed,
  }
  return cli.read_or_compute(
    run,
    file="curvature",
    settings=settings,
    compute=compute,
    total=args.probes,
    unit="probe",
    passes=tally.mean,
  )


def maps_of(workdirs: Sequence[str], args: Any) -> list[Found]:
  """The maps of runs that can be compared, computed or read.

  Args:
    workdirs: the runs' folders.
    args: the command's flags.

  Returns:
    For each, the content of curvature_map.json, and the arrays of curvature_map.npz:
    "axis", and "smallest", "largest", "smallest_residual", "largest_residual", "ratio",
    "num_steps", "absolute_tolerance", "converged", each `(S, S)`.

  Raises:
    ValueError: before anything is computed, if a run was evaluated on other images than
      the first, or for flags out of their range.
  """
  surface.axis_coordinates(args.range, args.grid)
  runs = cli.load_runs(workdirs, args, count=2)
  return [_map_of(run, args) for run in runs]


def _map_of(run: Any, args: Any) -> Found:
  """Computes and writes the extreme eigenvalues over the plane, or reads them."""
  axis = surface.axis_coordinates(args.range, args.grid)
  points = surface.grid_points(axis, 2)
  tally = _Tally()

  def compute(report):
    directions, raw = cli.directions_for(run.params, args, 2)
    n = run.facts["num_parameters"]
    probe = jax.random.normal(jax.random.key(args.seed), (n,))
    chunk = jax.device_count() if args.mapping == "devices" else 1
    function = hessian.at_point(run.measure, args.steps, args.tolerance)
    stack = batched_map.run_in_chunks(
      tally.of(batched_map.compile_map(function, args.mapping)),
      points,
      (run.params, directions, run.constants, run.batches, probe),
      chunk=chunk,
      report=report,
    )
    found = [
      lanczos.extreme_eigenvalues(one, tolerance=args.tolerance)
      for one in lanczos.unstack(stack)
    ]
    shape = (len(axis), len(axis))
    arrays = {"axis": axis} | {
      name: np.array([getattr(e, name) for e in found]).reshape(shape)
      for name in lanczos.Extremes._fields
    }

    # The ratio is undefined for a zero Hessian; no NumPy warning is wanted.
    with np.errstate(divide="ignore", invalid="ignore"):
      arrays["ratio"] = np.abs(arrays["smallest"] / arrays["largest"])
    middle = len(axis) // 2
    record = {
      "ratio_at_network": float(arrays["ratio"][middle, middle]),
      "points_not_converged": int((~arrays["converged"]).sum()),
      "points": len(points),
      "products": int(arrays["num_steps"].sum()),
    }
    return record, arrays, raw

  settings = cli.plane_settings(args) | {
    "steps": args.steps,
    "tolerance": args.tolerance,
  }
  return cli.read_or_compute(
    run,
    file="curvature_map",
    settings=settings,
    compute=compute,
    total=len(points),
    passes=tally.mean,
  )


class _Tally:
  """Counts the products with the Hessian, as points end early."""

  def __init__(self):
    self._products = self._points = 0

  def of(self, program: Callable[..., Any]) -> Callable[..., Any]:
    """A program of `batched_map.compile_map` with its number of products."""

    def counted(members, *shared):
      found = program(members, *shared)
      self._products += int(np.sum(found.num_steps))
      self._points += len(found.num_steps)
      return found

    return counted

  def mean(self) -> float:
    """Products per point. Padding copies count in both numbers."""
    return self._products / max(self._points, 1)
