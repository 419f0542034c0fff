"""The curvature of the loss at a trained network, and over the plane of its landscape.

  python -m emosynth_jax.analysis.curvature --workdir=runs/ce
  python -m emosynth_jax.analysis.curvature --workdir=runs/ce --grid=21 --images=64

With --grid=1 the Hessian's extreme eigenvalues, trace and spectral density at the
network itself: curvature.npz, .json and .png. With a larger grid the ratio
|smallest / largest| over the same plane as loss_landscape's: curvature_map.npz, .json
and .png. --compare adds a picture of several runs. What a workdir has already is not
computed again, and what was made with other settings is kept (kept.py).
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

Found = tuple[dict[str, Any], dict[str, Any]]

# Flags that say nothing of the other of the two.
_OF_THE_PLANE = ("range", "directions", "vectors")
_OF_THE_NETWORK = ("probes", "broadening")


def spectrum_of(workdir: str, given: Any, run: Any = None) -> Found:
  """Computes and writes the spectrum at a network, or reads it.

  Args:
    workdir: the run's folder.
    given: the command's flags.
    run: the run, if it was read already.

  Returns:
    The content of curvature.json, and the arrays of curvature.npz: "eigenvalues" and
    "density", and "nodes" and "weights" of all probes, `(probes, steps)`, NaN where a
    probe ended early.
  """
  import jax

  from emosynth_jax import mapped
  from emosynth_jax.analysis import hessian_lanczos, lanczos, spectrum

  def compute(run, tally, report):
    keys = jax.random.split(jax.random.key(given.seed), given.probes)
    chunk = jax.device_count() if given.mapping == "devices" else 1
    stack = mapped.run_in_chunks(
      tally.of(
        mapped.compile_map(
          hessian_lanczos.at_network(run.measure, given.steps), given.mapping
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
      tolerance=given.tolerance,
      broadening=given.broadening,
    )

  settings = {
    "probes": given.probes,
    "steps": given.steps,
    "tolerance": given.tolerance,
    "broadening_share": given.broadening,
    "seed": given.seed,
  }
  return _stored_or_computed(
    workdir, given, run, "curvature", settings, compute, given.probes, "probe"
  )


def maps_of(workdirs: Sequence[str], given: Any) -> list[Found]:
  """The maps of runs that can be compared, computed or read.

  Args:
    workdirs: the runs' folders.
    given: the command's flags.

  Returns:
    As `map_of`, for each.

  Raises:
    ValueError: before anything is computed, if a run was looked at on other images
      than the first, or for flags out of their range.
  """
  from emosynth_jax.analysis import command, loss_landscape

  loss_landscape.axis_coordinates(given.range, given.grid)
  runs = command.load_runs(workdirs, given, count=2)
  return [map_of(each, given, run) for each, run in zip(workdirs, runs, strict=True)]


def map_of(workdir: str, given: Any, run: Any = None) -> Found:
  """Computes and writes the extreme eigenvalues over the plane, or reads them.

  Args:
    workdir: the run's folder.
    given: the command's flags.
    run: the run, if it was read already.

  Returns:
    The content of curvature_map.json, and the arrays of curvature_map.npz: "axis", and
    "smallest", "largest", "smallest_residual", "largest_residual", "ratio",
    "num_steps", "absolute_tolerance", "converged", each `(S, S)`.
  """
  import jax

  from emosynth_jax import mapped
  from emosynth_jax.analysis import command, hessian_lanczos, lanczos, loss_landscape

  axis = loss_landscape.axis_coordinates(given.range, given.grid)
  points = loss_landscape.grid_points(axis, 2)

  def compute(run, tally, report):
    directions, raw = command.directions_for(run.params, given, 2)
    n = run.facts["num_parameters"]
    probe = jax.random.normal(jax.random.key(given.seed), (n,))
    chunk = jax.device_count() if given.mapping == "devices" else 1
    function = hessian_lanczos.at_point(run.measure, given.steps, given.tolerance)
    stack = mapped.run_in_chunks(
      tally.of(mapped.compile_map(function, given.mapping)),
      points,
      (run.params, directions, run.constants, run.batches, probe),
      chunk=chunk,
      report=report,
    )
    found = [
      lanczos.extreme_eigenvalues(one, tolerance=given.tolerance)
      for one in lanczos.unstack(stack)
    ]
    shape = (len(axis), len(axis))
    arrays = {"axis": axis} | {
      name: np.array([getattr(e, name) for e in found]).reshape(shape)
      for name in lanczos.Extremes._fields
    }
    # A Hessian of zeros has no ratio, and NumPy is not to warn of it.
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

  settings = command.plane_settings(given) | {
    "steps": given.steps,
    "tolerance": given.tolerance,
  }
  return _stored_or_computed(
    workdir, given, run, "curvature_map", settings, compute, len(points), "point"
  )


class _Tally:
  """Counts the products with the Hessian, as points end early."""

  def __init__(self):
    self._products = self._points = 0

  def of(self, program: Callable[..., Any]) -> Callable[..., Any]:
    """A program of `mapped.compile_map` that is counted."""

    def counted(members, *shared):
      found = program(members, *shared)
      self._products += int(np.sum(found.num_steps))
      self._points += len(found.num_steps)
      return found

    return counted

  def mean(self) -> float:
    """Products a point. The copies that fill up a call count on both sides."""
    return self._products / max(self._points, 1)


def _stored_or_computed(
  workdir, given, run, file, settings, compute, total, unit
) -> Found:
  from emosynth_jax import progress, results
  from emosynth_jax.analysis import command, kept, trained_run

  if run is None:
    run = trained_run.load_run(workdir, **command.run_arguments(given))
  settings = run.facts | settings
  stem = pathlib.Path(workdir) / file
  if stored := kept.read(stem, settings):
    logging.info("%s has this already; nothing is computed again.", workdir)
    return stored
  began, tally = time.monotonic(), _Tally()
  bar = progress.Progress(first=0, total=total)
  record, arrays, *raw = compute(
    run,
    tally,
    lambda done: bar.update(
      done,
      f"{workdir}: {unit} {done}/{total}",
      images_per_unit=round(run.facts["num_images"] * tally.mean()),
    ),
  )
  record = {
    "settings": settings,
    "name": run.name,
    "num_classes": run.num_classes,
    **record,
    "seconds": round(time.monotonic() - began, 1),
    "computed_in": command.computed_in("float32"),
    "computed_by": results.provenance(),
  }
  kept.write(stem, record, arrays, *raw)
  return record, arrays


def _draw_all(given: Any) -> None:
  from emosynth_jax.analysis import command, curvature_plots, spectrum

  idle = _OF_THE_PLANE if given.grid == 1 else _OF_THE_NETWORK
  command.refuse_idle(given, idle, f"--grid={given.grid}")
  workdirs = [given.workdir, *given.compare]
  if given.grid == 1:
    file, draw = "curvature", curvature_plots.plot_densities
    line = (
      "{name}: eigenvalues {smallest:.4g} to {largest:.4g}, trace {trace:.3g}, its "
      "standard error {error}"
    )
    unsure = "NOT converged (residuals {smallest_residual:.2g}, {largest_residual:.2g})"
    runs = command.load_runs(workdirs, given, count=0)
    found = [
      spectrum_of(each, given, run) for each, run in zip(workdirs, runs, strict=True)
    ]
  else:
    file, draw = "curvature_map", curvature_plots.plot_ratios
    line = "{name}: |smallest / largest| is {ratio_at_network:.4g} at the network"
    unsure = "{points_not_converged} of {points} points NOT converged"
    found = maps_of(workdirs, given)
  for workdir, one in zip(workdirs, found, strict=True):
    draw([one], pathlib.Path(workdir) / f"{file}.png")
  if given.compare:
    draw(found, pathlib.Path(given.workdir) / f"{file}_comparison.png")
  for record, _ in found:
    sure = record.get("converged", not record.get("points_not_converged"))
    images = "; {settings[num_images]} images of {settings[split]}"
    text = f"{line}{images}" if sure else f"{line}{images}; {unsure}"
    error = spectrum.describe_error(record.get("trace_standard_error"))
    print(text.format(**record, error=error))


def main(argv: list[str]) -> None:
  """Computes and draws the curvature of --workdir and --compare."""
  from emosynth_jax.analysis import command

  command.run_command(argv, _draw_all)


def define_flags() -> None:
  """The flags of this command."""
  from emosynth_jax.analysis import command

  command.define_flags(split="train", images=256, batch_size=64)
  flags.DEFINE_integer("grid", 1, "1 for the network alone, or points a side, odd.", 1)
  flags.DEFINE_integer("steps", 40, "Products with the Hessian, at most.", 1)
  flags.DEFINE_integer("probes", 4, "Random vectors of the spectral density.", 1)
  flags.DEFINE_float(
    "tolerance",
    0.01,
    "Residual, as a share of its eigenvalue, that counts as converged.",
    1e-5,
    0.5,
  )
  flags.DEFINE_float(
    "broadening", 0.01, "Width of the density's Gaussians, of its range.", 1e-4, 1.0
  )


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)


if __name__ == "__main__":
  run()
