"""Table 3.4: networks on SVHN with cross-entropy.

  python -m experiments.table_3_4                                  # a GPU, hours
  python -m experiments.table_3_4 --scale=small --data_dir=data/tfds   # two CPU cores

Outputs: table_3_4.md and .csv, and the curves of figures 3.10 and 3.11.
"Claimed" is what the thesis prints; "measured" is from this command's runs.
"""

from experiments.lib import comparison
from experiments.lib.comparison_rows import network_rows

ROWS = network_rows(
  "svhn",
  {
    "mobilenet_v2": (90.32, 0.54, 90.8, 90.11, 0.9),
    "efficientnet_b0": (91.5, 0.41, 92.09, 91.2, 0.91),
    "resnet50": (92.95, 0.46, 93.21, 92.84, 0.93),
    "vgg19": (94.14, 0.55, 95.18, 93.53, 0.94),
    "densenet121": (94.68, 0.34, 94.83, 94.56, 0.94),
    "emosynthnet": (95.75, 0.33, 96.01, 95.66, 0.95),
  },
)

if __name__ == "__main__":
  comparison.run("table_3_4", "Table 3.4: networks on SVHN", ROWS)
