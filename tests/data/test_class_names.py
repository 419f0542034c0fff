"""The one table of spellings of class names."""

import pytest

from emosynth_jax.data.class_names import (
  _ALIASES,
  EXPRESSIONS,
  canonical,
  check_distinct,
  matches,
  shared,
)
from emosynth_jax.data.datasets import ck_plus, fer2013, synthetic_faces


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("anger", "angry"),
    ("Anger", "angry"),
    (" happiness ", "happy"),
    ("SADNESS", "sad"),
    ("Surprised", "surprise"),
    ("fearful", "fear"),
    ("Contempt", "contempt"),
    ("Cat", "cat"),
    ("0", "0"),
  ],
)
def test_a_spelling_means_one_class(name, expected):
  assert canonical(name) == expected


def test_canonical_names_stay_as_they_are():
  assert tuple(map(canonical, EXPRESSIONS)) == EXPRESSIONS
  assert fer2013.CLASS_NAMES == synthetic_faces.CLASS_NAMES == EXPRESSIONS
  # CK+48's folders, whose contempt is counted as neutral by that loader alone.
  names = {canonical(folder) for folder in ck_plus.FOLDERS}
  assert names == {*EXPRESSIONS, "contempt"} - {"neutral"}


def test_classes_are_paired_by_name_and_the_rest_is_listed():
  pairs, of_first, of_second = shared(
    ("Happiness", "contempt", "anger"), ("angry", "happy", "fear")
  )
  assert pairs == [(0, 1), (2, 0)]
  assert (of_first, of_second) == (["contempt"], ["fear"])


def test_two_spellings_of_one_class_in_a_data_set_are_an_error():
  with pytest.raises(ValueError, match="'anger' and 'Angry' mean the same class"):
    shared(("anger", "Angry"), EXPRESSIONS)


def test_no_alias_is_of_two_classes():
  names = [alias for name, others in _ALIASES.items() for alias in (name, *others)]
  assert len(names) == len(set(names))


def test_equal_names_match_before_similar_ones():
  # happy is there itself, so that happiness is another class.
  assert matches(["happy", "sad"], ["happiness", "happy", "Sadness"]) == {
    0: 1,
    1: 2,
  }
  # Two that could be it: none is.
  assert matches(["joy"], ["happy", "happiness"]) == {}
  assert matches(["happy", "joy"], ["happiness"]) == {}
  assert matches(["a", "b"], ["b"]) == {1: 0}


def test_two_folders_of_one_class_are_named():
  check_distinct("root", ["angry", "Cat", "0"])
  with pytest.raises(ValueError, match="root: two folders of the class 'sad', sad and"):
    check_distinct("root", ["sad", "Sadness"])
