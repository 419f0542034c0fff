"""Figure 3.7: Grad-CAM of EmoSynthNet with the network's confidence.

  python -m experiments.figure_3_7 --workdir=runs/tables-small/cifar10-ce-seed0

A picture for each run. The images are drawn by a seed of their own, one classified well
and one that is not of each class; guided backpropagation is beside them.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_saliency(given, figures.path_of(given, "figure_3_7"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=256)


if __name__ == "__main__":
  figures.run(define_flags, draw)
