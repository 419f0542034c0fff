"""Classes by the names that other data sets give them."""

import pytest

from emosynth_jax.data import class_names


@pytest.mark.parametrize("name", ["Anger", "ANGRY", " angry ", "ang"])
def test_other_spellings_of_a_class(name):
  assert class_names.canonical(name) == "angry"


def test_an_unknown_name_stays_as_it_is():
  assert class_names.canonical("Boredom") == "Boredom"
  assert class_names.canonical("0") == "0"


def test_no_alias_is_of_two_classes():
  names = [
    alias for name, others in class_names.ALIASES.items() for alias in (name, *others)
  ]
  assert len(names) == len(set(names))


def test_equal_names_match_before_similar_ones():
  # happy is there itself, so that happiness is another class.
  assert class_names.matches(["happy", "sad"], ["happiness", "happy", "Sadness"]) == {
    0: 1,
    1: 2,
  }
  # Two that could be it: none is.
  assert class_names.matches(["joy"], ["happy", "happiness"]) == {}
  assert class_names.matches(["happy", "joy"], ["happiness"]) == {}
  assert class_names.matches(["a", "b"], ["b"]) == {1: 0}
