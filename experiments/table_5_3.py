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

from absl import app, flags

from experiments import face_tables, literature

FOLDS = 10

_FLAGS = face_tables.define_flags(seeds=1)
_CROP = flags.DEFINE_enum(
  "crop",
  "centre",
  ["centre", "landmarks"],
  "What is kept of CK+'s frames, see docs/data.md; CK+48 is cropped already.",
)
_INIT_FROM = flags.DEFINE_string(
  "init_from",
  "",
  "Workdir of a trained run of the same scale to start from; {loss} in it becomes ce "
  "and mam_sce.",
)


def _rows(settings):
  if _CROP.value != "centre":
    settings = {**settings, "data.options.crop": _CROP.value}
  return face_tables.measured_rows(
    "ck_plus", folds=FOLDS, settings=settings, init_from=_INIT_FROM.value
  )


def _run(argv):
  start = " (fine-tuned)" if _INIT_FROM.value else ""
  face_tables.main(
    "table_5_3_fine_tuned" if start else "table_5_3",
    f"Table 5.3: CK+{start}",
    literature.CK_PLUS,
    _rows,
    _FLAGS,
  )(argv)


if __name__ == "__main__":
  app.run(_run)
