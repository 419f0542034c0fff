"""The thesis's figures: title, runs, flags and notes of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import table_3_3, table_3_4
from experiments.lib import face_tables
from experiments.lib.comparison_rows import Row

_EMOSYNTHNET = [Row("EmoSynthNet, CE", data, "ce") for data in ("mnist", "cifar10")]


class Figure(NamedTuple):
  """One image, or one command's images.

  Attributes:
    numbers: the thesis's numbers; one plot may show two figures.
    kind: of `experiments.figure.KINDS`.
    title: description.
    rows: the runs to plot, in this order; none if the figure trains its own networks.
    every_seed: whether all seeds are drawn, or the first alone.
    small: flags in the small scale.
    full: flags in the full scale.
    data: config of the data set that a figure without rows reads.
    defaults: flags whose default is not the kind's.
    notes: further help, a paragraph each.
    training: commands that train its runs otherwise than the tables do.
  """

  numbers: tuple[str, ...]
  kind: str
  title: str
  rows: Sequence[Row] = ()
  every_seed: bool = False
  small: Sequence[str] = ()
  full: Sequence[str] = ()
  data: str = ""
  defaults: Mapping[str, Any] = {}
  notes: Sequence[str] = ()
  training: Sequence[Sequence[str]] = ()

  @property
  def name(self) -> str:
    """Numbers as text, for example "figures 3.8 and 3.9"."""
    return f"figure{'s' * (len(self.numbers) > 1)} " + " and ".join(self.numbers)

  @property
  def stem(self) -> str:
    """Prefix of its file names, for example "figure_3_8"."""
    return "figure_" + self.numbers[0].replace(".", "_")


# Embeddings in a figure of small scale.
_POINTS = ["--points=1000"]


def figures_of(scale: str, face_epochs: int = 0) -> list[Figure]:
  """Returns all figures, in the thesis's order.

  Args:
    scale: "full" or "small", see `comparison_rows.build_config`.
    face_epochs: epochs at most on FER-2013, RAF-DB and CK+; 0 for the scale's own.

  Returns:
    The figures. Their rows are those of the tables, whose runs they share.
  """
  settings = {"num_epochs": face_epochs} if face_epochs else {}
  fer2013 = face_tables.measured_rows("fer2013", settings=settings, deduplicated=True)
  raf_db = face_tables.measured_rows("raf_db", settings=settings, deduplicated=True)
  # One fold: all folds would be ten networks.
  ck_plus = face_tables.measured_rows("ck_plus", folds=1, settings=settings)
  # The thesis trains this network for 30 epochs.
  epochs = {"num_epochs": 6 if scale == "small" else 30}
  all_cnn = [
    Row(f"All-CNN-C, {v}", "mnist", f"all_cnn,{v}", settings=epochs)
    for v in ("ce", "mam_sce")
  ]
  return [
    *_figures_of_networks(),
    *_figures_of_losses(all_cnn, fer2013),
    *_figures_of_faces(fer2013, raf_db, ck_plus),
  ]


def _figures_of_networks() -> list[Figure]:
  """The figures of chapter 3."""
  return [
    Figure(
      ("3.4",),
      "samples",
      "Sample images of MNIST, SVHN and CIFAR-10",
      data="mnist",
      notes=[
        "Two training images of each class, drawn with a fixed seed. --data takes any "
        "other data set too, such as --data=fer2013:data or "
        "--data=raf_db:data:channels=1,image_size=48. A data set that is not there is "
        "left out, and the text beside the image says so.",
      ],
    ),
    Figure(
      ("3.5",),
      "curves",
      "Accuracy and loss by epoch of EmoSynthNet on MNIST and CIFAR-10",
      _EMOSYNTHNET,
      every_seed=True,
      notes=[
        "The runs are of table 3.1. The thesis shows the last 20 of 100 epochs, of "
        "full width.",
      ],
    ),
    Figure(
      ("3.6",),
      "confusions",
      "Confusion matrices of EmoSynthNet on MNIST and CIFAR-10",
      _EMOSYNTHNET,
      notes=[
        "An image for each run, of its reported split, with counts and percentages.",
      ],
    ),
    Figure(
      ("3.7",),
      "saliency",
      "Grad-CAM of EmoSynthNet on CIFAR-10, with its confidence",
      _EMOSYNTHNET[1:],
      notes=[
        "An image for each run. The images are sampled with a fixed seed, one "
        "classified correctly and one misclassified of each class, with guided "
        "backpropagation.",
      ],
    ),
    Figure(
      ("3.8", "3.9"),
      "accuracies",
      "Accuracy by epoch of six networks on CIFAR-10",
      [row for row in table_3_3.ROWS if row.data],
      every_seed=True,
      notes=[
        "Training (3.8) on the left, validation (3.9) on the right. The runs are of "
        "table 3.3. Seeds of one network are averaged.",
      ],
    ),
    Figure(
      ("3.10", "3.11"),
      "accuracies",
      "Accuracy by epoch of six networks on SVHN",
      [row for row in table_3_4.ROWS if row.data],
      every_seed=True,
      notes=[
        "Training (3.10) on the left, validation (3.11) on the right. The runs are "
        "of table 3.4. Seeds of one network are drawn as their mean.",
      ],
    ),
  ]


def _figures_of_losses(all_cnn: list[Row], fer2013: list[Row]) -> list[Figure]:
  """The figures of chapter 4."""
  cifar10 = [Row(f"EmoSynthNet, {v}", "cifar10", v) for v in ("ce", "mam")]
  return [
    Figure(
      ("4.2",),
      "toy networks",
      "Embeddings of two and three dimensions on MNIST and CIFAR-10, by loss",
      data="mnist",
      notes=[
        "A small network whose embedding is plotted without projection: in the plane, "
        "or as a direction in space. Cross-entropy (softmax), MAM-SoftMax, "
        "MAM-SoftMax + SCE, and ArcFace for reference, on a few thousand images; "
        "two to three minutes a data set on one core. The thesis's figure is on "
        "CIFAR-10, of which so small a network learns little. For one seed, all losses "
        "have the same initialization and batches. Metrics are of validation images, "
        "held out of train and not used for selection.",
        "Outputs: figure_4_2.png (the first seed), figure_4_2.txt and .json (all "
        "seeds), figure_4_2.npz (embeddings and the last layers' weights) of MNIST, "
        "figure_4_2-cifar10.png and so on of CIFAR-10.",
        "The last layer has no bias, as in the papers on angular margins, so that the "
        "classes are separated by angle. The thesis does not describe its network: "
        "the setting is this project's own.",
      ],
    ),
    Figure(
      ("4.3",),
      "curves",
      "Accuracy and loss by epoch of All-CNN-C on MNIST under two losses",
      all_cnn,
      every_seed=True,
      notes=[
        "The training commands take a quarter of the width and 4,000 images, two "
        "minutes a run on two CPU cores. The thesis trains 30 epochs of full width "
        "by Adam with 1e-3 (all_cnn,thesis,ce and --config.num_epochs=30).",
      ],
      training=[_all_cnn_training(loss) for loss in ("ce", "mam_sce")],
    ),
    Figure(
      ("4.4",),
      "landscape",
      "Loss contours around networks trained with two losses",
      fer2013,
      small=["--grid=25", "--images=256"],
      full=["--grid=51", "--images=1024"],
      notes=[
        "The flags are those of emosynth_jax.analysis.loss_landscape, whose results "
        "are cached in the workdirs. Directions, images, axes and levels are the same "
        "for all runs; the loss is the margin-free cross-entropy for all.",
      ],
    ),
    Figure(
      ("4.5",),
      "curvature",
      "Smallest over largest eigenvalue of the Hessian around two trained networks",
      fer2013,
      small=["--grid=7", "--images=64", "--steps=30"],
      full=["--grid=21", "--images=256", "--steps=30"],
      defaults={"grid": 21},
      notes=[
        "The flags are those of emosynth_jax.analysis.curvature, whose results are "
        "cached in the workdirs. The plane is that of figure 4.4.",
      ],
    ),
    Figure(
      ("4.6",),
      "embeddings",
      "t-SNE of the embeddings on CIFAR-10, softmax against MAM-SoftMax",
      cifar10,
      every_seed=True,
      small=_POINTS,
      notes=[
        "The runs are of table 4.1; several seeds of each give paired differences. "
        "The .txt file has the class separation metrics, which t-SNE does not show.",
      ],
    ),
  ]


def _figures_of_faces(
  fer2013: list[Row], raf_db: list[Row], ck_plus: list[Row]
) -> list[Figure]:
  """The figures of chapter 5."""
  return [
    Figure(
      ("5.1",),
      "embeddings",
      "t-SNE of the embeddings on FER-2013, softmax against MAM-SoftMax + SCE",
      fer2013,
      every_seed=True,
      small=_POINTS,
      notes=[
        "The runs are of table 5.1, the images PrivateTest's. The .txt file has the "
        "class separation metrics, which t-SNE does not show.",
      ],
    ),
    Figure(
      ("5.2",),
      "curves",
      "Accuracy and loss by epoch on FER-2013",
      fer2013,
      every_seed=True,
      notes=[
        "The runs are of table 5.1; validation is PublicTest. Seeds of one loss are "
        "averaged.",
      ],
    ),
    Figure(
      ("5.3",),
      "confusions",
      "Confusion matrices on FER-2013",
      fer2013,
      notes=[
        "An image for each run of table 5.1, of PrivateTest.",
      ],
    ),
    Figure(
      ("5.4",),
      "embeddings",
      "t-SNE of the embeddings on RAF-DB, softmax against MAM-SoftMax + SCE",
      raf_db,
      every_seed=True,
      small=_POINTS,
      defaults={"points": 0},
      notes=[
        "The runs are of table 5.2 and need your copy of the data. The thesis shows "
        '"hard samples" separately and does not define them: by default all test '
        "images are plotted.",
      ],
    ),
    Figure(
      ("5.5",),
      "curves and confusions",
      "Accuracy and loss by epoch and confusion matrices on RAF-DB",
      raf_db,
      notes=[
        "The runs are of table 5.2 and need your copy of the data.",
      ],
    ),
    Figure(
      ("5.6",),
      "curves and confusions",
      "Accuracy and loss by epoch and confusion matrices on CK+, one fold",
      ck_plus,
      notes=[
        "The runs are of table 5.3, a fold each, and need your copy of the data. A "
        "fold is a tenth of the subjects; table 5.3 combines all folds.",
      ],
    ),
    Figure(
      ("5.7",),
      "embeddings",
      "t-SNE of the embeddings on CK+, one fold, softmax against MAM-SoftMax + SCE",
      ck_plus,
      every_seed=True,
      small=_POINTS,
      notes=[
        "The runs are of table 5.3, on one fold, and need your copy of the data.",
      ],
    ),
    Figure(
      ("5.8",),
      "saliency",
      "Grad-CAM and guided Grad-CAM of faces",
      fer2013[1:],
      notes=[
        "An image for each run. The images are sampled with a fixed seed, one "
        "classified correctly and one misclassified of each expression. "
        "docs/guides/analysis/index.md explains the limits of such maps.",
      ],
    ),
  ]


def _all_cnn_training(loss):
  return [
    *("-m", "emosynth_jax.main", f"--config=configs/mnist.py:all_cnn,small,{loss}"),
    *("--config.data.limit=4000", "--config.num_epochs=6"),
    f"--workdir=runs/all_cnn-{loss}-seed0",
  ]


def choose(figures: Sequence[Figure], numbers: Sequence[str]) -> list[Figure]:
  """Selects figures by their numbers.

  Args:
    figures: of `figures_of`.
    numbers: the thesis's, as "3.9"; none for all.

  Returns:
    Those figures, in their order.

  Raises:
    ValueError: for an unknown number.
  """
  known = [number for figure in figures for number in figure.numbers]
  if unknown := [number for number in numbers if number not in known]:
    raise ValueError(f"no figure {unknown[0]!r}; available: {', '.join(known)}")
  return [f for f in figures if not numbers or set(numbers) & set(f.numbers)]
