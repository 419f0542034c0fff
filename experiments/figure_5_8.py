"""Figure 5.8: Grad-CAM and guided Grad-CAM of faces.

  python -m experiments.figure_5_8 --workdir=runs/fer2013-mam_sce-seed0

A picture for each run. The images are drawn by a seed of their own, one classified well
and one that is not of each expression. docs/analysis.md says what such maps can't show.
"""

from typing import Any

from experiments.lib import figures, figures_of_networks


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_networks.draw_saliency(given, figures.path_of(given, "figure_5_8"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags(images=256)


if __name__ == "__main__":
  figures.run(define_flags, draw)
