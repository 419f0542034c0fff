"""Tables of text: columns stand under each other, names left and numbers right."""

import pytest

from emosynth_jax.utils import text_table


def test_names_stand_left_and_numbers_right():
  rows = [["", "accuracy", "F1"], ["seed 0", "9.5", ""], ["mean", "10", "12345"]]
  assert text_table.align(rows) == [
    "        accuracy     F1",
    "seed 0       9.5",
    "mean          10  12345",
  ]


def test_rows_of_other_lengths_are_refused_rather_than_cut():
  with pytest.raises(ValueError, match="argument 2 is shorter"):
    text_table.align([["", "accuracy"], ["seed 0"]])


def test_markdown_has_its_header_and_alignment():
  rows = [["", "loss", "note"], ["a|b", 0.5, ""]]
  assert text_table.markdown(rows, left=(0, 2)) == [
    "| | loss | note |",
    "|---|---:|---|",
    r"| a\|b | 0.5 | |",
  ]
