"""Contact sheet of near-duplicate pairs, to verify the audit's thresholds by eye."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emosynth_jax.data import duplicates
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import files

_COLUMNS = 4
_SIDE = 112  # of an image, in pixels, approximately
_CAPTION = 132  # width of a caption
_LINE = 13
_INK, _RED = (40, 40, 40), (190, 30, 30)


class Pair(NamedTuple):
  """Two near-duplicates, by their indices in the concatenated data sets."""

  first: int
  second: int
  across: bool  # whether they are of two splits
  kind: str  # "exact", "near" or "mirrored"
  distance: int
  correlation: float


def choose_pairs(
  datasets: Mapping[str, Dataset], found: duplicates.Duplicates, max_pairs: int
) -> list[Pair]:
  """Chooses pairs for a contact sheet: one per group, across splits if possible.

  The pair with the lowest correlation of each group is taken. Groups that span several
  splits come first; if there are too many, they are sampled evenly in order of
  correlation, so that doubtful and clear pairs are both shown.

  Args:
    datasets: by split.
    found: of the images of all splits, concatenated.
    max_pairs: maximum number of pairs.

  Returns:
    The pairs, across splits first, the lowest correlation first.
  """
  split_of = np.repeat(np.arange(len(datasets)), [len(d) for d in datasets.values()])
  copies: dict[int, list[int]] = {}
  for i, representative in enumerate(found.exact.tolist()):
    copies.setdefault(representative, []).append(i)
  chosen: dict[int, Pair] = {}

  def consider(ones, others, kind, distance, correlation):
    first = ones[0]
    second = next((i for i in others if split_of[i] != split_of[first]), others[-1])
    if split_of[second] == split_of[first]:
      # The others are all of one split: another image of the group may be in another.
      first = next((i for i in ones if split_of[i] != split_of[second]), first)
    across = bool(split_of[first] != split_of[second])
    pair = Pair(first, second, across, kind, distance, correlation)
    group = int(found.groups[first])
    old = chosen.get(group)
    if old is None or (not across, correlation) < (not old.across, old.correlation):
      chosen[group] = pair

  for same in copies.values():
    if len(same) > 1:
      consider(same, same, "exact", 0, 1.0)

  for (a, b), flip, distance, correlation in zip(
    found.pairs.tolist(),
    found.mirrored.tolist(),
    found.distances.tolist(),
    found.correlations.tolist(),
    strict=True,
  ):
    kind = "mirrored" if flip else "near"
    consider(copies[a], copies[b], kind, distance, correlation)

  ranked = sorted(chosen.values(), key=lambda pair: pair.correlation)
  across = _evenly([pair for pair in ranked if pair.across], max_pairs)
  within = [pair for pair in ranked if not pair.across]
  return across + _evenly(within, max_pairs - len(across))


def draw_pairs(
  datasets: Mapping[str, Dataset],
  pairs: Sequence[Pair],
  path: str | os.PathLike[str],
) -> None:
  """Draws pairs side by side, each image with its split, label and source.

  Labels that differ are red.

  Args:
    datasets: by split.
    pairs: of `choose_pairs`; if there are none, the sheet says so.
    path: the PNG file.
  """
  font = ImageFont.load_default(size=10)
  rows = [
    (dataset, name, i)
    for name, dataset in datasets.items()
    for i in range(len(dataset))
  ]
  height, width = next(iter(datasets.values())).images.shape[1:3]
  scale = max(1, round(_SIDE / max(height, width)))
  image_size = (width * scale, height * scale)
  step_x = 2 * max(image_size[0] + 4, _CAPTION) + 16
  step_y = image_size[1] + 3 * _LINE + 12
  num_rows = max(1, -(-len(pairs) // _COLUMNS))
  num_columns = max(1, min(_COLUMNS, len(pairs)))
  sheet = Image.new("RGB", (8 + num_columns * step_x, 8 + num_rows * step_y), "white")
  draw = ImageDraw.Draw(sheet)
  if not pairs:
    draw.text((8, 8), "no near-duplicates", font=font, fill=_INK)

  for k, pair in enumerate(pairs):
    left, top = 8 + k % _COLUMNS * step_x, 8 + k // _COLUMNS * step_y
    shown = [rows[pair.first], rows[pair.second]]
    differ = len({int(dataset.labels[i]) for dataset, _, i in shown}) > 1
    for side, (dataset, name, i) in enumerate(shown):
      x = left + side * ((step_x - 16) // 2)
      image = Image.fromarray(dataset.images[i].squeeze()).convert("RGB")
      sheet.paste(image.resize(image_size, Image.Resampling.NEAREST), (x, top))
      label = dataset.class_names[dataset.labels[i]]
      ink = _RED if differ else _INK
      below = top + image_size[1] + 1
      draw.text((x, below), f"{name}: {label}", font=font, fill=ink)
      source = _shorten(dataset.sources[i].rpartition("/")[2])
      draw.text((x, below + _LINE), source, font=font, fill=_INK)
    text = pair.kind
    if pair.kind != "exact":
      text += f": {pair.distance} bits, correlation {pair.correlation:.3f}"
    draw.text((left, top + image_size[1] + 1 + 2 * _LINE), text, font=font, fill=_INK)

  content = io.BytesIO()
  # A palette: eight bits per pixel are sufficient here.
  sheet.quantize(64, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
  files.write_atomically(path, content.getvalue())


def _evenly(pairs: list[Pair], count: int) -> list[Pair]:
  """Selects `count` evenly spaced pairs, including the first and the last."""
  if len(pairs) <= count:
    return pairs
  return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def _shorten(text: str) -> str:
  return text if len(text) <= 25 else "..." + text[-22:]
