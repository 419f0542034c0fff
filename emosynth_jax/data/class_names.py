"""Names of expressions, as data sets spell them."""

from collections.abc import Sequence

# FER-2013's name of each class, and what other distributors call it.
ALIASES = {
  "angry": ("anger", "ang"),
  "disgust": ("disgusted", "disgusting", "dis"),
  "fear": ("fearful", "afraid", "scared", "fea"),
  "happy": ("happiness", "happily", "joy", "hap"),
  "sad": ("sadness",),
  "surprise": ("surprised", "surprising", "sur"),
  "neutral": ("neutrality", "normal", "neu"),
  "contempt": ("contemptuous", "con"),
}
_CANONICAL = {
  alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)
}


def canonical(name: str) -> str:
  """The usual name of a class: `happy` for Happiness; any other name as it is.

  Args:
    name: of a class or its folder, in any case.
  """
  return _CANONICAL.get(name.strip().lower(), name)


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
