"""Files and folders of a data set: what is litter, and where to look."""

import pathlib
from collections.abc import Iterable, Sequence

# What Windows and macOS leave in folders, and a folder in zips that macOS packs.
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}

# Endings of the names of image files.
IMAGE_SUFFIXES = frozenset(
  ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .gif .tif .tiff .webp .avif .jp2 .ppm "
  ".pgm .pbm .pnm".split()
)


def is_litter(name: str) -> bool:
  """Returns whether a file is no part of a data set, by any part of its path.

  Litter is what starts with a dot, the thumbnails and settings of Windows' folders
  (Thumbs.db, desktop.ini), and all below `__MACOSX`.

  Args:
    name: a name, or a path with slashes, relative to the data set's root.
  """
  return any(
    part.startswith(".") or part.lower() in _LITTER for part in name.split("/") if part
  )


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files and folders in a folder without its litter, sorted by name."""
  return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def visible_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """All files below a folder without litter, sorted by path."""
  return sorted(
    path
    for path in folder.rglob("*")
    if path.is_file() and not is_litter(path.relative_to(folder).as_posix())
  )


def places(root: pathlib.Path, names: Iterable[str] = ()) -> list[pathlib.Path]:
  """Folders in which a data set may lie, in the order in which to look.

  Args:
    root: the data set's folder, or one that holds it.
    names: subfolders to look at first.

  Returns:
    The root, its subfolders of these names, then all the others, as a zip that was
    unpacked into a folder of its own has them.
  """
  named = [root, *(root / name for name in names)]
  if not root.is_dir():
    return named
  return named + [p for p in visible(root) if p.is_dir() and p not in named]


def describe(root: pathlib.Path) -> str:
  """Lists a folder's content in brief, for errors about missing files."""
  if not root.exists():
    return "there is no such folder"
  if root.is_file():
    return "it is a file"
  names = [f"{path.name}/" if path.is_dir() else path.name for path in visible(root)]
  if not names:
    return "it is empty"
  return f"found {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
  more = f" and {len(names) - 5} more" if len(names) > 5 else ""
  return ", ".join(names[:5]) + more
