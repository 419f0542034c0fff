"""Figure 5.6: accuracy and loss by epoch and confusion matrices on CK+.

  python -m experiments.figure_5_6 --workdir=runs/ck_plus-ce-fold_0-seed0 \\
      --workdir=runs/ck_plus-mam_sce-fold_0-seed0

The runs are of table 5.3, a fold each, and need your copy of the data. A fold is a
tenth of the people: table 5.3 has all of them together.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  path = figures.path_of(given, "figure_5_6")
  figures_of_runs.draw_curves(given.workdir, path)
  figures_of_runs.draw_confusions(given.workdir, path)


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
