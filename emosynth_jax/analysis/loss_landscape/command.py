"""Action and flags of the loss landscape command."""

import pathlib
from typing import Any

import numpy as np
from absl import flags, logging

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.analysis.loss_landscape import surface

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()


def draw_all(args: Any) -> None:
  """Computes and plots the loss landscape with the flags."""
  workdirs = [args.workdir, *args.compare]
  found = surface.landscapes_of(workdirs, args)
  file = surface.FILES[args.dimensions]
  for workdir, one in zip(workdirs, found, strict=True):
    landscape_plots.draw(pathlib.Path(workdir) / file, [one])
    logging.info("Wrote the landscape of %s to %s.*", one[0]["name"], file)

  if args.compare:
    landscape_plots.draw(pathlib.Path(args.workdir) / f"{file}_comparison", found)
  for workdir, (record, arrays) in zip(workdirs, found, strict=True):
    settings = record["settings"]
    print(
      f"{workdir}: loss {record['loss_at_network']:.4f}, accuracy "
      f"{100 * record['accuracy_at_network']:.2f} % on "
      f"{settings['num_images']:,} images of {settings['split']}; "
      f"loss up to {np.nanmax(arrays['loss']):.4g} on the grid, below twice the "
      f"network's on {100 * surface.share_below(arrays['loss'], 2):.1f} % of it"
    )


def define_flags() -> None:
  """The flags of this command."""
  cli.define_flags(split="train", images=1024, batch_size=256)
  flags.DEFINE_integer("grid", 51, "Number of points along each direction, odd.", 3)
  flags.DEFINE_integer(
    "dimensions", 2, "Number of directions: 1 for a line, 2 for a plane.", 1, 2
  )
