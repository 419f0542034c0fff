"""Table 5.1: claimed results on FER-2013, and two measured losses.

  python -m experiments.table_5_1                              # a GPU
  python -m experiments.table_5_1 --scale=small --data_dir=data    # two CPU cores

Cross-entropy against MAM-SoftMax + SCE, paired by seed, on one network and recipe
(configs/fer2013.py). The epoch is selected on PublicTest; PrivateTest is reported, also
without the images that have a near-duplicate in Training or PublicTest.

Outputs: table_5_1.md and .csv, table_5_1_runs.csv with every seed's metrics and
table_5_1_pairs.png, rewritten after each run. Rerun an interrupted command to resume.
"""

from experiments.lib import face_tables, literature

if __name__ == "__main__":
  face_tables.run("table_5_1", "Table 5.1: FER-2013", literature.FER2013, "fer2013")
