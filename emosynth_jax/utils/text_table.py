"""Tables as plain text, Markdown and CSV."""

import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from emosynth_jax.utils import csv_rows


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


def markdown(rows: Sequence[Sequence[Any]], left: Collection[int] = (0,)) -> list[str]:
  """Formats a Markdown table.

  Args:
    rows: rows with the same number of cells, the first one the header.
    left: columns that are left-aligned; the others are right-aligned.

  Returns:
    A line for each row, and one for the alignment.
  """
  texts = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
  lines = [
    "".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in texts
  ]
  marks = ("---" if i in left else "---:" for i in range(len(rows[0])))
  lines.insert(1, f"|{'|'.join(marks)}|")
  return lines


def to_csv(rows: Iterable[Sequence[Any]]) -> str:
  """Formats rows as CSV, see `csv_rows.writer`."""
  content = io.StringIO()
  write_row = csv_rows.writer(content)
  for row in rows:
    write_row(row)
  return content.getvalue()
