"""Figure 5.1: t-SNE of the embeddings on FER-2013, softmax against MAM-SoftMax.

  python -m experiments.figure_5_1 --workdir=runs/fer2013-ce-seed0 \\
      --workdir=runs/fer2013-mam_sce-seed0

The runs are of table 5.1, the images PrivateTest's. The text beside the picture has the
separation of the classes, which no t-SNE shows.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_embeddings(given, figures.path_of(given, "figure_5_1"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=10_000, points=2000)


if __name__ == "__main__":
  figures.run(define_flags, draw)
