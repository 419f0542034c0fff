"""Table 5.3: claimed results on CK+, and two measured losses.

  python -m experiments.table_5_3                              # a GPU
  python -m experiments.table_5_3 --scale=small --data_dir=data    # two CPU cores
  python -m experiments.table_5_3 --crop=landmarks \\
      --pretrain=fer2013,raf_db                                # fine-tuned twice
  python -m experiments.table_5_3 --scale=small --crop=landmarks \\
      --init_from=runs/tables-small/fer2013-{loss}-seed0   # fine-tuned, see table_5_1

Cross-entropy against MAM-SoftMax + SCE in ten folds, split by subject. In each run one
fold is reported, the next one is used to select the epoch, and eight are trained on;
both losses on the same fold are a pair. The result is the mean over the folds. There is
no search for near-duplicates: a subject's frames are alike, and are in one fold. CK+ is
available from its authors: without it, the table has the claims, and the reason why
there is no measurement.

Outputs: table_5_3.md and .csv, table_5_3_runs.csv with every fold's metrics and
table_5_3_pairs.png, rewritten after each run; table_5_3_fine_tuned with --init_from,
table_5_3_pretrained with --pretrain.
"""

from typing import Any

from absl import flags

from emosynth_jax.training import epoch
from emosynth_jax.utils import cli
from experiments.lib import face_tables, literature

FOLDS = 10


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum(
    "crop",
    "center",
    ["center", "landmarks"],
    "Crop of CK+ frames, see docs/guides/data.md; CK+48 is already cropped.",
  )
  flags.DEFINE_string(
    "init_from",
    "",
    "Workdir of a trained run of the same scale for initialization; {loss} in it is "
    "replaced by ce and mam_sce, {seed} by the seed.",
  )
  face_tables.define_flags(seeds=1, pretraining=["fer2013", "raf_db"])


def write(args: Any) -> None:
  """Writes and prints the table."""
  start = " (fine-tuned)" if args.init_from else ""
  face_tables.write(
    "table_5_3_fine_tuned" if start else "table_5_3",
    f"Table 5.3: CK+{start}",
    literature.CK_PLUS,
    "ck_plus",
    args,
    folds=FOLDS,
    init_from=args.init_from,
    settings={} if args.crop == "center" else {"data.options.crop": args.crop},
  )


if __name__ == "__main__":
  cli.run(define_flags, write, epoch.NonFiniteError)
