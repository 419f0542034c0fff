"""Table 5.2: claimed results on RAF-DB, and two measured losses.

  python -m experiments.table_5_2                              # a GPU
  python -m experiments.table_5_2 --scale=small --data_dir=data    # two CPU cores
  python -m experiments.table_5_2 --pretrain=fer2013           # fine-tuned

Cross-entropy against MAM-SoftMax + SCE, paired by seed, on one network and recipe
(configs/raf_db.py). The epoch is selected on 10 % of the training split, held out by
class; the test split is reported, also without the images that have a near-duplicate in
the other two. RAF-DB is available from its authors: without it, the table has the
claims, and the reason why there is no measurement.

Outputs: table_5_2.md and .csv, table_5_2_runs.csv with every seed's metrics and
table_5_2_pairs.png, rewritten after each run; table_5_2_pretrained with --pretrain.
"""

from experiments.lib import face_tables, literature

if __name__ == "__main__":
  face_tables.run(
    "table_5_2", "Table 5.2: RAF-DB", literature.RAF_DB, "raf_db", ["fer2013"]
  )
