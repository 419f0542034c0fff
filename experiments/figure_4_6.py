"""Figure 4.6: t-SNE of the embeddings on CIFAR-10, softmax against MAM-SoftMax.

  python -m experiments.figure_4_6 --workdir=runs/tables-small/cifar10-ce-seed0 \\
      --workdir=runs/tables-small/cifar10-mam-seed0

The runs are of table 4.1; several seeds of each give paired differences. The text
beside the picture has the separation of the classes, which no t-SNE shows.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_embeddings(given, figures.path_of(given, "figure_4_6"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=10_000, points=2000)


if __name__ == "__main__":
  figures.run(define_flags, draw)
