"""Draws docs/notes/architecture.svg: the rooms of the project, and what imports what.

  python -m tools.draw_architecture

The arrows are read from the imports. An arrow that follows from others is left out:
A -> C where A -> B -> C. Layers are those of `imports.LAYERS`; the place of a room
within its layer and its caption are set here.
"""

import pathlib
from collections.abc import Mapping

from tools import imports

# Room -> (center, in columns from the left; caption).
_ROOMS = {
  "losses": (0.5, "pure functions"),
  "models": (1.6, "networks, layers"),
  "config": (3.2, "settings"),
  "utils": (4.5, "helpers"),
  "configs": (2.4, "one per data set"),
  "metrics": (4.0, "numbers and plots"),
  "parallel": (5.0, "many devices"),
  "data": (4.5, "images and splits"),
  "workdir": (3.2, "a run on disk"),
  "training": (2.0, "steps and state"),
  "pretrained": (3.7, "included networks"),
  "train_loop": (0.0, "the training loop"),
  "evaluate": (1.0, "the final report"),
  "analysis": (2.0, "trained networks"),
  "bundle": (3.7, "a network in a file"),
  "audit": (5.0, "faults in data"),
  "main": (0.95, "the command line"),
  "console": (5.7, "all commands"),
  "api": (0.0, "from Python"),
  "report": (2.0, "one HTML page"),
  "predict": (3.7, "photos and videos"),
  "export": (4.75, "ONNX, StableHLO"),
  "experiments": (2.0, "tables and figures"),
  "benchmarks": (3.7, "speed"),
}

# Column in which an arrow passes the layers between its ends, where the nearest free
# one would cross another arrow or touch a box.
_LANES = {("experiments", "bundle"): 2.7, ("experiments", "train_loop"): 0.5}

_WIDTH = 1000
_COLUMN = 148
_LEFT = 80
_ROW = 86
_TOP = 14
_BOX = (126, 46)

# Without a background of its own: boxes are filled, and what lies between them is
# readable on white and on black alike.
_STYLE = """
    text { font: 15px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328;
      text-anchor: middle }
    .name { font-weight: 600 }
    .caption { font-size: 11.5px; fill: #59636e }
    .note { font-size: 12px; fill: #737d88 }
    .box { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.2 }
    .layer { stroke: #818b98; stroke-opacity: .28; stroke-dasharray: 2 5 }
    .arrow { fill: none; stroke: #6b7683; stroke-width: 1.4 }
    .head { fill: #6b7683 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .caption { fill: #a3adb8 }
      .box { fill: #1b2027; stroke: #7d8590 }
      .arrow { stroke: #8b95a1 }
      .head { fill: #8b95a1 }
    }
"""


def reduce(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
  """The transitive reduction of a graph without circles.

  Args:
    graph: node -> nodes that its arrows point to.

  Returns:
    The graph without each arrow whose ends are also joined by a longer path.
  """

  def reached(node: str) -> set[str]:
    return set().union(*({each} | reached(each) for each in graph[node]))

  return {
    node: targets - set().union(*map(reached, targets))
    for node, targets in graph.items()
  }


def draw(graph: Mapping[str, set[str]]) -> str:
  """Draws the rooms and the arrows between them.

  Args:
    graph: of `imports.rooms_graph`.

  Returns:
    An SVG document.

  Raises:
    ValueError: if a room has no place in `_ROOMS`, or a place has no room.
  """
  # The package itself holds its version and nothing else.
  graph = {room: targets for room, targets in graph.items() if room != "emosynth_jax"}
  if unplaced := sorted(set(graph) - set(_ROOMS)):
    raise ValueError(
      f"tools/draw_architecture.py: no place for {', '.join(unplaced)} in _ROOMS"
    )
  if gone := sorted(set(_ROOMS) - set(graph)):
    raise ValueError(
      f"tools/draw_architecture.py: _ROOMS has {', '.join(gone)}, which no longer exist"
    )

  arrows = sorted(
    (source, target) for source, targets in reduce(graph).items() for target in targets
  )
  height = 2 * _TOP + _ROW * (len(imports.LAYERS) - 1) + _BOX[1] + 22
  drawn = sum(map(len, graph.values()))
  note = (
    f"{len(graph)} rooms, {drawn} imports between them. {len(arrows)} arrows are "
    f"drawn; the other {drawn - len(arrows)} follow from these."
  )

  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
    f'width="{_WIDTH}" height="{height}" role="img">',
    "  <title>The rooms of emosynth_jax and the imports between them</title>",
    f"  <style>{_STYLE}  </style>",
    *_draw_layers(),
    *_draw_arrows(arrows),
    *(line for room in sorted(graph) for line in _draw_box(room)),
    f'  <text class="note" x="{_WIDTH // 2}" y="{height - 8}">{note}</text>',
    "</svg>",
  ]
  return "\n".join(lines) + "\n"


def _x(column: float) -> float:
  return _LEFT + _COLUMN * column


def _y(layer: int) -> int:
  """The center of a layer, whose number counts from the ground up."""
  return _TOP + _BOX[1] // 2 + _ROW * (len(imports.LAYERS) - 1 - layer)


def _draw_layers() -> list[str]:
  """Lines that divide the layers."""
  return [
    f'  <path class="layer" d="M 0 {y} H {_WIDTH}"/>'
    for y in (_y(layer) + _ROW // 2 for layer in range(1, len(imports.LAYERS)))
  ]


def _draw_box(room: str) -> list[str]:
  column, caption = _ROOMS[room]
  x, y = _x(column), _y(imports.layer_of(room))
  width, height = _BOX
  return [
    f'  <rect class="box" x="{x - width / 2:.0f}" y="{y - height // 2}" '
    f'width="{width}" height="{height}" rx="7"/>',
    f'  <text class="name" x="{x:.0f}" y="{y - 2}">{room}</text>',
    f'  <text class="caption" x="{x:.0f}" y="{y + 14}">{caption}</text>',
  ]


def _draw_arrows(arrows: list[tuple[str, str]]) -> list[str]:
  """A curve for each arrow, from under its source to over its target."""
  passes = {arrow: _passes(*arrow) for arrow in arrows}

  # Where an arrow comes from, or goes to, as its ends see it.
  def outward(arrow: tuple[str, str]) -> float:
    return passes[arrow][0][0] if passes[arrow] else _x(_ROOMS[arrow[1]][0])

  def inward(arrow: tuple[str, str]) -> float:
    return passes[arrow][-1][0] if passes[arrow] else _x(_ROOMS[arrow[0]][0])

  lines = []
  for source, target in arrows:
    leaving = sorted((a for a in arrows if a[0] == source), key=outward)
    arriving = sorted((a for a in arrows if a[1] == target), key=inward)
    start = _port(source, leaving.index((source, target)), len(leaving))
    end = _port(target, arriving.index((source, target)), len(arriving))
    top = _y(imports.layer_of(source)) + _BOX[1] // 2
    bottom = _y(imports.layer_of(target)) - _BOX[1] // 2 - 8

    path, x, y = f"M {start:.0f} {top}", start, top
    for column, above, below in [*passes[source, target], (end, bottom, bottom)]:
      middle = (y + above) // 2
      path += f" C {x:.0f} {middle} {column:.0f} {middle} {column:.0f} {above}"
      path += f" V {below}" if below > above else ""
      x, y = column, below
    lines += [
      f'  <path class="arrow" d="{path}"/>',
      f'  <path class="head" d="M {end - 4.5:.1f} {bottom - 1} h 9 l -4.5 9 z"/>',
    ]
  return lines


def _port(room: str, number: int, count: int) -> float:
  """Position on the edge of a room's box where one of its arrows ends."""
  return _x(_ROOMS[room][0]) + 22 * (number - (count - 1) / 2)


def _passes(source: str, target: str) -> list[tuple[float, int, int]]:
  """Positions where an arrow passes boxes of the layers between its ends.

  Args:
    source: the room that imports.
    target: the room that is imported.

  Returns:
    x, and the upper and lower end of the straight way beside the boxes. Empty layers
    are left out.
  """
  first, last = imports.layer_of(source), imports.layer_of(target)
  begin, end = _ROOMS[source][0], _ROOMS[target][0]
  points = []
  for layer in range(first - 1, last, -1):
    share = (first - layer) / (first - last)
    # A curve with vertical ends, as it would run without boxes.
    share = share * share * (3 - 2 * share)
    straight = begin + share * (end - begin)
    wanted = _LANES.get((source, target), straight)
    column = _free(wanted, layer)
    if column != straight:
      half = _BOX[1] // 2 + 4
      points.append((_x(column), _y(layer) - half, _y(layer) + half))
  return points


def _free(wanted: float, layer: int) -> float:
  """The column nearest to the wanted one at which a layer has no box."""
  margin = (_BOX[0] / 2 + 14) / _COLUMN
  centers = [_ROOMS[room][0] for room in imports.LAYERS[layer]]
  sides = [center + sign * margin for center in centers for sign in (-1, 1)]
  free = [
    column
    for column in (wanted, *sides)
    if all(abs(column - center) >= margin - 1e-9 for center in centers)
  ]
  return min(free, key=lambda column: (abs(column - wanted), column))


def main() -> None:
  """Writes docs/notes/architecture.svg."""
  root = pathlib.Path(__file__).resolve().parents[1]
  graph = imports.rooms_graph(imports.read_modules(root))
  (root / "docs" / "notes" / "architecture.svg").write_text(draw(graph))


if __name__ == "__main__":
  main()
