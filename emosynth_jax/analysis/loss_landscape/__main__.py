"""Loss landscape of a trained network (Li et al., 2018).

  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce
  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce --compare=runs/mam

Writes loss_landscape.npz, loss_landscape.json, loss_landscape_directions.npz and the
plots into each run's workdir, or loss_line.* for a line (--dimensions=1); with
--compare the first one gets a plot of all runs, on the same axes and levels. A
landscape that a workdir already has is not recomputed, and one of other settings is
kept (result_cache.py).
"""

from emosynth_jax.utils import cli


def run() -> None:
  """Entry point of the command line."""
  from emosynth_jax.analysis.loss_landscape import command as landscape_command

  landscape_command.define_flags()
  cli.run(landscape_command.main)


if __name__ == "__main__":
  run()
