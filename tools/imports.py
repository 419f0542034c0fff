"""Reads what the project's files import, and the layers that its rooms form.

A room is a package or a module right below `emosynth_jax`, or a top folder.

The imports are read and not run. tests/test_architecture.py holds the rules, and
`python -m tools.draw_architecture` draws docs/notes/architecture.svg.
"""

import ast
import functools
import pathlib
from typing import NamedTuple

# From the ground up. A room imports rooms of lower layers and itself.
LAYERS = (
  {"utils"},
  {"losses", "models", "config"},
  {"metrics", "parallel", "configs"},
  {"data"},
  {"workdir"},
  {"training", "pretrained"},
  {"train_loop", "evaluate", "analysis", "audit", "bundle"},
  {"export"},
  {"report", "predict", "main", "api", "console"},
  {"experiments"},
  {"benchmarks"},
)

# Each file is parsed once.
parse = functools.cache(ast.parse)


class Import(NamedTuple):
  """An import of a file: of what, and whether inside of a function."""

  target: str
  is_late: bool


def read_modules(root: pathlib.Path) -> dict[str, str]:
  """Module -> text, of the project's code without its tests and tools."""
  found = {}
  for top in ("emosynth_jax", "experiments", "benchmarks", "configs"):
    for path in sorted((root / top).rglob("*.py")):
      parts = path.relative_to(root).with_suffix("").parts
      found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = (
        path.read_text()
      )
  return found


@functools.cache
def _statements(text: str) -> list[tuple[str, str | None, bool]]:
  """The imports in a text: module, name (of `from`), whether inside of a function."""
  found: list[tuple[str, str | None, bool]] = []

  def visit(node: ast.AST, is_late: bool) -> None:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
      return  # Only a type checker reads these.
    if isinstance(node, ast.Import):
      found.extend((alias.name, None, is_late) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      if node.level:
        raise ValueError(f"a relative import, which is not read: {ast.unparse(node)}")
      found.extend((node.module or "", alias.name, is_late) for alias in node.names)
    is_late |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
      if not isinstance(child, ast.expr):
        visit(child, is_late)

  visit(parse(text), False)
  return found


def imports_of(modules: dict[str, str], module: str) -> list[Import]:
  """The imports of a module."""
  found = []
  for base, name, is_late in _statements(modules[module]):
    whole = f"{base}.{name}"
    target = whole if name and whole in modules else base
    if target != module:
      found.append(Import(target, is_late))
  return found


def room_of(module: str) -> str:
  """The package, or the module, right below `emosynth_jax`; else the top folder.

  `emosynth_jax.__main__` is the command of `emosynth_jax.console`.
  """
  if module == "emosynth_jax.__main__":
    return "console"
  parts = module.split(".")
  return parts[1] if parts[0] == "emosynth_jax" and len(parts) > 1 else parts[0]


def layer_of(room: str) -> int:
  """The number of a room's layer, counted from the ground up."""
  return next(i for i, layer in enumerate(LAYERS) if room in layer)


def files_graph(modules: dict[str, str]) -> dict[str, set[str]]:
  """Module -> modules that it imports, wherever."""
  return {
    module: {target for target, _ in imports_of(modules, module) if target in modules}
    for module in modules
  }


def rooms_graph(modules: dict[str, str]) -> dict[str, set[str]]:
  """Room -> other rooms that it imports."""
  graph: dict[str, set[str]] = {}
  for module, targets in files_graph(modules).items():
    own = graph.setdefault(room_of(module), set())
    own |= {room_of(target) for target in targets if target != "emosynth_jax"}
    own.discard(room_of(module))
  return graph
