"""Plain-text tables."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> list[str]:
  """Formats a table, the first column left-aligned, the others right-aligned.

  Args:
    rows: rows with the same number of cells.

  Returns:
    A line for each row, without trailing spaces.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
    for row in rows
  ]
