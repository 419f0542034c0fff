"""Griffe extension: this project's docstrings as Markdown, for the API pages."""

from typing import Any

import griffe

from tools import docs_text


class Docstrings(griffe.Extension):
  """Applies `docs_text.to_markdown` to every docstring."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    """Converts the docstring of a module, class, function or attribute."""
    if obj.docstring:
      obj.docstring.value = docs_text.to_markdown(obj.docstring.value)
