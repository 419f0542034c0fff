"""Figure 4.5: |smallest / largest| eigenvalue of the Hessian over the landscape.

  python -m experiments.figure_4_5 --workdir=runs/ce --compare=runs/mam --grid=21 \\
      --images=64 --steps=30

The flags are those of emosynth_jax.analysis.curvature, whose files stay in the
workdirs; a map that is there is not computed again. The plane is that of figure 4.4.
"""

from typing import Any

from absl import flags

from emosynth_jax.analysis.curvature import command as curvature_command
from emosynth_jax.analysis.curvature import eigenvalues
from emosynth_jax.analysis.curvature import plots as curvature_plots
from experiments.lib import figures


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  if given.grid < 3:
    raise ValueError(f"--grid: expected 3 or more points a side, got {given.grid}")
  workdirs = [given.workdir, *given.compare]
  found = eigenvalues.maps_of(workdirs, given)
  path = figures.path_of(given, "figure_4_5")
  curvature_plots.plot_ratios(found, path)
  figures.write_origin(path, workdirs)


def define_flags() -> None:
  """The flags of this command."""
  curvature_command.define_flags()
  flags.FLAGS.set_default("grid", 21)
  flags.DEFINE_string("output", "runs/figures", "Folder of the pictures.")


if __name__ == "__main__":
  figures.run(define_flags, draw)
