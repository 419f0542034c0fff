"""One reader of JSON: file, line and field are named."""

import ast
import pathlib
import re

import pytest

from emosynth_jax.utils import json_files

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("", "empty"),
    ("  \n", "empty"),
    ("{", "Expecting property name"),
    ('{"a": "x', "Unterminated string"),
    ("[]", r"content: expected an object, got \[\]"),
    ("null", "content: expected an object, got nothing"),
    ("[" * 100_000, "recursion"),
    ('{"a": 1' + "0" * 5000 + "}", "Exceeds the limit"),
    ("\xff", "codec can't decode"),
    ("{}", "a: missing"),
    ('{"a": []}', r"a: expected an object, got \[\]"),
    ('{"a": {}}', r"a\.b: missing"),
    ('{"a": {"b": ["x", 3], "c": 1}}', r"a\.b\[1\]: expected a string, got 3"),
    ('{"a": {"b": [], "c": true}}', r"a\.c: expected a number, got True"),
    ('{"a": {"b": [], "c": null}}', r"a\.c: expected a number, got nothing"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, text, reason):
  path = tmp_path / "data.json"
  path.write_text(text, encoding="latin-1")
  fields = {"a": {"b": [str], "c": float}}
  message = rf"data\.json is damaged \(.*{reason}.*\): delete it"
  with pytest.raises(ValueError, match=message):
    json_files.read_json(path, fields, remedy="delete it")


def test_what_fits_is_returned_with_all_else(tmp_path):
  path = tmp_path / "data.json"
  path.write_text('{"a": {"b": ["x"], "c": 3}, "d": null}')
  found = json_files.read_json(path, {"a": {"b": [str], "c": float}})
  assert found == {"a": {"b": ["x"], "c": 3}, "d": None}
  with pytest.raises(FileNotFoundError):
    json_files.read_json(tmp_path / "none.json")


def test_a_line_is_named_by_its_number(tmp_path):
  path = tmp_path / "lines.jsonl"
  path.write_text('{"step": 1}\n{"step": "x"}\n')
  with pytest.raises(ValueError, match=r"lines\.jsonl, line 2 is damaged \(step: exp"):
    json_files.read_json_lines(path, {"step": int})
  path.write_text('{"step": 1}\n{"step": 2}')
  assert json_files.read_json_lines(path) == [{"step": 1}, {"step": 2}]


# Files that parse text that is no file's: what they wrote a moment ago, or their lines.
_PARSERS = {
  "emosynth_jax/utils/json_files.py",
  "emosynth_jax/workdir/record.py",
  "emosynth_jax/training/initialization.py",
  "emosynth_jax/config/renamed.py",
  "experiments/lib/ablation_records.py",
  "experiments/lib/ablation_groups.py",  # keys of its own
}


def test_no_other_file_reads_json_by_itself():
  found = set()
  for top in ("emosynth_jax", "experiments"):
    for path in (_ROOT / top).rglob("*.py"):
      calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
      ]
      if any(re.fullmatch(r"json\.loads?", call) for call in calls):
        found.add(path.relative_to(_ROOT).as_posix())
  assert found == _PARSERS
