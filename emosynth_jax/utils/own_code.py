"""Python code of the user's, named as "file.py:function" or "module:function"."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import linecache
import pathlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

# Not mistakes in the user's code: passed on unchanged.
_EXPECTED = (OSError, KeyboardInterrupt, SystemExit, GeneratorExit)


# Code without a file, as of a notebook: objects of this process, by "python:name".
_WITHOUT_FILE: dict[str, Any] = {}
_PROCESS = "python"

# Folders of an environment's packages.
_INSTALLED = ("site-packages", "dist-packages")

_THIS_PACKAGE = pathlib.Path(__file__).resolve().parents[1]

# Files that are being imported, and by which thread.
_IMPORTING: set[tuple[pathlib.Path, int]] = set()


def name_of(part: Any) -> str:
  """Returns a name by which `load` finds an object of this process.

  Args:
    part: a function or a class; or a function without a file, as of a notebook.

  Returns:
    "file.py:name", or "python:name" for what can be found in this process alone.
  """
  name = getattr(part, "__qualname__", type(part).__name__)
  path = _source_file(part)
  if path is not None and name.isidentifier():
    return f"{path}:{name}"
  name = f"{_PROCESS}:{name.rpartition('.')[2].strip('<>')}"
  _WITHOUT_FILE[name] = part
  return name


def _source_file(part: Any) -> pathlib.Path | None:
  try:
    path = pathlib.Path(inspect.getsourcefile(part) or "")
  except (OSError, TypeError):  # OSError: a class of a notebook.
    return None
  # A notebook's cells have names of files that do not exist, or are temporary.
  module = sys.modules.get(getattr(part, "__module__", ""), None)
  is_file = getattr(module, "__file__", None) is not None and path.is_file()
  return path.resolve() if is_file else None


def has_file(name: str) -> bool:
  """Returns whether a name is of code in a file."""
  return not name.startswith(f"{_PROCESS}:")


def source_text(name: str) -> str:
  """Returns the source of code without a file, "" where Python does not know it."""
  part = load(name)
  try:
    return inspect.getsource(part)
  except (OSError, TypeError):
    return _class_source(part)


def _class_source(part: Any) -> str:
  """The source of a notebook's class: Python knows that of its methods alone."""
  for member in getattr(part, "__dict__", {}).values():
    code = getattr(inspect.unwrap(member), "__code__", None)
    cell = "".join(linecache.getlines(code.co_filename)) if code else ""
    with contextlib.suppress(SyntaxError):
      for node in ast.walk(ast.parse(cell)):
        if isinstance(node, ast.ClassDef) and node.name == part.__name__:
          return f"{ast.get_source_segment(cell, node)}\n"
  return ""


def is_own(name: Any) -> bool:
  """Returns whether a name is of the user's code, and not a built-in one."""
  return isinstance(name, str) and ":" in name


def parse_name(name: str) -> tuple[pathlib.Path, str]:
  """Splits a name into the source file and the attribute's name.

  Args:
    name: "file.py:function", the file relative to the working directory, or
      "module:function" for a module that can be imported.

  Returns:
    The file, and the attribute.

  Raises:
    FileNotFoundError: if there is no such file or module.
    ValueError: for a name of another form.
  """
  source, _, attribute = name.rpartition(":")
  if not source or not attribute.isidentifier():
    raise ValueError(
      f"{name}: expected file.py:function or module:function, as in "
      "my_losses.py:my_loss"
    )
  if source.endswith(".py"):
    path = pathlib.Path(source)
    if not path.is_file():
      raise FileNotFoundError(f"{name}: the file {source} does not exist")
    return path.resolve(), attribute

  return _file_of_module(name, source), attribute


def _file_of_module(name: str, module: str) -> pathlib.Path:
  try:
    with _first_on_path(pathlib.Path.cwd()):
      spec = importlib.util.find_spec(module)
  except (ImportError, ValueError):
    spec = None
  if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
    raise FileNotFoundError(
      f"{name}: there is no Python module {module}; a file is named with its ending, "
      "as in my_losses.py:my_loss"
    )
  return pathlib.Path(spec.origin).resolve()


def root_of(path: pathlib.Path) -> pathlib.Path:
  """Returns the folder from which a file's imports start: above its package."""
  folder = path.parent
  while (folder / "__init__.py").is_file():
    folder = folder.parent
  return folder


def source_files(path: pathlib.Path) -> list[pathlib.Path]:
  """Lists a file and the modules beside it that it imports, also indirectly.

  Args:
    path: the file. Of an installed package, the modules are those of the package alone.

  Returns:
    Paths below `root_of(path)`, the file first.

  Raises:
    ValueError: if one of them is not valid Python; file and line are named.
  """
  root = root_of(path)
  # Beside an installed package are all others of the environment.
  first = path.relative_to(root).parts[0]
  package = root / first if root.name in _INSTALLED else None
  found: dict[pathlib.Path, None] = {}
  waiting = [path]

  while waiting:
    file = waiting.pop(0)
    if file in found:
      continue
    found[file] = None

    # A package is imported through the __init__.py of each of its folders.
    for folder in file.relative_to(root).parents:
      if (root / folder / "__init__.py").is_file():
        waiting.append(root / folder / "__init__.py")

    for name in _imported_names(file, root):
      stem = root.joinpath(*name.split("."))
      waiting += [
        candidate
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py")
        if candidate.is_file()
        and (package is None or candidate.is_relative_to(package))
      ]

  return list(found)


def _imported_names(path: pathlib.Path, root: pathlib.Path) -> Iterator[str]:
  """The dotted names that a file imports; some may be attributes of a module."""
  try:
    tree = ast.parse(path.read_bytes(), str(path))
  except (SyntaxError, ValueError) as error:
    line = getattr(error, "lineno", None) or 1
    raise ValueError(f"{path}:{line}: {getattr(error, 'msg', error)}") from error

  package = path.parent.relative_to(root).parts
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) - node.level + 1] if node.level else ()
      base = ".".join([*above, *filter(None, [node.module])])
      if base:
        yield base
      yield from (".".join(filter(None, [base, alias.name])) for alias in node.names)


def load(name: str) -> Any:
  """Imports a user's file and returns what the name names.

  The file is read anew; the modules beside it are imported from its own folder, and do
  not stay importable: another copy of them can be imported later.

  Args:
    name: as for `parse_name`.

  Returns:
    The attribute.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file can't be imported, with file and line of the error, or does
      not have the attribute.
  """
  if not has_file(name):
    if name not in _WITHOUT_FILE:
      raise ValueError(
        f"{name} was defined in a Python session, and can't be loaded from a file: "
        "pass it to emosynth_jax.load again"
      )
    return _WITHOUT_FILE[name]

  path, attribute = parse_name(name)
  module = _import_file(path)
  if not hasattr(module, attribute):
    public = [key for key, value in vars(module).items() if _is_defined(value, module)]
    raise ValueError(
      f"{name}: {path.name} defines no {attribute!r}; it defines "
      f"{', '.join(public) or 'no function or class'}"
    )

  return getattr(module, attribute)


def _is_defined(value: Any, module: ModuleType) -> bool:
  return getattr(value, "__module__", None) == module.__name__ and callable(value)


def _import_file(path: pathlib.Path) -> ModuleType:
  root = root_of(path)
  contents = b"".join(file.read_bytes() for file in source_files(path))
  version = hashlib.sha256(str(path).encode() + contents).hexdigest()[:16]

  # One module for one version of the code: a class stays the same class.
  alias = f"_own_code_{version}"
  if alias in sys.modules:
    return sys.modules[alias]

  running = (path, threading.get_ident())
  if running in _IMPORTING:
    raise ValueError(
      f"{path.name} is imported for its own part, and runs this line again: put what "
      'the script does under `if __name__ == "__main__":`, or the part into another '
      "file"
    )

  dotted = ".".join(path.relative_to(root).with_suffix("").parts)
  files = source_files(path)
  own = {_dotted(file, root) for file in files}
  before = {key: sys.modules.pop(key) for key in own if key in sys.modules}
  _IMPORTING.add(running)
  try:
    with _first_on_path(root), without_bytecode(files):
      module = importlib.import_module(dotted)
  except Exception as error:
    raise ValueError(describe(error, [root])) from error
  finally:
    _IMPORTING.discard(running)
    for key in own:
      sys.modules.pop(key, None)
    sys.modules.update(before)

  sys.modules[alias] = module
  return module


def _dotted(file: pathlib.Path, root: pathlib.Path) -> str:
  parts = file.relative_to(root).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@contextlib.contextmanager
def _first_on_path(folder: pathlib.Path) -> Iterator[None]:
  sys.path.insert(0, str(folder))
  importlib.invalidate_caches()
  try:
    yield
  finally:
    sys.path.remove(str(folder))


@contextlib.contextmanager
def without_bytecode(files: Iterable[pathlib.Path]) -> Iterator[None]:
  """Context in which files are imported from their sources, and no bytecode is kept.

  Python matches cached bytecode by file size and modification time in whole seconds: an
  edit that changes neither would run the code before it.

  Args:
    files: Python files, whose cached bytecode is deleted where that is permitted;
      nobody edits those of installed packages, which keep theirs.
  """
  for file in files:
    if not set(file.parts).isdisjoint(_INSTALLED):
      continue
    with contextlib.suppress(OSError, NotImplementedError):
      pathlib.Path(importlib.util.cache_from_source(str(file))).unlink()
  before = sys.dont_write_bytecode
  sys.dont_write_bytecode = True
  try:
    yield
  finally:
    sys.dont_write_bytecode = before


def guard(function: Callable[..., Any], name: str) -> Callable[..., Any]:
  """Wraps a user's function: an error in it names its file and line.

  Args:
    function: the function.
    name: its name in the settings.

  Returns:
    A function of the same signature.
  """
  folders = []
  if has_file(name):
    folders = [root_of(pathlib.Path(inspect.getsourcefile(_inner(function)) or name))]

  @functools.wraps(function)
  def guarded(*args: Any, **kwargs: Any) -> Any:
    try:
      return function(*args, **kwargs)
    except _EXPECTED:
      raise
    except Exception as error:
      raise ValueError(f"{name}: {describe(error, folders)}") from error

  return guarded


def _inner(function: Any) -> Any:
  return inspect.unwrap(getattr(function, "func", function))


def describe(error: BaseException, folders: list[pathlib.Path]) -> str:
  """Describes an error of a user's code in one line, with its file and line.

  Args:
    error: the error.
    folders: where the code lies.

  Returns:
    "file:line: the line: the error", for the innermost line of that code.
  """
  reason = str(error).strip().splitlines()
  text = f"{type(error).__name__}: {reason[0] if reason else ''}".rstrip(": ")
  if isinstance(error, SyntaxError):
    return f"{error.filename}:{error.lineno}: {error.msg}"

  # JAX says in three paragraphs what a Python branch on an array needs.
  if any(base.__name__ == "ConcretizationTypeError" for base in type(error).__mro__):
    text = (
      "JAX traces this function, so that no Python if, while, bool() or float() can "
      "depend on an array; use jnp.where, jnp.maximum or jax.lax.cond "
      f"({type(error).__name__})"
    )

  frames = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)
    if _is_users(pathlib.Path(frame.filename), folders)
  ]
  if not frames:
    return text

  place = frames[-1]
  return f"{place.filename}:{place.lineno}: `{place.line}`: {text}"


def _is_users(file: pathlib.Path, folders: list[pathlib.Path]) -> bool:
  """Whether a file in these folders is neither a library's nor of this package."""
  if file.is_relative_to(_THIS_PACKAGE):
    return False
  inner = [file.relative_to(each) for each in folders if file.is_relative_to(each)]
  return any(set(path.parts).isdisjoint(_INSTALLED) for path in inner)
