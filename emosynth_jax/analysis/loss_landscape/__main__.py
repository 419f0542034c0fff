"""The loss around a trained network, along filter-normalized random directions.

  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce
  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce --compare=runs/mam

Writes loss_landscape.npz, loss_landscape.json, loss_landscape_directions.npz and the
pictures into each run's workdir, and of a line (--dimensions=1) loss_line.*; with
--compare the first one gets a picture of all, on the same axes and levels. A landscape
that a workdir already has is not computed again, and one of other settings is kept
(result_cache.py).
"""

from absl import app


def run() -> None:
  """Entry point of the command line."""
  from emosynth_jax.analysis.loss_landscape import command as landscape_command

  landscape_command.define_flags()
  app.run(landscape_command.main)


if __name__ == "__main__":
  run()
