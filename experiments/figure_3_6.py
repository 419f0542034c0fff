"""Figure 3.6: confusion matrices of EmoSynthNet on MNIST and CIFAR-10.

  python -m experiments.figure_3_6 --workdir=runs/tables-small/mnist-ce-seed0 \\
      --workdir=runs/tables-small/cifar10-ce-seed0

A picture for each run, of its reported split, with counts beside the shares.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_confusions(given.workdir, figures.path_of(given, "figure_3_6"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
