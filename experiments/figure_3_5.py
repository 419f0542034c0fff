"""Figure 3.5: accuracy and loss by epoch of EmoSynthNet on MNIST and CIFAR-10.

  python -m experiments.figure_3_5 --workdir=runs/tables-small/mnist-ce-seed0 \\
      --workdir=runs/tables-small/cifar10-ce-seed0

The runs are of table 3.1. The thesis shows the last 20 of 100 epochs, of full width.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_curves(given.workdir, figures.path_of(given, "figure_3_5"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
