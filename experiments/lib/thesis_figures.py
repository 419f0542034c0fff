"""The thesis's figures: what each shows, of which runs, drawn by which script."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments import table_3_3, table_3_4
from experiments.lib import face_tables
from experiments.lib.comparison_rows import Row

_EMOSYNTHNET = [Row("EmoSynthNet, CE", data, "ce") for data in ("mnist", "cifar10")]


class Figure(NamedTuple):
  """One picture, or one script's pictures.

  Attributes:
    numbers: the thesis's own; a script may draw two figures side by side.
    script: a module of experiments/.
    title: what is to be seen.
    rows: the runs that are drawn, in this order; none if the script trains itself.
    every_seed: whether all seeds are drawn, or the first alone.
    compared: whether the script takes the runs after the first as --compare.
    small: flags of the script in the small scale.
    full: the same in the full scale.
    data: config of the data set that a script without rows reads.
  """

  numbers: tuple[str, ...]
  script: str
  title: str
  rows: Sequence[Row] = ()
  every_seed: bool = False
  compared: bool = False
  small: Sequence[str] = ()
  full: Sequence[str] = ()
  data: str = ""

  @property
  def name(self) -> str:
    """As in "figures 3.8 and 3.9"."""
    return f"figure{'s' * (len(self.numbers) > 1)} " + " and ".join(self.numbers)


def figures_of(scale: str, face_epochs: int = 0) -> list[Figure]:
  """All of them, in the thesis's order.

  Args:
    scale: "full" or "small", see `comparison_rows.build_config`.
    face_epochs: epochs at most on FER-2013, RAF-DB and CK+; 0 for the scale's own.

  Returns:
    The figures. Their rows are those of the tables, whose runs they share.
  """
  settings = {"num_epochs": face_epochs} if face_epochs else {}
  fer2013 = face_tables.measured_rows("fer2013", settings=settings, without_twins=True)
  raf_db = face_tables.measured_rows("raf_db", settings=settings, without_twins=True)
  # One fold: a picture of all would be of ten networks.
  ck_plus = face_tables.measured_rows("ck_plus", folds=1, settings=settings)
  cifar10 = [Row(f"EmoSynthNet, {v}", "cifar10", v) for v in ("ce", "mam")]
  # The thesis trains this network for 30 epochs.
  epochs = {"num_epochs": 6 if scale == "small" else 30}
  all_cnn = [
    Row(f"All-CNN-C, {v}", "mnist", f"all_cnn,{v}", settings=epochs)
    for v in ("ce", "mam_sce")
  ]
  points = ["--points=1000"]
  return [
    Figure(
      ("3.5",),
      "figure_3_5",
      "Accuracy and loss by epoch on MNIST and CIFAR-10",
      _EMOSYNTHNET,
      every_seed=True,
    ),
    Figure(
      ("3.6",), "figure_3_6", "Confusion matrices on MNIST and CIFAR-10", _EMOSYNTHNET
    ),
    Figure(("3.7",), "figure_3_7", "Grad-CAM on CIFAR-10", _EMOSYNTHNET[1:]),
    Figure(
      ("3.8", "3.9"),
      "figure_3_8",
      "Accuracy by epoch of six networks on CIFAR-10",
      [row for row in table_3_3.ROWS if row.data],
      every_seed=True,
    ),
    Figure(
      ("3.10", "3.11"),
      "figure_3_10",
      "Accuracy by epoch of six networks on SVHN",
      [row for row in table_3_4.ROWS if row.data],
      every_seed=True,
    ),
    Figure(
      ("4.2",),
      "figure_4_2",
      "Embeddings of two and three numbers on MNIST",
      data="mnist",
    ),
    Figure(
      ("4.3",),
      "figure_4_3",
      "Accuracy and loss by epoch of All-CNN-C on MNIST under two losses",
      all_cnn,
      every_seed=True,
    ),
    Figure(
      ("4.4",),
      "figure_4_4",
      "The loss around two trained networks",
      fer2013,
      compared=True,
      small=["--grid=25", "--images=256"],
      full=["--grid=51", "--images=1024"],
    ),
    Figure(
      ("4.5",),
      "figure_4_5",
      "Smallest over largest eigenvalue of the Hessian around two trained networks",
      fer2013,
      compared=True,
      small=["--grid=7", "--images=64", "--steps=30"],
      full=["--grid=21", "--images=256", "--steps=30"],
    ),
    Figure(
      ("4.6",),
      "figure_4_6",
      "t-SNE of the embeddings on CIFAR-10, softmax against MAM-SoftMax",
      cifar10,
      every_seed=True,
      small=points,
    ),
    Figure(
      ("5.1",),
      "figure_5_1",
      "t-SNE of the embeddings on FER-2013, softmax against MAM-SoftMax + SCE",
      fer2013,
      every_seed=True,
      small=points,
    ),
    Figure(
      ("5.2",),
      "figure_5_2",
      "Accuracy and loss by epoch on FER-2013",
      fer2013,
      every_seed=True,
    ),
    Figure(("5.3",), "figure_5_3", "Confusion matrices on FER-2013", fer2013),
    Figure(
      ("5.4",),
      "figure_5_4",
      "t-SNE of the embeddings on RAF-DB, softmax against MAM-SoftMax + SCE",
      raf_db,
      every_seed=True,
      small=points,
    ),
    Figure(
      ("5.5",),
      "figure_5_5",
      "Accuracy and loss by epoch and confusion matrices on RAF-DB",
      raf_db,
    ),
    Figure(
      ("5.6",),
      "figure_5_6",
      "Accuracy and loss by epoch and confusion matrices on CK+, one fold",
      ck_plus,
    ),
    Figure(
      ("5.7",),
      "figure_5_7",
      "t-SNE of the embeddings on CK+, one fold, softmax against MAM-SoftMax + SCE",
      ck_plus,
      every_seed=True,
      small=points,
    ),
    Figure(
      ("5.8",),
      "figure_5_8",
      "Grad-CAM and guided Grad-CAM of faces",
      fer2013[1:],
    ),
  ]
