"""Matplotlib figures without pyplot, whose state is global, and their PNG files."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emosynth_jax.utils import files

# From the color-blind-safe palette of Okabe and Ito (2008).
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#666666"


def new_figure(width: float, height: float) -> Figure:
  """An empty figure, in inches, without pyplot's global state."""
  figure = Figure(figsize=(width, height))
  figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
  return figure


def wrap_title(title: str, width: float) -> str:
  """Breaks a title of 11 points into lines of `width` inches."""
  # Not matplotlib's wrapping, which interprets dollar signs as mathematics.
  return textwrap.fill(title, int(11 * width))


def clean(axis: Axes) -> None:
  """Removes spines and ticks that a plot does not need."""
  axis.spines[["top", "right"]].set_visible(False)
  axis.set_axisbelow(True)
  axis.grid(axis="y", color="#dddddd", linewidth=0.6)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
  """Writes a figure as PNG atomically; equal figures give equal files."""
  content = io.BytesIO()
  figure.savefig(
    content,
    format="png",
    dpi=150,
    # The constrained layout clips labels beside axes of a fixed aspect.
    bbox_inches="tight",
    pad_inches=0.1,
    # Without the version as metadata, so that equal figures give equal files.
    metadata={"Software": None},
  )
  files.write_atomically(path, content.getvalue())


def text_color(background: Sequence[float] | np.ndarray) -> str:
  """Black or white, whichever contrasts more by WCAG 2.1's relative luminance.

  Args:
    background: red, green and blue, from 0 to 1; further channels are ignored.

  Returns:
    "black" or "white".
  """
  channels = np.asarray(background[:3])
  linear = np.where(
    channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
  )
  # (L + 0.05) / 0.05 against 1.05 / (L + 0.05): equal at L = sqrt(0.0525) - 0.05.
  return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"
