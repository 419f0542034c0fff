"""Class names of facial expressions as data sets spell them, in one table."""

from collections.abc import Sequence

# FER-2013's names and order, which FER-2013, RAF-DB and CK+ share in this project.
EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# Other spellings, casefolded, by the name that this project uses.
_ALIASES = {
  "angry": ("anger", "angriness", "ang"),
  "disgust": ("disgusted", "disgusting", "disgustion", "dis"),
  "fear": ("fearful", "afraid", "scared", "fea"),
  "happy": ("happiness", "joy", "joyful", "smile", "smiling", "happily", "hap"),
  "sad": ("sadness",),
  "surprise": ("surprised", "surprising", "suprise", "suprised", "sur"),
  "neutral": ("neutrality", "normal", "calm", "neu"),
  "contempt": ("contemptuous", "comtempt", "con"),
  "not a face": ("nf", "not_a_face", "not-a-face"),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def canonical(name: str) -> str:
  """The name of a class as this project spells it.

  Args:
    name: a class name in any case, such as "Anger", "HAPPINESS" or "sad".

  Returns:
    FER-2013's name ("angry", "happy", ...) or "contempt" where `name` is a spelling of
    one; else `name` casefolded and without surrounding whitespace. Numbers are returned
    as they are: their meaning differs between data sets.
  """
  folded = name.strip().casefold()
  return _CANONICAL.get(folded, folded)


def shared(
  first: Sequence[str], second: Sequence[str]
) -> tuple[list[tuple[int, int]], list[str], list[str]]:
  """Pairs the classes of two data sets by their canonical names.

  Args:
    first: K class names, in label order.
    second: L class names, in label order.

  Returns:
    The pairs (index into `first`, index into `second`) in the order of `first`, and the
    names of either that have no partner.

  Raises:
    ValueError: if two names of one data set mean the same class.
  """
  rows, columns = _by_canonical(first), _by_canonical(second)
  pairs = [(k, columns[name]) for name, k in rows.items() if name in columns]
  return (
    pairs,
    [first[k] for name, k in rows.items() if name not in columns],
    [second[k] for name, k in columns.items() if name not in rows],
  )


def _by_canonical(names: Sequence[str]) -> dict[str, int]:
  """Label of each canonical name, in label order."""
  found: dict[str, int] = {}
  for label, name in enumerate(names):
    other = found.setdefault(canonical(name), label)
    if other != label:
      raise ValueError(f"class names {names[other]!r} and {name!r} mean the same class")
  return found


def check_distinct(root: object, names: Sequence[str]) -> None:
  """Checks that no two class folders are of one class.

  Args:
    root: the folder that holds them.
    names: of the class folders.

  Raises:
    ValueError: naming both.
  """
  seen: dict[str, str] = {}
  for name in names:
    other = seen.setdefault(canonical(name), name)
    if other != name:
      raise ValueError(
        f"{root}: two folders of the class {canonical(name)!r}, {other} and {name}; "
        "keep one"
      )


def matches(names: Sequence[str], others: Sequence[str]) -> dict[int, int]:
  """Matches the classes of two data sets by name.

  Equal names match first, then names of the same class, as angry and Anger, where only
  one on either side is left.

  Args:
    names: class names in label order.
    others: likewise.

  Returns:
    Index in `names` to index in `others`, in the order of `names`.
  """
  found = {i: others.index(name) for i, name in enumerate(names) if name in others}
  for i, name in enumerate(names):
    like = [
      [k for k, each in enumerate(side) if k not in taken and _same(each, name)]
      for side, taken in ((names, found.keys()), (others, set(found.values())))
    ]
    if i not in found and len(like[0]) == len(like[1]) == 1:
      found[i] = like[1][0]
  return dict(sorted(found.items()))


def _same(name: str, other: str) -> bool:
  return canonical(name) == canonical(other)
