"""Figure 5.7: t-SNE of the embeddings on CK+ under MAM-SoftMax.

  python -m experiments.figure_5_7 --workdir=runs/ck_plus-ce-fold_0-seed0 \\
      --workdir=runs/ck_plus-mam_sce-fold_0-seed0

The runs are of table 5.3, on one fold, and need your copy of the data.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_embeddings(given, figures.path_of(given, "figure_5_7"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=10_000, points=2000)


if __name__ == "__main__":
  figures.run(define_flags, draw)
