"""Figure 4.3: accuracy and loss by epoch under the losses, of All-CNN-C on MNIST.

  python -m emosynth_jax.main --config=configs/mnist.py:all_cnn,small,ce \\
      --config.data.limit=4000 --config.num_epochs=6 --workdir=runs/all_cnn-ce-seed0
  python -m emosynth_jax.main --config=configs/mnist.py:all_cnn,small,mam_sce \\
      --config.data.limit=4000 --config.num_epochs=6 \\
      --workdir=runs/all_cnn-mam_sce-seed0
  python -m experiments.figure_4_3 --workdir=runs/all_cnn-ce-seed0 \\
      --workdir=runs/all_cnn-mam_sce-seed0

That is a quarter of the width and 4,000 images, two minutes a run on two CPU cores. The
thesis trains 30 epochs of full width by Adam with 1e-3 (all_cnn,thesis,ce and
--config.num_epochs=30).
"""

from typing import Any

from experiments.lib import figures, figures_of_runs


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures_of_runs.draw_curves(given.workdir, figures.path_of(given, "figure_4_3"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
