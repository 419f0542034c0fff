"""Inline SVG charts with the page's colors and fonts.

Built as element trees, so that arbitrary names are escaped. Sizes are in units of a
chart that is 360 wide, about a phone's pixels: text is readable there and not too large
on wider screens.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import markupsafe
import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH = 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 10.0, 36.0


class Frame(NamedTuple):
  """A chart with axes: add to `svg`, at the positions that `x` and `y` return."""

  svg: ET.Element
  x: Callable[[float], float]
  y: Callable[[float], float]


def new(width: float, height: float, description: str) -> ET.Element:
  """An empty chart; the description is its alternative text."""
  return ET.Element(
    "svg",
    {
      "class": "chart",
      "viewBox": f"0 0 {number(width)} {number(height)}",
      "role": "img",
      "aria-label": description,
    },
  )


def add(parent: ET.Element, tag: str, text: str = "", **attributes: Any) -> ET.Element:
  """Adds an element; `class_` is "class", and an underscore inside a dash."""
  named = {
    key.rstrip("_").replace("_", "-"): number(value)
    if isinstance(value, float)
    else str(value)
    for key, value in attributes.items()
  }
  element = ET.SubElement(parent, tag, named)
  if text:
    element.text = text
  return element


def markup(svg: ET.Element) -> markupsafe.Markup:
  """The chart as part of a page."""
  return markupsafe.Markup(ET.tostring(svg, encoding="unicode"))


def frame(
  description: str,
  *,
  x: tuple[float, float],
  y: tuple[float, float],
  x_ticks: Sequence[float],
  y_ticks: Sequence[float],
  x_label: str,
  height: float = 220.0,
  format_tick: Callable[[float], str] | None = None,
  log_y: bool = False,
) -> Frame:
  """A chart with horizontal lines at the ticks of y and none of x.

  Args:
    description: alternative text of the chart.
    x: first and last value.
    y: likewise, upwards.
    x_ticks: where values are written below.
    y_ticks: where lines are drawn, with their values to the left.
    x_label: below the values.
    height: of the chart.
    format_tick: of y's values; None for as many decimals as one of them needs.
    log_y: whether y is on a logarithmic scale.

  Returns:
    The chart.
  """
  svg = new(WIDTH, height, description)
  format_tick = format_tick or same_decimals(y_ticks)
  bottom = height - _BOTTOM

  def scale_y(value):
    return math.log(value) if log_y else value

  def to_x(value):
    return _LEFT + (value - x[0]) / (x[1] - x[0]) * (WIDTH - _RIGHT - _LEFT)

  def to_y(value):
    low, high = map(scale_y, y)
    return bottom + (scale_y(value) - low) / (high - low) * (_TOP - bottom)

  for tick in y_ticks:
    add(svg, "path", class_="grid", d=f"M{_LEFT:g} {number(to_y(tick))}H{WIDTH:g}")
    add(
      svg,
      "text",
      format_tick(tick),
      class_="tick",
      x=_LEFT - 6,
      y=to_y(tick) + 4,
      text_anchor="end",
    )

  for tick in x_ticks:
    place = {"x": to_x(tick), "y": bottom + 16, "text_anchor": "middle"}
    add(svg, "text", f"{tick:g}", class_="tick", **place)

  place = {"x": (_LEFT + WIDTH) / 2, "y": height - 4, "text_anchor": "middle"}
  add(svg, "text", x_label, class_="tick", **place)

  return Frame(svg, to_x, to_y)


def ticks(
  low: float, high: float, most: int = 5, *, whole: bool = False
) -> list[float]:
  """Round numbers that span low to high."""
  if high <= low:
    low, high = low - 0.5, high + 0.5
  found = MaxNLocator(most, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(
    low, high
  )
  return [float(tick) for tick in found]


def same_decimals(values: Sequence[float]) -> Callable[[float], str]:
  """A format with as many decimals for all values as one of them needs."""
  decimals = max((len(f"{v:g}".partition(".")[2]) for v in values), default=0)
  return f"{{:.{decimals}f}}".format


def line(points: Sequence[tuple[float, float]]) -> str:
  """A path through points, with a gap where one is not finite."""
  parts, drawing = [], False
  for x, y in points:
    if not (math.isfinite(x) and math.isfinite(y)):
      drawing = False
      continue
    parts.append(f"{'L' if drawing else 'M'}{number(x)} {number(y)}")
    drawing = True
  return "".join(parts)


def dots(points: np.ndarray) -> str:
  """A path with a dot at each point, drawn by round line caps.

  It takes 1/10 of the size of separate circles.
  """
  finite = points[np.isfinite(points).all(axis=1)]
  return "".join(f"M{number(x)} {number(y)}h0" for x, y in finite)


def number(value: float) -> str:
  """Formats a coordinate with at most two decimals."""
  text = f"{value:.2f}".rstrip("0").rstrip(".")
  return "0" if text in ("-0", "") else text
