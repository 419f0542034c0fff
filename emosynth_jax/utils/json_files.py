"""Reads JSON files of runs; an error names the file and the field."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

# Type of a field, fields of an object in it, or the type of the values of a list; see
# `read_json`.
Fields = Mapping[str, Any]

_NAMES = {
  dict: "an object",
  list: "a list",
  str: "a string",
  int: "a whole number",
  float: "a number",
  bool: "true or false",
}


def read_json(
  path: str | os.PathLike[str], fields: Fields | None = None, *, remedy: str = ""
) -> dict[str, Any]:
  """Reads a file that holds one JSON object.

  Args:
    path: the file.
    fields: fields that it must have: name to type, or to the fields of an object in
      it. A list of one type stands for a list of such values, a tuple for any one of
      several types or strings, and the name "*" for all fields that are there. Others
      are not looked at.
    remedy: what to do about a damaged file, after the message.

  Returns:
    The object.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not such an object; file and field are named.
  """
  content = pathlib.Path(path).read_bytes()
  return parse_json(content, f"{path} is damaged", fields, remedy=remedy)


def read_json_lines(
  path: str | os.PathLike[str], fields: Fields | None = None, *, remedy: str = ""
) -> list[dict[str, Any]]:
  """Reads a file with one JSON object a line; otherwise as `read_json`."""
  lines = pathlib.Path(path).read_bytes().splitlines()
  return [
    parse_json(line, f"{path}, line {number} is damaged", fields, remedy=remedy)
    for number, line in enumerate(lines, start=1)
  ]


def parse_json(
  text: str | bytes, problem: str, fields: Fields | None = None, *, remedy: str = ""
) -> dict[str, Any]:
  """Parses one JSON object.

  Args:
    text: the object.
    problem: beginning of the message, as "FILE is damaged".
    fields: as `read_json` takes them.
    remedy: likewise.

  Returns:
    The object.

  Raises:
    ValueError: if it is not such an object.
  """
  end = f": {remedy}" if remedy else ""
  try:
    content = json.loads(text)
  except (ValueError, RecursionError) as error:
    reason = "empty" if not text.strip() else str(error) or type(error).__name__
    raise ValueError(f"{problem} ({reason}){end}") from error
  check_fields(content, problem, fields or {}, remedy=remedy)
  return content


def check_fields(
  content: Any, problem: str, fields: Fields, *, remedy: str = ""
) -> None:
  """Checks the fields of a parsed object.

  Args:
    content: the object.
    problem: as `parse_json` takes it.
    fields: as `read_json` takes them.
    remedy: likewise.

  Raises:
    ValueError: if one is missing or of another type.
  """
  if wrong := _mismatch(content, fields, ""):
    raise ValueError(f"{problem} ({wrong}){f': {remedy}' if remedy else ''}")


def _mismatch(value: Any, wanted: Any, where: str) -> str:
  """Describes the mismatch of a value and a field's type; "" if it matches."""
  if isinstance(wanted, tuple):
    # Of several, the first is the usual one.
    problems = [_mismatch(value, each, where) for each in wanted]
    return "" if "" in problems else problems[0]
  kind = wanted if isinstance(wanted, type) else dict
  if isinstance(wanted, list):
    kind = list
  if isinstance(wanted, str) or wanted is None:
    fits = value == wanted
    kind = type(wanted)
  else:
    fits = _is_of(value, kind)
  if not fits:
    got = "nothing" if value is None else f"{value!r:.40}"
    return f"{where or 'content'}: expected {_NAMES.get(kind, 'nothing')}, got {got}"

  parts: list[tuple[str, Any, Any]] = []
  if isinstance(wanted, Mapping):
    dotted = f"{where}." if where else ""
    named = {name: each for name, each in wanted.items() if name != "*"}
    if missing := [name for name in named if name not in value]:
      return f"{dotted}{missing[0]}: missing"
    parts = [(f"{dotted}{name}", value[name], named[name]) for name in named]
    if "*" in wanted:
      parts += [(f"{dotted}{name}", each, wanted["*"]) for name, each in value.items()]
  elif isinstance(wanted, list):
    parts = [(f"{where}[{i}]", each, wanted[0]) for i, each in enumerate(value)]
  return next(filter(None, (_mismatch(v, w, name) for name, v, w in parts)), "")


def _is_of(value: Any, kind: type) -> bool:
  """Returns whether a value is of a type; numbers are whole ones too."""
  if isinstance(value, bool):
    return kind is bool
  if kind in (int, float) and isinstance(value, int):
    # JSON's whole numbers have no limit; arrays' have.
    return -(2**63) <= value < 2**63
  return isinstance(value, kind)
