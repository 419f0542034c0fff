"""Table 5.3: CK+, what was claimed and what two losses give.

  python -m experiments.table_5_3                              # a GPU
  python -m experiments.table_5_3 --scale=small --data_dir=data    # two CPU cores
  python -m experiments.table_5_3 --scale=small --crop=landmarks \\
      --init_from=runs/tables-small/fer2013-{loss}-seed0   # fine-tuned, see table_5_1

Cross-entropy against MAM-SoftMax + SCE in ten folds, by subject: nobody is in two of
them. In each turn one fold is reported, the next one chooses the epoch, and eight are
trained on; both losses have the same turn as a pair. The figure is the mean over the
folds. Twins are not looked for: a person's frames are alike, and are in one fold. CK+
is had from its authors: without it, the table has the claims, and says why there is
nothing measured.

Outputs: table_5_3.md and .csv, table_5_3_runs.csv with every fold's figures and
table_5_3_pairs.png, written anew after each run; table_5_3_fine_tuned with --init_from.
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
    "What is kept of CK+'s frames, see docs/data.md; CK+48 is cropped already.",
  )
  flags.DEFINE_string(
    "init_from",
    "",
    "Workdir of a trained run of the same scale to start from; {loss} in it becomes ce "
    "and mam_sce.",
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
