"""Figure 5.4: t-SNE of the embeddings on RAF-DB, softmax against MAM-SoftMax.

  python -m experiments.figure_5_4 --workdir=runs/raf_db-ce-seed0 \\
      --workdir=runs/raf_db-mam_sce-seed0

The runs are of table 5.2 and need your copy of the data. The thesis shows "hard
samples" apart and does not say which they are: here all test images are drawn.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_embeddings(given, figures.path_of(given, "figure_5_4"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=10_000, points=0)


if __name__ == "__main__":
  figures.run(define_flags, draw)
