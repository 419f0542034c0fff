"""Prints the generated parts of the documentation's reference pages, as Markdown.

  python -m tools.reference settings
  python -m tools.reference commands
  python -m tools.reference flags MODULE...    # names of flags, as JSON

`tools/docs_hooks.py` puts them into the pages when the site is built.
"""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import pathlib
import runpy
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

from absl import flags

from emosynth_jax import losses, models
from emosynth_jax.config import settings as declared
from emosynth_jax.utils import text_table
from tools import docs_text

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGES = ("emosynth_jax", "experiments", "benchmarks")


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
  """A Markdown table of texts, each on one line."""
  cells = [
    [" ".join(str(text).split()).replace("<", "&lt;") for text in row]
    for row in [head, *rows]
  ]
  return "\n".join(text_table.markdown(cells, left=range(len(head))))


def settings() -> str:
  """Every setting with its default and help, by section, in their order."""
  sections: dict[str, list[tuple[object, ...]]] = {}
  for path, setting in declared.SETTINGS.items():
    row = (f"`{path}`", f"`{setting.default!r}`", setting.help)
    sections.setdefault(path.rpartition(".")[0], []).append(row)

  parts = []
  for section, rows in sections.items():
    parts.append(f"## {section or 'Run'}\n")
    parts.append(_table(("setting", "default", "meaning"), rows) + "\n")
  return "\n".join(parts)


def _first_line(thing: Any) -> str:
  """First line of a docstring, with code quoted as Markdown does."""
  return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`")


def _arguments(function: Callable[..., Any]) -> str:
  """Keyword-only arguments with their defaults."""
  known = losses.defaults_of(function)
  return ", ".join(
    f"`{name}`"
    if value is inspect.Parameter.empty
    else f"`{name}={getattr(value, '__name__', value)}`"
    for name, value in known.items()
  )


def loss_table() -> str:
  """Every loss by name: formula's first line, inputs and hyperparameters."""
  rows = []
  for name, loss in sorted(losses.LOSSES.items()):
    kind = "margin" if name in losses.MARGINS else "loss"
    summary = losses.MARGINS.get(name, loss)
    rows.append(
      (
        f"`{name}`",
        kind,
        _first_line(summary),
        ", ".join(f"`{x}`" for x in losses.loss_inputs(loss)),
        _arguments(loss),
      )
    )
  return _table(("name", "kind", "what it computes", "inputs", "hyperparameters"), rows)


def model_table() -> str:
  """Every network by name: first line of its docstring, and its arguments."""
  rows = []
  for name, model in sorted(models.MODELS.items()):
    arguments = [
      f"`{field.name}={field.default!r}`"
      if isinstance(field.default, (int, float, str, bool, tuple))
      else f"`{field.name}`"
      for field in dataclasses.fields(model)
      if field.name not in ("num_classes", "parent", "name")
    ]
    rows.append((f"`{name}`", _first_line(model), ", ".join(arguments)))
  return _table(("name", "network", "arguments"), rows)


def command_modules() -> Iterator[str]:
  """Modules that run as commands: `python -m MODULE`."""
  for package in _PACKAGES:
    for path in sorted((_ROOT / package).rglob("*.py")):
      if '\nif __name__ == "__main__":' in path.read_text():
        parts = path.relative_to(_ROOT).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__main__")


def command_flags(module: str) -> tuple[str, list[tuple[str, str, str]]]:
  """Docstring and flags of a command, as in its --help.

  Args:
    module: as `command_modules` names it.

  Returns:
    The docstring, and for each flag its name, default and help.
  """
  _forget_flags()
  try:
    # Commands define their flags when they are run.
    with (
      mock.patch("absl.app.run"),
      mock.patch("sys.argv", [module]),
      warnings.catch_warnings(action="ignore", category=RuntimeWarning),
      # Without arguments a command may end in a message.
      contextlib.redirect_stdout(io.StringIO()),
      contextlib.redirect_stderr(io.StringIO()),
      contextlib.suppress(SystemExit),
    ):
      runpy.run_module(module, run_name="__main__")
    rows = []
    for flag in sorted(_own_flags()):
      held = flags.FLAGS[flag]
      default = held.default
      if isinstance(default, list):
        default = ",".join(map(str, default))
      # The default of --config is the machinery's own, not a user's.
      shown = str(default) if isinstance(default, (str, int, float)) else ""
      rows.append((flag, shown, held.help or ""))
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text())) or "", rows
  finally:
    _forget_flags()


def _own_flags() -> set[str]:
  """Names of the flags that this project's modules have defined."""
  return {
    flag.name
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.startswith((*_PACKAGES, str(_ROOT)))
    for flag in defined
    if flag.name in flags.FLAGS
  }


def _forget_flags() -> None:
  """Removes them, since commands define flags of the same names."""
  for flag in _own_flags():
    delattr(flags.FLAGS, flag)


def commands() -> str:
  """Every command of the package: its docstring and flags."""
  parts = []
  for module in command_modules():
    if not module.startswith("emosynth_jax"):
      continue
    text, rows = command_flags(module)
    if text.startswith("Alias"):
      continue
    parts.append(f"## {module}\n\n{docs_text.to_markdown(text)}\n")
    cells = [(f"`--{flag}`", f"`{d}`" if d else "", h) for flag, d, h in rows]
    if cells:
      parts.append(_table(("flag", "default", "meaning"), cells) + "\n")
  return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
  "settings": settings,
  "losses": loss_table,
  "models": model_table,
  "commands": commands,
}


def main() -> None:
  """Prints one part."""
  part, modules = sys.argv[1:2], sys.argv[2:]
  if part == ["flags"]:
    names = {m: [name for name, _, _ in command_flags(m)[1]] for m in modules}
    print(json.dumps(names))
  elif len(sys.argv) == 2 and part[0] in PARTS:
    print(PARTS[part[0]]())
  else:
    sys.exit(f"error: expected one of {', '.join(PARTS)}, or flags and modules")


if __name__ == "__main__":
  main()
