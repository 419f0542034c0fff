"""Installed size of a package with its dependencies."""

import importlib.metadata
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
  sizes: dict[str, int] = {}
  seen: set[tuple[str, str | None]] = set()
  todo = [(Requirement(package), True)]
  while todo:
    wanted, is_required = todo.pop()
    name = canonicalize_name(wanted.name)
    try:
      distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      if is_required:
        raise ModuleNotFoundError(
          f"{name} is not installed: pip install {package!r}"
        ) from None
      continue
    is_first = not sizes
    sizes[name] = sum(file.size or 0 for file in distribution.files or [])
    # A package is visited once for itself, and once for each of its extras.
    for extra in {None, *map(canonicalize_name, wanted.extras)}:
      if (name, extra) in seen:
        continue
      seen.add((name, extra))
      needed = map(Requirement, distribution.requires or [])
      own = [requirement for requirement in needed if _extra(requirement) == extra]
      todo += [(requirement, is_first and extra is not None) for requirement in own]
  return sum(sizes.values()), len(sizes)


def _extra(requirement: Requirement) -> str | None:
  """The extra that a requirement belongs to."""
  match = re.search(r"\bextra == \"([^\"]+)\"", str(requirement.marker))
  return canonicalize_name(match[1]) if match else None
