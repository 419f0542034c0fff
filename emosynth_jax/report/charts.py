"""Charts of a report: training curves, calibration, embeddings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import markupsafe
import numpy as np

from emosynth_jax.metrics import plots
from emosynth_jax.report import svg

# With more classes than this, names are omitted and colors repeat.
COLORS = 10
_SIDE = 340.0  # of an embedding's plot
_LINE = 15.0  # between two names in it


class Series(NamedTuple):
  """A line of a chart: its CSS classes, and a value for each epoch."""

  style: str
  epochs: Sequence[float]
  values: Sequence[float]


def series_of(
  records: Sequence[Mapping[str, Any]], key: str, style: str, factor: float = 1.0
) -> Series:
  """One value of a run's records by epoch; records without it are skipped."""
  epochs, values = plots.series(records, key)
  return Series(style, epochs.tolist(), (factor * values).tolist())


def curves(
  series: Sequence[Series],
  description: str,
  *,
  best_epoch: int | None = None,
  log: bool = False,
  steps: bool = False,
) -> markupsafe.Markup | None:
  """Line chart over the epochs; with few points each is a dot.

  Args:
    series: the lines; those of one epoch are a dot.
    description: alternative text.
    best_epoch: marked by a line, if given.
    log: whether the values, all positive, are on a logarithmic scale.
    steps: whether a value holds for its whole epoch.

  Returns:
    The chart; None if no value is finite.
  """
  values = [v for one in series for v in one.values if math.isfinite(v)]
  if not values:
    return None

  last = max(epoch for one in series for epoch in one.epochs)
  first = min(epoch for one in series for epoch in one.epochs)
  if log:
    y_ticks, limits = _log_ticks(values)
  else:
    y_ticks = svg.ticks(min(values), max(values))
    limits = (y_ticks[0], y_ticks[-1])

  x_ticks = [t for t in svg.ticks(first, last, 6, whole=True) if first <= t <= last]
  chart = svg.frame(
    description,
    # The same for steps and points, so that charts side by side share their axis.
    x=(first - 0.5, last + 0.5),
    y=limits,
    x_ticks=x_ticks,
    y_ticks=y_ticks,
    x_label="epoch",
    log_y=log,
    format_tick=_power if log else None,
  )
  if best_epoch is not None:
    x, bottom, top = chart.x(best_epoch), chart.y(limits[0]), chart.y(limits[1])
    path = f"M{svg.number(x)} {svg.number(bottom)}V{svg.number(top)}"
    svg.add(chart.svg, "path", class_="mark", d=path)

  for one in series:
    points = [
      (chart.x(epoch), chart.y(value) if math.isfinite(value) else math.nan)
      for epoch, value in zip(one.epochs, one.values, strict=True)
    ]
    if steps:
      half = (chart.x(1) - chart.x(0)) / 2
      points = [(x + side, y) for x, y in points for side in (-half, half)]
    svg.add(chart.svg, "path", class_=f"line {one.style}", d=svg.line(points))
    if len(points) <= 40 and len(series) <= 3 and not steps:
      path = svg.dots(np.asarray(points, np.float64).reshape(-1, 2))
      svg.add(chart.svg, "path", class_=f"dots {one.style}", d=path)

  return svg.markup(chart.svg)


def reliability(
  calibrations: Sequence[tuple[str, Mapping[str, Any]]], description: str
) -> markupsafe.Markup:
  """Reliability diagram: bars for one network, lines for several.

  Args:
    calibrations: CSS classes and "calibration" of `classification.summarize`, each.
    description: alternative text.

  Returns:
    The chart.
  """
  steps = [0, 20, 40, 60, 80, 100]
  chart = svg.frame(
    description,
    x=(0, 100),
    y=(0, 100),
    x_ticks=steps,
    y_ticks=steps,
    x_label="confidence (%)",
    height=330.0,
  )

  for style, calibration in calibrations:
    left, width, confidence, accuracy, _ = plots.occupied_bins(calibration)
    if len(calibrations) == 1:
      _add_bars(chart, left, width, accuracy)
      for c, a in zip(confidence, accuracy, strict=True):
        place = svg.number(chart.x(c))
        path = f"M{place} {svg.number(chart.y(a))}V{svg.number(chart.y(c))}"
        svg.add(chart.svg, "path", class_="gap s1", d=path)
    points = [
      (chart.x(c), chart.y(c if len(calibrations) == 1 else a))
      for c, a in zip(confidence, accuracy, strict=True)
    ]
    if len(calibrations) > 1:
      svg.add(chart.svg, "path", class_=f"line {style}", d=svg.line(points))
    path = svg.dots(np.asarray(points, np.float64).reshape(-1, 2))
    svg.add(chart.svg, "path", class_=f"dots {style}", d=path)

  diagonal = svg.line([(chart.x(0), chart.y(0)), (chart.x(100), chart.y(100))])
  svg.add(chart.svg, "path", class_="mark", d=diagonal)
  return svg.markup(chart.svg)


def confidences(
  calibrations: Sequence[tuple[str, Mapping[str, Any]]],
  description: str,
  *,
  height: float = 130.0,
) -> markupsafe.Markup:
  """Histogram of confidence: share of examples in each bin.

  Args:
    calibrations: as `reliability` takes them; bars for one network, steps for several.
    description: alternative text.
    height: of the chart.

  Returns:
    The chart, with the axis of `reliability`.
  """
  found = [(style, plots.occupied_bins(each)) for style, each in calibrations]
  y_ticks = svg.ticks(0, max(bins[-1].max() for _, bins in found), 3)
  chart = svg.frame(
    description,
    x=(0, 100),
    y=(0, y_ticks[-1]),
    x_ticks=[0, 20, 40, 60, 80, 100],
    y_ticks=y_ticks,
    x_label="confidence (%)",
    height=height,
  )
  for style, (left, width, _, _, share) in found:
    if len(found) == 1:
      _add_bars(chart, left, width, share)
      continue
    points: list[tuple[float, float]] = []
    for start, wide, high in zip(left, width, share, strict=True):
      if not points or points[-1][0] < start - 1e-9:
        # An empty bin before this one, or the first.
        points += [(points[-1][0] if points else start, 0.0), (start, 0.0)]
      points += [(start, high), (start + wide, high)]
    points.append((points[-1][0], 0.0))
    path = svg.line([(chart.x(x), chart.y(y)) for x, y in points])
    svg.add(chart.svg, "path", class_=f"line {style}", d=path)
  return svg.markup(chart.svg)


def embedding(
  points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], description: str
) -> tuple[markupsafe.Markup, list[markupsafe.Markup]]:
  """Scatter plots of projected embeddings: all classes in one, and one of each class.

  Colors alone do not distinguish ten classes, in particular with color vision
  deficiency: hence the plots by class.

  Args:
    points: `(N, 2)`.
    labels: int `(N,)`.
    class_names: K names.
    description: alternative text of the first plot.

  Returns:
    The plot, and K plots with each class's points over those of all, which are drawn
    once and reused.
  """
  low, high = points.min(axis=0), points.max(axis=0)
  scale = (_SIDE - 20) / max(float((high - low).max()), 1e-9)
  # One scale for both axes, y upwards, and no higher than the points need.
  height = max(float((high - low)[1]) * scale + 20, _SIDE / 3)
  places = (points - (low + high) / 2) * [scale, -scale] + [_SIDE / 2, height / 2]
  whole = svg.new(_SIDE, height, description)
  definitions = svg.add(whole, "defs")
  svg.add(definitions, "path", id="embedding-all", d=svg.dots(places))
  of_class = [svg.dots(places[labels == k]) for k in range(len(class_names))]
  for k, path in enumerate(of_class):
    svg.add(whole, "path", class_=f"points s{k % COLORS}", d=path)

  if len(class_names) <= COLORS:
    for k, (x, y) in _name_places(places, labels, len(class_names), height):
      svg.add(
        whole,
        "text",
        class_names[k],
        class_="name",
        x=x,
        y=y,
        text_anchor="middle",
      )

  panels = []
  for k, name in enumerate(class_names):
    panel = svg.new(_SIDE, height, f"{name} among all classes")
    svg.add(panel, "use", class_="points faint", href="#embedding-all")
    svg.add(panel, "path", class_=f"points large s{k % COLORS}", d=of_class[k])
    panels.append(svg.markup(panel))

  return svg.markup(whole), panels


def interval(low: float, value: float, high: float) -> markupsafe.Markup:
  """A proportion with its interval on a line from 0 to 1; the table has the numbers."""
  strip = svg.new(120.0, 14.0, "")
  del strip.attrib["role"], strip.attrib["aria-label"]
  strip.set("aria-hidden", "true")
  strip.set("class", "strip")
  svg.add(strip, "path", class_="grid", d="M2 7H118")
  left, right = 2 + 116 * low, 2 + 116 * high
  path = f"M{svg.number(left)} 7H{svg.number(right)}"
  svg.add(strip, "path", class_="range", d=path)
  svg.add(strip, "circle", cx=2 + 116 * value, cy=7.0, r=3.5)
  return svg.markup(strip)


def _add_bars(
  chart: svg.Frame, left: np.ndarray, width: np.ndarray, height: np.ndarray
) -> None:
  """Bars from 0 up, with gaps between them."""
  for start, wide, high in zip(left, width, height, strict=True):
    x, y = chart.x(start), chart.y(high)
    svg.add(
      chart.svg,
      "rect",
      class_="bar",
      x=x + 0.5,
      y=y,
      width=chart.x(start + wide) - x - 1,
      height=chart.y(0) - y,
    )


def _log_ticks(values: Sequence[float]) -> tuple[list[float], tuple[float, float]]:
  low, high = min(values), max(values)
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  ticks = [10.0**power for power in range(first, max(last, first + 1) + 1)]
  return ticks, (ticks[0], ticks[-1])


def _power(tick: float) -> str:
  return f"1e{round(math.log10(tick))}".replace("-", "\u2212")


def _name_places(
  places: np.ndarray, labels: np.ndarray, num_classes: int, height: float
) -> list[tuple[int, tuple[float, float]]]:
  """Positions of the class names: at their medians, moved down on collision."""
  medians = [
    (k, *np.median(places[labels == k], axis=0))
    for k in range(num_classes)
    if (labels == k).any()
  ]
  found: list[tuple[int, tuple[float, float]]] = []

  for k, x, y in sorted(medians, key=lambda place: place[2]):
    near = [b for _, (a, b) in found if abs(a - x) < 70]
    while any(abs(b - y) < _LINE for b in near):
      y = max(b for b in near if abs(b - y) < _LINE) + _LINE
    found.append((k, (float(x), min(float(y), height - 6))))

  return found
