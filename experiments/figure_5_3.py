"""Figure 5.3: confusion matrix on FER-2013.

  python -m experiments.figure_5_3 --workdir=runs/fer2013-ce-seed0 \\
      --workdir=runs/fer2013-mam_sce-seed0

A picture for each run of table 5.1, of PrivateTest.
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_confusions(given.workdir, figures.path_of(given, "figure_5_3"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
