"""Figures 3.8 to 3.11: accuracy by epoch of the compared networks.

  python -m experiments.figure_3_8 --workdir=runs/tables-small/cifar10-ce-seed0 \\
      --workdir=runs/tables-small/cifar10-resnet50-ce-seed0 ...

Training on the left, validation on the right, a row for each data set: the runs of
table 3.3 (CIFAR-10) are figures 3.8 and 3.9, those of table 3.4 (SVHN) 3.10 and 3.11.
Seeds of one network are drawn as their mean.
"""

from typing import Any

from experiments import figures, figures_of_runs


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
