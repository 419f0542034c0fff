"""Figure 5.5: accuracy and loss by epoch and confusion matrices on RAF-DB.

  python -m experiments.figure_5_5 --workdir=runs/raf_db-ce-seed0 \\
      --workdir=runs/raf_db-mam_sce-seed0

The runs are of table 5.2 and need your copy of the data.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  path = figures.path_of(given, "figure_5_5")
  figures_of_runs.draw_curves(given.workdir, path)
  figures_of_runs.draw_confusions(given.workdir, path)


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
