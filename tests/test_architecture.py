"""The order of the house: imports go down only, without circles, at the head of files.

tools/imports.py reads the imports, without running them. Each rule is also tried on a
small house that breaks it, since a rule that finds nothing anywhere holds nothing.
"""

import ast
import pathlib
import re

import pytest

from tools import draw_architecture
from tools.imports import (
  LAYERS,
  files_graph,
  imports_of,
  layer_of,
  parse,
  read_modules,
  room_of,
  rooms_graph,
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TOOLS = sorted((_ROOT / "tools").glob("*.py"))

# Files that may import inside of functions, and what: optional packages, packages that
# take a second and few runs need, and what a command's --help is spared.
_LATE = {
  "emosynth_jax.data.datasets.tfds_records": {"tensorflow_datasets"},
  "emosynth_jax.data.duplicates": {"imagehash"},
  "emosynth_jax.data.grain_pipeline": {"grain"},
  "emosynth_jax.data.prepare": {"tensorflow", "tensorflow_datasets"},
  "emosynth_jax.export.int8": {"onnxruntime"},
  "emosynth_jax.export.verify": {"onnx", "onnxruntime"},
  "emosynth_jax.main": {"emosynth_jax", "jax"},
  "emosynth_jax.models.from_torch": {"torch"},
  "emosynth_jax.predict": {"emosynth_jax"},  # A lazy __getattr__.
  # A mistyped name is answered before JAX and OpenCV are imported.
  "emosynth_jax.predict.run": {"emosynth_jax"},
  "emosynth_jax.predict.single_face": {"emosynth_jax"},  # The export's packages.
  "emosynth_jax.utils.cli": {"jax"},
  "emosynth_jax.workdir.tracking": {"tensorboardX", "wandb"},
}

# Files that import by a string, and the table of names, or the alias, that it is for.
_BY_STRING = {
  "emosynth_jax": "the public names, imported at first use",
  "emosynth_jax.config.recipes": "a config file by its path",
  "emosynth_jax.console": "COMMANDS",
  "emosynth_jax.data.loaders": "LOADERS",
  "emosynth_jax.analysis.embedding_run": "the command's former name",
  "emosynth_jax.utils.config_files": "a user's config file",
  "emosynth_jax.utils.own_code": "the user's own files",
  "experiments.lib.comparison_rows": "configs by name",
  "experiments.lib.engines": "Ray, an optional package",
  "benchmarks.cases": "configs by name",
}

# What still breaks a rule: (rule, file). It only gets shorter.
_OFFENDERS: set[tuple[str, str]] = set()


def find_arrows_up(house: dict[str, str]) -> dict[str, str]:
  """Imports of a room that is not on a lower floor, by file."""
  found = {}
  for module in house:
    if module == "emosynth_jax":
      continue
    for target, _ in imports_of(house, module):
      room = room_of(target)
      if target not in house or target == "emosynth_jax" or room == room_of(module):
        continue
      if layer_of(room) >= layer_of(room_of(module)):
        found[module] = target
  return found


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
  """Groups of two and more that reach each other."""
  reached = {}
  for start in graph:
    seen, waiting = set(), list(graph[start])
    while waiting:
      node = waiting.pop()
      if node not in seen:
        seen.add(node)
        waiting += graph.get(node, ())
    reached[start] = seen
  groups = {
    tuple(sorted({a, *(b for b in reached[a] if a in reached.get(b, ()))}))
    for a in graph
    if a in reached[a]
  }
  return [list(group) for group in sorted(groups)]


def packages_graph(house: dict[str, str]) -> dict[str, set[str]]:
  """Sub-package -> others of the same room that it imports."""

  def package(module: str) -> str:
    is_package = any(name.startswith(f"{module}.") for name in house)
    return module if is_package else module.rpartition(".")[0]

  graph: dict[str, set[str]] = {}
  for module, targets in files_graph(house).items():
    own = graph.setdefault(package(module), set())
    for target in targets:
      names = {package(module), package(target)}
      # A package and what lies in it: files of one room that share the work.
      nested = any(a.startswith(f"{b}.") for a in names for b in names)
      if len(names) == 2 and not nested:
        own.add(package(target))
  return graph


def find_foreign_private(house: dict[str, str]) -> dict[str, str]:
  """Imports of another package's private module, by file."""
  found = {}
  for module in house:
    is_package = any(name.startswith(f"{module}.") for name in house)
    package = module if is_package else module.rpartition(".")[0]
    for target, _ in imports_of(house, module):
      *path, last = target.split(".")
      is_private = last.startswith("_") and not last.startswith("__")
      if target in house and is_private and ".".join(path) != package:
        found[module] = target
  return found


def find_late_imports(house: dict[str, str]) -> dict[str, set[str]]:
  """Packages that are imported inside of functions, by file."""
  found: dict[str, set[str]] = {}
  for module in house:
    if not module.startswith(("emosynth_jax", "experiments.lib")):
      continue
    if module.endswith(".__main__"):
      continue  # A command's --help is spared what is heavy.
    imports = imports_of(house, module)
    late = {one.target.split(".")[0] for one in imports if one.is_late}
    if late:
      found[module] = late
  return found


def find_imports_of_main(house: dict[str, str]) -> dict[str, str]:
  """Imports of a command's `__main__`, by file."""
  return {
    module: target
    for module in house
    for target, _ in imports_of(house, module)
    if target.endswith("__main__")
  }


def find_own_command(house: dict[str, str]) -> dict[str, str]:
  """Files that import something when they are the command, by file."""
  found = {}
  for module, text in house.items():
    for node in parse(text).body:
      if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        for each in ast.walk(node):
          if isinstance(each, ast.Import | ast.ImportFrom):
            found[module] = ast.unparse(each)
  return found


def find_imports_by_string(house: dict[str, str]) -> set[str]:
  """Files that name a function which imports what a string names."""
  names = {
    "__import__",
    "import_module",
    "module_from_spec",
    "run_module",
    "run_path",
    "spec_from_file_location",
  }
  return {
    module
    for module, text in house.items()
    for node in ast.walk(parse(text))
    if isinstance(node, ast.Attribute | ast.Name)
    and (node.attr if isinstance(node, ast.Attribute) else node.id) in names
  }


def find_names_in_utils(house: dict[str, str]) -> dict[str, str]:
  """Identifiers in utils that are of a run, a data set or a network, by file."""
  words = {
    "checkpoint",
    "checkpoints",
    "dataset",
    "datasets",
    "epoch",
    "logits",
    "loss",
    "model",
    "network",
    "split",
    "splits",
    "workdir",
  }
  found = {}
  for module, text in house.items():
    if room_of(module) != "utils":
      continue
    for node in ast.walk(parse(text)):
      for field in ("id", "attr", "arg", "name"):
        name = getattr(node, field, None)
        # "text".split is a string's.
        is_string_method = isinstance(node, ast.Attribute) and name == "split"
        if isinstance(name, str) and not is_string_method:
          if words & set(name.lower().split("_")):
            found[module] = name
  return found


def find_long_functions(house: dict[str, str]) -> dict[str, str]:
  """Functions of more than 100 lines, by file."""
  return {
    module: node.name
    for module, text in house.items()
    for node in ast.walk(parse(text))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and (node.end_lineno or 0) - node.lineno + 1 > 100
  }


@pytest.fixture(scope="module")
def house():
  return read_modules(_ROOT)


def _left(rule, found):
  """What breaks a rule and is not listed; what is listed and does not is an error."""
  listed = {module for name, module in _OFFENDERS if name == rule}
  gone = listed - set(found)
  assert not gone, f"no longer offenders, take them off the list: {gone}"
  if isinstance(found, dict):
    return {module: what for module, what in found.items() if module not in listed}
  return set(found) - listed


def test_every_room_has_its_floor(house):
  rooms = {room_of(module) for module in house if module != "emosynth_jax"}
  assert rooms == set().union(*LAYERS)


def test_imports_go_down_only(house):
  assert not _left("down", find_arrows_up(house))


def test_there_is_no_circle(house):
  assert find_circles(files_graph(house)) == []
  assert find_circles(rooms_graph(house)) == []
  assert find_circles(packages_graph(house)) == []


def test_no_package_imports_anothers_private_module(house):
  assert not _left("private", find_foreign_private(house))


def test_imports_stand_at_the_head(house):
  found = find_late_imports(house)
  assert found == _LATE


def test_nothing_imports_a_command(house):
  tests = {
    f"tests.{path.stem}": path.read_text() for path in (_ROOT / "tests").rglob("*.py")
  }
  assert not _left("main", find_imports_of_main(house | tests))
  assert not _left("own", find_own_command(house))


def test_names_of_modules_in_strings_are_tables(house):
  assert find_imports_by_string(house) == set(_BY_STRING)


def test_no_function_is_longer_than_100_lines(house):
  assert not _left("long", find_long_functions(house))


def test_utils_know_no_run_data_set_or_network(house):
  assert not _left("utils", find_names_in_utils(house))


# A house in which each rule is broken once.
_BROKEN = {
  "emosynth_jax": "",
  "emosynth_jax.utils": "",
  "emosynth_jax.utils.files": "def write(workdir): pass",
  "emosynth_jax.data": "",
  "emosynth_jax.data._tables": "import emosynth_jax.train_loop",
  "emosynth_jax.data.a": "from emosynth_jax.data import b",
  "emosynth_jax.data.b": "def f():\n  from emosynth_jax.data import a",
  "emosynth_jax.metrics": "def f():\n" + 100 * "  print()\n",
  "emosynth_jax.report": "def f():\n" + 99 * "  print()\n",
  "emosynth_jax.report.__main__": "",
  "emosynth_jax.report.page": "import importlib\nimportlib.import_module('json')",
  "emosynth_jax.train_loop": (
    "from emosynth_jax.data import _tables\n"
    "if __name__ == '__main__':\n  from emosynth_jax.report import __main__\n"
  ),
}


def test_each_rule_finds_what_breaks_it():
  assert find_arrows_up(_BROKEN) == {
    "emosynth_jax.data._tables": "emosynth_jax.train_loop",
    "emosynth_jax.train_loop": "emosynth_jax.report.__main__",
  }
  assert find_circles(files_graph(_BROKEN)) == [
    ["emosynth_jax.data._tables", "emosynth_jax.train_loop"],
    ["emosynth_jax.data.a", "emosynth_jax.data.b"],
  ]
  assert find_circles(rooms_graph(_BROKEN)) == [["data", "train_loop"]]
  assert find_foreign_private(_BROKEN) == {
    "emosynth_jax.train_loop": "emosynth_jax.data._tables"
  }
  assert find_late_imports(_BROKEN) == {"emosynth_jax.data.b": {"emosynth_jax"}}
  assert find_imports_of_main(_BROKEN) == {
    "emosynth_jax.train_loop": "emosynth_jax.report.__main__"
  }
  assert set(find_own_command(_BROKEN)) == {"emosynth_jax.train_loop"}
  assert find_imports_by_string(_BROKEN) == {"emosynth_jax.report.page"}
  assert find_long_functions(_BROKEN) == {"emosynth_jax.metrics": "f"}
  assert find_names_in_utils(_BROKEN) == {"emosynth_jax.utils.files": "workdir"}


def test_circles_of_sub_packages_are_found():
  graph = packages_graph(
    {
      "p": "",
      "p.a": "",
      "p.a.one": "from p.b import two",
      "p.b": "",
      "p.b.two": "",
      "p.b.three": "from p.a import four",
      "p.a.four": "",
    }
  )
  assert find_circles(graph) == [["p.a", "p.b"]]


def test_the_diagram_is_of_todays_imports(house):
  path = _ROOT / "docs" / "notes" / "architecture.svg"
  assert path.read_text() == draw_architecture.draw(rooms_graph(house)), (
    "docs/notes/architecture.svg is out of date; run python -m tools.draw_architecture"
  )


def test_arrows_that_follow_from_others_are_not_drawn():
  graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
  assert draw_architecture.reduce(graph) == {
    "a": {"b"},
    "b": {"c"},
    "c": {"d"},
    "d": set(),
  }


def test_a_room_without_a_place_in_the_diagram_is_an_error(house):
  with pytest.raises(ValueError, match="no place for attic"):
    draw_architecture.draw(rooms_graph(house) | {"attic": set()})


def test_the_page_has_every_room_and_files_that_exist(house):
  page = (_ROOT / "docs" / "notes" / "architecture.md").read_text()
  table = page[page.index("## Rooms") : page.index("## The path of an image")]
  listed = set(re.findall(r"^\| `([a-z_]+)(?:/|\.py)` \|", table, re.MULTILINE))
  assert listed == {room_of(module) for module in house} - {"emosynth_jax"}

  files = set(re.findall(r"`([\w/]+\.py)`", page))
  tops = (_ROOT, _ROOT / "emosynth_jax")
  missing = {f for f in files if not any((top / f).is_file() for top in tops)}
  assert missing - {"__main__.py"} == set()

  names = set(re.findall(r"`(_?[A-Z_]{5,})`", page))
  code = "\n".join([*house.values(), *map(pathlib.Path.read_text, _TOOLS)])
  assert {name for name in names if f"\n{name}" not in code} == set()


def test_the_pages_numbers_are_of_the_files_that_it_lists():
  page = (_ROOT / "docs" / "notes" / "architecture.md").read_text()
  walk = page[page.index("### From disk to the loss") : page.index("### From the loss")]
  holding, preparing = walk.split("These ")
  held = {f for f in re.findall(r"`([\w/]+\.py)`", holding) if "configs" not in f}
  others = set(re.findall(r"`([\w/]+\.py)`", preparing))
  assert not held & others
  assert preparing.startswith(f"{len(held)} files hold the image")
  assert len(held) <= 20
  assert f"{len(others)} more" in preparing
  assert f"{len(held) + len(others)} files in all" in preparing
