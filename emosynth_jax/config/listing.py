"""The settings as lines of text: value, default and meaning."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from emosynth_jax.config import settings


def describe(values: Mapping[str, Any], *, diff: bool) -> Iterator[str]:
  """Yields the lines on each setting.

  Args:
    values: path to value, of `defaults.flatten`.
    diff: whether to leave out settings with their default.
  """
  known = {path: (default, text) for path, default, text in settings.describe()}
  for path in [*known, *sorted(set(values) - set(known))]:
    default, text = known.get(
      path, (None, "Argument of the part that is named beside it.")
    )
    # Another network does not have the default one's arguments.
    if path not in values:
      continue
    differs = values[path] != default
    if diff and not differs:
      continue
    was = f" (default {default!r})" if differs and path in known else ""
    yield f"{'*' if differs else ' '} {path} = {values[path]!r}{was}"
    yield textwrap.indent(textwrap.fill(text, 84, break_on_hyphens=False), "    ")
