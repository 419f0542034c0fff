"""Output of a Jupyter notebook's cells."""

import html
import logging
import sys
from typing import Any


def _display_module() -> Any:
  """IPython's display functions in the process of a notebook, else None."""
  ipython = sys.modules.get("IPython")
  shell = ipython.get_ipython() if ipython is not None else None
  return sys.modules.get("IPython.display") if hasattr(shell, "kernel") else None


def is_running() -> bool:
  """Returns whether this process runs a notebook's cells."""
  return _display_module() is not None


class LogHandler(logging.Handler):
  """Shows log lines as a cell's output, and not as its errors, which are red."""

  def emit(self, record: logging.LogRecord) -> None:
    """Prints a line."""
    print(self.format(record))


class Bar:
  """A bar with a line of text, which later ones replace; it needs no widgets.

  Args:
    text: the first line.
  """

  def __init__(self, text: str):
    self._handle = _display_module().display(
      _form(text, 0.0), raw=True, display_id=True
    )

  def show(self, text: str, share: float) -> None:
    """Replaces the line.

    Args:
      text: the new line.
      share: the part that is done, in [0, 1].
    """
    self._handle.update(_form(text, share), raw=True)


def _form(text: str, share: float) -> dict[str, str]:
  """The line as HTML, and for what shows no HTML."""
  bar = f'<progress value="{share:.4f}" max="1"></progress>'
  return {
    "text/plain": f"{100 * share:3.0f} % {text}",
    "text/html": f"<div>{bar} <code>{html.escape(text)}</code></div>",
  }
