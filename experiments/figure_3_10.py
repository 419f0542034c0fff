"""Figures 3.10 and 3.11: accuracy by epoch of the compared networks on SVHN.

  python -m experiments.figure_3_10 --workdir=runs/tables-small/svhn-ce-seed0 \\
      --workdir=runs/tables-small/svhn-resnet50-ce-seed0 ...

Training (3.10) on the left, validation (3.11) on the right. The runs are of table 3.4.
Seeds of one network are drawn as their mean.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_curves(
    given.workdir, figures.path_of(given, "figure_3_10"), figures_of_runs.ACCURACIES
  )


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
