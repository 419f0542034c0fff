"""Table 5.3: claimed results on CK+, and two measured losses.

  python -m experiments.table_5_3                              # a GPU
  python -m experiments.table_5_3 --scale=small --data_dir=data    # two CPU cores
  python -m experiments.table_5_3 --scale=small --crop=landmarks \\
      --init_from=runs/tables-small/fer2013-{loss}-seed0   # fine-tuned, see table_5_1

Cross-entropy against MAM-SoftMax + SCE in ten folds, split by subject. In each run one
fold is reported, the next one is used to select the epoch, and eight are trained on;
both losses on the same fold are a pair. The result is the mean over the folds. There is
no search for near-duplicates: a subject's frames are alike, and are in one fold. CK+ is
available from its authors: without it, the table has the claims, and the reason why
there is no measurement.

Outputs: table_5_3.md and .csv, table_5_3_runs.csv with every fold's metrics and
table_5_3_pairs.png, rewritten after each run; table_5_3_fine_tuned with --init_from.
"""

import functools

from absl import app, flags

from experiments.lib import face_tables, literature

FOLDS = 10


def _define_flags():
  flags.DEFINE_enum(
    "crop",
    "centre",
    ["centre", "landmarks"],
    "Crop of CK+ frames, see docs/data.md; CK+48 is already cropped.",
  )
  flags.DEFINE_string(
    "init_from",
    "",
    "Workdir of a trained run of the same scale for initialization; {loss} in it is "
    "replaced by ce and mam_sce.",
  )
  return face_tables.define_flags(seeds=1)


def _rows(settings):
  if flags.FLAGS.crop != "centre":
    settings = {**settings, "data.options.crop": flags.FLAGS.crop}
  return face_tables.measured_rows(
    "ck_plus", folds=FOLDS, settings=settings, init_from=flags.FLAGS.init_from
  )


def _run(argv, given):
  start = " (fine-tuned)" if flags.FLAGS.init_from else ""
  face_tables.main(
    "table_5_3_fine_tuned" if start else "table_5_3",
    f"Table 5.3: CK+{start}",
    literature.CK_PLUS,
    _rows,
    given,
  )(argv)


if __name__ == "__main__":
  app.run(functools.partial(_run, given=_define_flags()))
