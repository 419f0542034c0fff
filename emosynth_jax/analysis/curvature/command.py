"""Action and flags of the curvature command."""

import pathlib
from typing import Any

from absl import flags

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.curvature import eigenvalues, spectrum
from emosynth_jax.analysis.curvature import plots as curvature_plots

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()

# Flags that apply to only one of the two modes.
_OF_THE_PLANE = ("range", "directions", "vectors")
_OF_THE_NETWORK = ("probes", "broadening")


def draw_all(args: Any) -> None:
  """Computes and plots the curvature with the flags."""
  idle = _OF_THE_PLANE if args.grid == 1 else _OF_THE_NETWORK
  cli.refuse_idle(args, idle, f"--grid={args.grid}")
  workdirs = [args.workdir, *args.compare]
  if args.grid == 1:
    file, draw = "curvature", curvature_plots.plot_densities
    line = (
      "{name}: eigenvalues {smallest:.4g} to {largest:.4g}, trace {trace:.3g}, its "
      "standard error {error}"
    )
    unsure = "NOT converged (residuals {smallest_residual:.2g}, {largest_residual:.2g})"
    found = eigenvalues.spectra_of(workdirs, args)
  else:
    file, draw = "curvature_map", curvature_plots.plot_ratios
    line = "{name}: |smallest / largest| is {ratio_at_network:.4g} at the network"
    unsure = "{points_not_converged} of {points} points NOT converged"
    found = eigenvalues.maps_of(workdirs, args)

  for workdir, one in zip(workdirs, found, strict=True):
    draw([one], pathlib.Path(workdir) / f"{file}.png")
  if args.compare:
    draw(found, pathlib.Path(args.workdir) / f"{file}_comparison.png")

  for record, _ in found:
    sure = record.get("converged", not record.get("points_not_converged"))
    images = "; {settings[num_images]:,} images of {settings[split]}"
    text = f"{line}{images}" if sure else f"{line}{images}; {unsure}"
    error = spectrum.describe_error(record.get("trace_standard_error"))
    print(text.format(**record, error=error))


def define_flags() -> None:
  """The flags of this command."""
  cli.define_flags(split="train", images=256, batch_size=64)
  flags.DEFINE_integer(
    "grid",
    1,
    "Points along each side of the map, odd; 1 for the network's own point only.",
    1,
  )
  flags.DEFINE_integer("steps", 40, "Maximum number of Hessian-vector products.", 1)
  flags.DEFINE_integer(
    "probes", 4, "Number of random probe vectors of the spectral density.", 1
  )
  flags.DEFINE_float(
    "tolerance",
    0.01,
    "Largest residual, relative to the eigenvalue, that counts as converged.",
    1e-5,
    0.5,
  )
  flags.DEFINE_float(
    "broadening",
    0.01,
    "Width of the density's Gaussians, as a fraction of the spectrum's range.",
    1e-4,
    1.0,
  )
