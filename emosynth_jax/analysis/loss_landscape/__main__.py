"""Loss landscape of a trained network (Li et al., 2018).

  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce
  python -m emosynth_jax.analysis.loss_landscape --workdir=runs/ce --compare=runs/mam

Writes loss_landscape.npz, loss_landscape.json, loss_landscape_directions.npz and the
plots into each run's workdir, or loss_line.* for a line (--dimensions=1); with
--compare the first one gets a plot of all runs, on the same axes and levels. A
landscape that a workdir already has is not recomputed, and one of other settings is
kept (result_cache.py).
"""

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.loss_landscape import command

if __name__ == "__main__":
  cli.run(command.define_flags, command.draw_all)
