"""Figure 5.2: accuracy and loss by epoch on FER-2013.

  python -m experiments.figure_5_2 --workdir=runs/fer2013-ce-seed0 \\
      --workdir=runs/fer2013-mam_sce-seed0

The runs are of table 5.1; validation is PublicTest. Seeds of one loss are drawn as
their mean.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_curves(given.workdir, figures.path_of(given, "figure_5_2"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
