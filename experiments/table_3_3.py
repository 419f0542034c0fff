"""Table 3.3: networks on CIFAR-10 with cross-entropy.

  python -m experiments.table_3_3                                  # a GPU, hours
  python -m experiments.table_3_3 --scale=small --data_dir=data/tfds   # two CPU cores

Outputs: table_3_3.md and .csv, and the curves of figures 3.8 and 3.9.
"Claimed" is what the thesis prints; "measured" is from this command's runs.
"""

from experiments.lib import comparison
from experiments.lib.comparison_rows import network_rows

ROWS = network_rows(
  "cifar10",
  {
    "mobilenet_v2": (77.23, 1.2, 78.3, 76.65, 0.77),
    "efficientnet_b0": (81.26, 0.93, 82.24, 80.87, 0.81),
    "resnet50": (82.59, 1.10, 82.91, 82.21, 0.82),
    "densenet121": (85.68, 0.85, 86.0, 85.34, 0.85),
    "vgg19": (86.03, 1.05, 86.35, 85.78, 0.86),
    "emosynthnet": (86.32, 0.67, 87.03, 85.99, 0.86),
  },
)

_NOTES = {
  "ResNet50": "claimed loss: inferred, only its last two digits can be read",
  "EmoSynthNet": "tables 3.1 and 4.1 claim 91.45 and 91.54 for this row",
}
ROWS = [row._replace(note=_NOTES.get(row.label, row.note)) for row in ROWS]

if __name__ == "__main__":
  comparison.run("table_3_3", "Table 3.3: networks on CIFAR-10", ROWS)
