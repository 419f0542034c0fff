"""Embeddings of a split by trained runs: projections and separation metrics.

  python -m emosynth_jax.analysis.embeddings --workdir=runs/ce
  python -m emosynth_jax.analysis.embeddings --split=test \\
      --workdir=runs/ce-0 --workdir=runs/ce-1 --workdir=runs/mam-0 --workdir=runs/mam-1

Writes into each workdir:

  embeddings.npz   of every image used its row in the split, label, embedding and
                   margin-free logits; of those drawn, their places by t-SNE and by
                   principal components
  embeddings.png   those places
  separation.json  metrics of class separation, and their provenance
  separation.txt   the same as text

With several runs, the first one also gets embeddings_comparison.png, and
separation_comparison.json and .txt: the differences of every other kind of run (runs
that differ in more than the seed) from the first run's kind, paired by seed.
"""

from absl import flags

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.embeddings import command


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_multi_string(
    "workdir",
    None,
    "Workdir of a trained run; may be given several times, the baseline first.",
    required=True,
  )
  cli.define_split("validation")
  flags.DEFINE_integer(
    "images", 10_000, "Maximum number of images of the split; 0 for all.", 0
  )
  flags.DEFINE_integer(
    "points", 2000, "Maximum number of points in the plot; 0 for all.", 0
  )
  flags.DEFINE_integer("batch_size", 256, "Batch size in images.", 1)
  flags.DEFINE_float(
    "perplexity", None, "Perplexity of t-SNE. By default 30, or less for few points."
  )
  flags.DEFINE_integer("seed", 0, "Seed of t-SNE.", 0)


if __name__ == "__main__":
  cli.run(define_flags, command.embed_all)
