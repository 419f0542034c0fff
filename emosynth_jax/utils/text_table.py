"""Tables as lines of text."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines of aligned cells, the first column to the left, the others to the right.

  Args:
    rows: as many cells each.

  Returns:
    A line for each row, without blanks at its end.
  """
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
    for row in rows
  ]
