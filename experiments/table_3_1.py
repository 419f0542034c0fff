"""Table 3.1: networks and losses on MNIST and CIFAR-10.

  python -m experiments.table_3_1                                  # a GPU, hours
  python -m experiments.table_3_1 --scale=small --data_dir=data/tfds   # two CPU cores

Outputs: table_3_1.md and .csv, and the curves. "Claimed" is what
the thesis prints; "measured" is from this command's runs.
"""

from experiments.lib import comparison
from experiments.lib.comparison_rows import Row

_QUOTED = "quoted by the thesis, not trained here"


def _pair(label: str, variants: str, mnist: float | None, cifar10: float | None):
  """A network and loss on both data sets."""
  for data, claimed in (("mnist", mnist), ("cifar10", cifar10)):
    yield Row(
      f"{label}, {data}",
      data,
      variants,
      {} if claimed is None else {"accuracy": claimed},
    )


ROWS = [
  Row("DMoCo-V1, CE, mnist", claimed={"accuracy": 97.6}, note=_QUOTED),
  Row("DMoCo-V1, CE, cifar10", claimed={"accuracy": 85.0}, note=_QUOTED),
  Row("ResNet-26, CE, mnist", claimed={"accuracy": 97.2}, note=_QUOTED),
  Row("ResNet-26, CE, cifar10", claimed={"accuracy": 91.1}, note=_QUOTED),
  Row("InceptionV3, MSE, mnist", claimed={"accuracy": 99.51}, note=_QUOTED),
  *_pair("ResNet50, MSE", "resnet50,mse", 98.83, 81.76),
  *_pair("DenseNet121, MSE", "densenet121,mse", 99.36, 84.92),
  *_pair("VGG19, MSE", "vgg19,mse", None, 83.98),
  *_pair("EmoSynthNet, MSE", "mse", 99.63, 89.69),
  # Table 4.1 and its text have 91.54 for the same row.
  *_pair("EmoSynthNet, CE", "ce", 99.61, 91.45),
]

if __name__ == "__main__":
  comparison.run("table_3_1", "Table 3.1: MNIST and CIFAR-10", ROWS)
