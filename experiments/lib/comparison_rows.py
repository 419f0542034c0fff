"""Rows of a comparison: claimed results, training settings and folders."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from emosynth_jax.config import defaults

MEASURES = ("accuracy", "loss", "precision", "recall", "f1")
# The networks of tables 3.3 and 3.4, as the thesis calls them.
LABELS = {
  "mobilenet_v2": "MobileNetV2",
  "efficientnet_b0": "EfficientNetB0",
  "resnet50": "ResNet50",
  "densenet121": "DenseNet121",
  "vgg19": "VGG19",
  "emosynthnet": "EmoSynthNet",
}

# Changes of the small scale by data set; the others have them in their configs.
_SMALL_EPOCHS = {"mnist": 4, "cifar10": 6, "svhn": 6}
_SMALL_IMAGES = {"mnist": 4000, "cifar10": 8000, "svhn": 8000}


class Row(NamedTuple):
  """One line of a table.

  Attributes:
    label: label in the table.
    data: stem of a file in configs/, or "" for a row that is only quoted.
    variants: of that config: network and loss, as in "resnet50,mse".
    claimed: results of the thesis, some of `MEASURES`, in percent except "loss".
    note: source of the claim, or a caveat.
    settings: further changes to the config, as {"data.options.fold": 3}; they are part
      of the folder's name. "{seed}" in a text stands for the run's seed.
    deduplicated: whether to also report the deduplicated evaluation, without images
      that have a near-duplicate in an earlier split.
  """

  label: str
  data: str = ""
  variants: str = ""
  claimed: Mapping[str, float] = {}
  note: str = ""
  settings: Mapping[str, Any] = {}
  deduplicated: bool = False


def network_rows(
  data: str, claims: Mapping[str, tuple[float, float, float, float, float]]
) -> list[Row]:
  """Rows of tables 3.3 and 3.4: networks on one data set with cross-entropy.

  Args:
    data: stem of a file in configs/.
    claims: by variant, the thesis's accuracy, error (the loss), precision, recall, and
      F1 as a fraction.

  Returns:
    A row each.
  """
  rows = []
  for network, (*others, f1) in claims.items():
    variants = "ce" if network == "emosynthnet" else f"{network},ce"
    claimed = dict(zip(MEASURES, [*others, 100 * f1], strict=True))
    rows.append(Row(LABELS[network], data, variants, claimed))
  return rows


def build_config(
  row: Row, seed: int, scale: str, data_dir: str | None
) -> ml_collections.ConfigDict:
  """Builds the row's config at a scale.

  Args:
    row: of the table.
    seed: of the run.
    scale: "full" for the config's own network, "small" for narrow networks and few
      epochs. The thesis's comparison of networks has batch 96 and 50 epochs, or in the
      small scale a part of the images; on faces the config's settings are used.
    data_dir: data set directory; None for the config's.

  Returns:
    The config, checked.
  """
  module = importlib.import_module(f"configs.{row.data}")
  variants = [*row.variants.split(","), "small" if scale == "small" else ""]
  config = module.get_config(",".join(filter(None, variants)))
  config.seed = seed
  config.evaluate_deduplicated = row.deduplicated
  if row.data in _SMALL_EPOCHS:
    config.batch_size = 96 if scale == "full" else 64
    config.num_epochs = 50
    if scale == "small":
      config.num_epochs = _SMALL_EPOCHS[row.data]
      config.data.limit = _SMALL_IMAGES[row.data]
  config.update_from_flattened_dict(_settings(row, seed))
  if data_dir:
    config.data.data_dir = data_dir
  defaults.check_config(config)
  return config


def run_folder(workdir: pathlib.Path, row: Row, seed: int | str) -> pathlib.Path:
  """Folder of a row's run with a seed; for the seed "{seed}" a pattern of it."""
  parts = [row.data, *filter(None, row.variants.split(","))]
  for path, value in _settings(row, seed).items():
    # Only the last part of a path: the run records all of it.
    value = pathlib.PurePath(value).name if isinstance(value, str) else value
    parts.append(f"{path.rpartition('.')[2]}_{value}")
  return workdir / "-".join([*parts, f"seed{seed}"])


def _settings(row: Row, seed: int | str) -> dict[str, Any]:
  """A row's settings, for one seed."""
  return {
    path: value.replace("{seed}", str(seed)) if isinstance(value, str) else value
    for path, value in row.settings.items()
  }
