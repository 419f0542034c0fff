"""Table 3.4: networks on SVHN with cross-entropy.

  python -m experiments.table_3_4                                  # a GPU, hours
  python -m experiments.table_3_4 --scale=small --data_dir=data/tfds   # two CPU cores

Outputs: table_3_4.md and .csv, and the curves of figures 3.10 and 3.11.
"Claimed" is what the thesis prints; "measured" is from this command's runs.
"""

from absl import app

from experiments.lib import comparison
from experiments.lib.comparison_rows import Row, claimed

ROWS = [
  Row(
    "MobileNetV2",
    "svhn",
    "mobilenet_v2,ce",
    claimed(90.32, 0.54, 90.8, 90.11, 0.9),
  ),
  Row(
    "EfficientNetB0",
    "svhn",
    "efficientnet_b0,ce",
    claimed(91.5, 0.41, 92.09, 91.2, 0.91),
  ),
  Row(
    "ResNet50",
    "svhn",
    "resnet50,ce",
    claimed(92.95, 0.46, 93.21, 92.84, 0.93),
  ),
  Row(
    "VGG19",
    "svhn",
    "vgg19,ce",
    claimed(94.14, 0.55, 95.18, 93.53, 0.94),
  ),
  Row(
    "DenseNet121",
    "svhn",
    "densenet121,ce",
    claimed(94.68, 0.34, 94.83, 94.56, 0.94),
  ),
  Row(
    "EmoSynthNet",
    "svhn",
    "ce",
    claimed(95.75, 0.33, 96.01, 95.66, 0.95),
  ),
]

if __name__ == "__main__":
  app.run(
    comparison.main(
      "table_3_4", "Table 3.4: networks on SVHN", ROWS, comparison.define_flags()
    )
  )
