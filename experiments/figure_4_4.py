"""Figure 4.4: contours of the loss around networks trained with two losses.

  python -m experiments.figure_4_4 --workdir=runs/ce --compare=runs/mam --grid=25

The flags are those of emosynth_jax.analysis.loss_landscape, whose files stay in the
workdirs; a landscape that is there is not computed again. The same directions, images,
axes and levels for all; the loss is the margin-free cross-entropy for all.
"""

from typing import Any

from absl import flags

from emosynth_jax.analysis.loss_landscape import command as landscape_command
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.analysis.loss_landscape import surface
from experiments.lib import figures


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  workdirs = [given.workdir, *given.compare]
  found = surface.landscapes_of(workdirs, given)
  path = figures.path_of(given, "figure_4_4")
  landscape_plots.draw(path.with_suffix(""), found)
  figures.write_origin(path, workdirs)


def define_flags() -> None:
  """The flags of this command."""
  landscape_command.define_flags()
  flags.DEFINE_string("output", "runs/figures", "Folder of the pictures.")


if __name__ == "__main__":
  figures.run(define_flags, draw)
