"""Table 5.2: RAF-DB, what was claimed and what two losses give.

  python -m experiments.table_5_2                              # a GPU
  python -m experiments.table_5_2 --scale=small --data_dir=data    # two CPU cores

Cross-entropy against MAM-SoftMax + SCE, paired by seed, on one network and recipe
(configs/raf_db.py). The epoch is chosen on a tenth of the training split, held out by
class; the test split is reported, also without the images that have a twin in the
other two. RAF-DB is had from its authors: without it, the table has the claims, and
says why there is nothing measured.

Outputs: table_5_2.md and .csv, table_5_2_runs.csv with every seed's figures and
table_5_2_pairs.png, written anew after each run.
"""

from absl import app

from experiments.lib import face_tables, literature

if __name__ == "__main__":
  app.run(
    face_tables.main(
      "table_5_2",
      "Table 5.2: RAF-DB",
      literature.RAF_DB,
      lambda settings: face_tables.measured_rows(
        "raf_db", settings=settings, without_twins=True
      ),
      face_tables.define_flags(),
    )
  )
