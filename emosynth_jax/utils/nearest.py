"""The nearest known names to a mistyped one, for messages."""

import difflib
from collections.abc import Iterable

_MIN_SIMILARITY = 0.6


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
  """Finds known names that a mistyped one may mean, the most similar first.

  Names may be dotted paths, as optimizer.learning_rate. A name counts as similar if its
  letters are, if it has the initials of a known one ("lr"), begins or ends it ("rate"),
  or is its last part without or with another section.

  Args:
    name: as it was given.
    known: the names to choose from.
    most: maximum number of names.

  Returns:
    The names, possibly none.
  """
  scores = {each: _similarity(name.lower(), each.lower()) for each in known}
  found = sorted(scores, key=lambda each: (-scores[each], each))
  best = scores[found[0]] if found else 0.0
  # Only those that are about as similar as the best one.
  least = max(_MIN_SIMILARITY, best - 0.1)
  return [each for each in found if scores[each] >= least][:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """The end of a message about an unknown name: "; did you mean mam_softmax?".

  Args:
    name: as it was given.
    known: the names to choose from.

  Returns:
    The text, "" if no name is similar.
  """
  names = nearest(name, known)
  return f"; did you mean {' or '.join(names)}?" if names else ""


def or_known(name: str, known: Iterable[str]) -> str:
  """The end of a message about an unknown name: the nearest names, then all of them.

  Args:
    name: as it was given.
    known: the names to choose from.

  Returns:
    As "; did you mean mam_softmax? Known: arcface, mam_softmax".
  """
  names = list(known)
  return f"{did_you_mean(name, names) or '.'} Known: {', '.join(names) or 'none'}"


def _similarity(name: str, known: str) -> float:
  section, _, leaf = name.rpartition(".")
  known_section, _, known_leaf = known.rpartition(".")
  of_leaves = _similarity_of_leaves(leaf, known_leaf)
  if section == known_section:
    return of_leaves
  # Another section, or a mistyped one.
  of_sections = difflib.SequenceMatcher(None, section, known_section).ratio()
  return of_leaves * (0.8 + 0.15 * of_sections)


def _similarity_of_leaves(leaf: str, known: str) -> float:
  if leaf == known:
    return 1.0
  initials = "".join(word[0] for word in known.split("_") if word)
  if len(leaf) > 1 and leaf == initials:
    return 0.95
  if len(leaf) > 2 and (known.startswith(leaf) or known.endswith(leaf)):
    return 0.85
  return difflib.SequenceMatcher(None, leaf, known).ratio()
