"""Figures 3.8 and 3.9: accuracy by epoch of the compared networks on CIFAR-10.

  python -m experiments.figure_3_8 --workdir=runs/tables-small/cifar10-ce-seed0 \\
      --workdir=runs/tables-small/cifar10-resnet50-ce-seed0 ...

Training (3.8) on the left, validation (3.9) on the right. The runs are of table 3.3.
Seeds of one network are drawn as their mean.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_curves(
    given.workdir, figures.path_of(given, "figure_3_8"), figures_of_runs.ACCURACIES
  )


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
