"""CSV files that a spreadsheet can open without running what they hold."""

import csv
from collections.abc import Callable, Iterable
from typing import Any, TextIO

# A cell that begins so is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def writer(file: TextIO) -> Callable[[Iterable[Any]], Any]:
  """Writes rows of CSV.

  Args:
    file: output file.

  Returns:
    A function that writes a row. Text that a spreadsheet would run as a formula, such
    as a file name that begins with "=", gets an apostrophe before it.
  """
  rows = csv.writer(file, lineterminator="\n")
  return lambda cells: rows.writerow([as_text(cell) for cell in cells])


def as_text(cell: Any) -> Any:
  """A cell as `writer` writes it: text that would be a formula with an apostrophe."""
  if not isinstance(cell, str) or not cell.startswith(_FORMULA):
    return cell
  try:
    float(cell)
  except ValueError:
    return f"'{cell}"
  return cell
