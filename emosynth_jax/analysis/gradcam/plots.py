"""Plot of Grad-CAM and guided backpropagation."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from scipy import special

from emosynth_jax.utils import plotting

_COLUMNS = ("image", "Grad-CAM", "guided backprop.", "guided Grad-CAM")
_SIDE = 1.05  # of a panel, in inches
_BAR = 0.62  # height of the color bar with its labels, in inches
# The share of pixels that a signed map's scale leaves out: otherwise few outliers would
# turn the rest gray.
_OUTLIERS = 0.5


def draw(
  path: str | os.PathLike,
  *,
  images: np.ndarray,
  labels: np.ndarray,
  found: Mapping[str, np.ndarray],
  class_names: Sequence[str],
  title: str,
) -> None:
  """Draws one correctly and one incorrectly classified image per class.

  Each panel has its own scale. Grad-CAM is overlaid on the image, from transparent at 0
  over yellow to red at its maximum, as the color bar shows. In guided backpropagation
  and guided Grad-CAM gray is 0.

  Args:
    path: the PNG file.
    images: uint8 `(M, H, W, C)`.
    labels: int `(M,)`.
    found: "grad_cam" `(M, H, W)`, "guided_backprop" and "guided_grad_cam"
      `(M, H, W, C)`, "logits" `(M, K)`, "targets" `(M,)`.
    class_names: K names.
    title: title of the plot.
  """
  predicted = found["logits"].argmax(-1)
  examples = choose_examples(labels, predicted, len(class_names))
  width = 2 * len(_COLUMNS) * _SIDE + 1.2
  height = len(examples) * (_SIDE + 0.28) + 1
  figure = plotting.new_figure(width, height + _BAR)
  halves = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, _BAR))
  upper, lower = halves[:, 0]
  upper.suptitle(title, fontsize=11, parse_math=False)
  blocks = upper.subfigures(1, 2, squeeze=False)[0]

  for side, heading in enumerate(("right", "wrong")):
    block = blocks[side]
    block.suptitle(f"classified {heading}", fontsize=10)
    axes = block.subplots(len(examples), len(_COLUMNS), squeeze=False)
    for row, pair in zip(axes, examples, strict=True):
      for axis in row:
        axis.set_axis_off()
      i = pair[side]
      # The caption is wider than its panel: it is excluded from the layout, which is
      # not possible for titles, and an empty title reserves its height.
      row[0].set_title(" ", fontsize=7.5)
      if i is None:
        true_class = labels[next(j for j in pair if j is not None)]
        text = f"({class_names[true_class]}: none)"
      else:
        text = caption(found, i, labels, class_names)
      above = row[0].text(
        0, 1.06, text, transform=row[0].transAxes, fontsize=7.5, parse_math=False
      )
      above.set_in_layout(False)
      if i is None:
        for axis in row:
          axis.imshow(np.ones(images.shape[1:3]), cmap="gray", vmin=0, vmax=1)
        continue
      gray = _gray(images[i])
      row[0].imshow(images[i].squeeze(), cmap="gray", vmin=0, vmax=255)
      row[1].imshow(overlay(gray, found["grad_cam"][i]))
      row[2].imshow(signed(found["guided_backprop"][i]), cmap="gray", vmin=0, vmax=1)
      row[3].imshow(signed(found["guided_grad_cam"][i]), cmap="gray", vmin=0, vmax=1)

    for axis, name in zip(axes[-1], _COLUMNS, strict=True):
      axis.text(
        0.5, -0.06, name, transform=axis.transAxes, ha="center", va="top", fontsize=7.5
      )

  _draw_bar(lower)
  plotting.save(figure, path)


def _draw_bar(figure) -> None:
  """The colors of `overlay` on mid-gray."""
  axis = figure.subplots()
  shares = np.linspace(0, 1, 256)[None]
  axis.imshow(overlay(np.full(shares.shape, 0.5), shares), extent=(0, 1, 0, 0.02))
  axis.set_yticks([])
  axis.set_xticks([0, 0.5, 1], ["0", "half", "its maximum"], fontsize=7.5)
  axis.set_xlabel(
    "Grad-CAM, each map on its own scale, over the gray image", fontsize=7.5
  )


def describe_layer(layer: str, shape: Sequence[int], margin: int) -> str:
  """A layer and its map's size within the image, as in "layer block4 (3 x 3 pixels)".

  Args:
    layer: its name.
    shape: `(h, w, k)` of its maps.
    margin: see `grad_cam.upsample`.
  """
  height, width = shape[0] - 2 * margin, shape[1] - 2 * margin
  return f"layer {layer} ({height} x {width} pixels)"


def choose_examples(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> list[tuple[int | None, int | None]]:
  """The first correctly and the first incorrectly classified image of each class."""

  def first(rows):
    return int(rows[0]) if len(rows) else None

  return [
    (
      first(np.flatnonzero((labels == k) & (predicted == k))),
      first(np.flatnonzero((labels == k) & (predicted != k))),
    )
    for k in range(num_classes)
    if (labels == k).any()
  ]


def caption(
  found: Mapping[str, Any], i: int, labels: np.ndarray, class_names: Sequence[str]
) -> str:
  """The predicted class and its probability, the true class, and that of the map."""
  logits = found["logits"][i].astype(np.float64)
  shares = special.softmax(logits)
  guess, label = int(logits.argmax()), int(labels[i])
  text = f"{class_names[guess]} {100 * shares[guess]:.0f} %"
  if guess != label:
    text += f", is {class_names[label]} ({100 * shares[label]:.0f} %)"
  target = int(found["targets"][i])
  return text if target == guess else f"{text}; map of {class_names[target]}"


def overlay(gray: np.ndarray, cam: np.ndarray) -> np.ndarray:
  """Overlays a map on a gray image `(H, W)` in [0, 1], as RGB; zeros are transparent.

  Low values are a tint of yellow: dark colors could be mistaken for a dark image.
  """
  largest = cam.max()
  share = cam / largest if largest > 0 else np.zeros_like(cam)
  color = colormaps["autumn_r"](share)[..., :3]
  weight = 0.65 * np.sqrt(share)[..., None]
  mixed = (1 - weight) * gray[..., None] + weight * color
  return np.clip(mixed, 0, 1)  # Rounding may exceed 1, for which matplotlib warns.


def signed(values: np.ndarray) -> np.ndarray:
  """A signed map `(H, W, C)` as an image in [0, 1] whose gray 0.5 is 0."""
  scale = np.percentile(np.abs(values), 100 - _OUTLIERS) or np.abs(values).max() or 1
  return np.clip(0.5 + 0.5 * values.squeeze() / scale, 0, 1)


def _gray(image: np.ndarray) -> np.ndarray:
  return image.astype(np.float64).mean(-1) / 255
