"""Figure 4.3: accuracy and loss by epoch under the losses, of All-CNN-C on MNIST.

  python -m emosynth_jax.main --config=configs/mnist.py:all_cnn,ce --workdir=runs/all-ce
  python -m emosynth_jax.main --config=configs/mnist.py:all_cnn,mam_sce \\
      --workdir=runs/all-mam_sce
  python -m experiments.figure_4_3 --workdir=runs/all-ce --workdir=runs/all-mam_sce

The thesis trains 30 epochs by Adam with 1e-3 (--config.num_epochs=30).
"""

from typing import Any

from experiments import figures


def draw(given: Any) -> None:
  """Draws what the flags ask for."""
  figures.draw_curves(given.workdir, figures.path_of(given, "figure_4_3"))


def define_flags() -> None:
  """The flags of this command."""
  figures.define_flags()


if __name__ == "__main__":
  figures.run(define_flags, draw)
