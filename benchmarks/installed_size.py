"""Installed size of a package with its dependencies."""

import importlib.metadata
import re
from typing import Any


def installed_size(package: str) -> tuple[int, int]:
  """Bytes of a package with its dependencies, and the number of packages.

  Bytes are those of the files that each package lists, without compiled bytecode.
  Dependencies for other platforms count if they are installed.

  Args:
    package: its name, with extras in brackets if any: "emosynth_jax[predict]".

  Returns:
    The size and the number.

  Raises:
    ModuleNotFoundError: if the package, or a dependency of its extras, isn't installed.
  """
  name, extras = _parse(package)
  todo = [(name, extras)]
  seen: set[tuple[str, str | None]] = set()
  sizes: dict[str, int] = {}
  while todo:
    name, extras = todo.pop()
    try:
      distribution: Any = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      if not sizes:
        raise ModuleNotFoundError(
          f"{name} is not installed: pip install {package!r}"
        ) from None
      continue
    is_first = not sizes
    if name not in sizes:
      files = distribution.files or []
      sizes[name] = sum(file.size or 0 for file in files)
    # A package is visited once for itself, and once for each of its extras.
    for extra in {None, *extras}:
      if (name, extra) in seen:
        continue
      seen.add((name, extra))
      for requirement in distribution.requires or []:
        if _extra(requirement) != extra:
          continue
        needed = _parse(requirement)
        if is_first and extra is not None and not _is_installed(needed[0]):
          raise ModuleNotFoundError(
            f"{needed[0]} is not installed: pip install {package!r}"
          )
        todo.append(needed)
  return sum(sizes.values()), len(sizes)


def _parse(requirement: str) -> tuple[str, tuple[str, ...]]:
  """Normalized name and extras of a requirement, as in "a.b[c,d]>=1; marker"."""
  match = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement)
  if match is None:
    raise ValueError(f"not a requirement: {requirement!r}")
  extras = (match[2] or "").replace(" ", "").split(",")
  return _normalise(match[1]), tuple(_normalise(x) for x in extras if x)


def _normalise(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def _extra(requirement: str) -> str | None:
  """The extra that a requirement belongs to."""
  match = re.search(r"\bextra\s*==\s*['\"]([^'\"]+)", requirement)
  return _normalise(match[1]) if match else None


def _is_installed(name: str) -> bool:
  try:
    importlib.metadata.distribution(name)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
