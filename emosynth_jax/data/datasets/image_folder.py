"""Folder of class folders of images, for custom data sets.

Two layouts are supported:

    root/{train,validation,test}/<class>/*
    root/<class>/*                           one split, "train"

"validation" is also read as "val", "valid" or "dev", "train" as "training", "test" as
"testing". The class names are the sorted folder names, the same in every split, up to
another spelling of an expression (see `class_names`); the images of a class are sorted
by name. Litter is ignored, see `listing.is_litter`.
"""

import pathlib
from typing import Any

import numpy as np

from emosynth_jax.data import class_names as spellings
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import files as image_files
from emosynth_jax.utils import errors, listing

_FOLDERS = {
  "train": ("train", "training"),
  "validation": ("validation", "valid", "val", "dev"),
  "test": ("test", "testing"),
}


def load(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  image_size: int,
  channels: int,
  share: Any = None,
) -> Dataset:
  """Reads one split of a folder of class folders.

  Args:
    data_dir: the root of either layout.
    split: "train", "validation" or "test".
    image_size: side in pixels to which every image is resized; an image that isn't
      square is stretched. Shrinking averages over areas, enlarging is bilinear.
    channels: 1 converts to grayscale, 3 to RGB; an alpha channel is dropped.
    share: if given, each image is read on access.

  Returns:
    A `Dataset` of images `(N, image_size, image_size, channels)`.

  Raises:
    FileNotFoundError: the folder, or the split in it, doesn't exist.
    ValueError: splits differ in their classes, a class is empty, or a file is no
      image; the folder or file is named.
  """
  errors.check_choice("split", split, _FOLDERS)
  image_files.check_options(image_size, channels)
  root = pathlib.Path(data_dir)
  roots = _split_roots(root)
  if split not in roots:
    raise FileNotFoundError(
      f"{root}: no split {split!r}; it has {', '.join(roots)}. Put the class folders "
      f"of {split!r} in {root / split}"
    )
  class_names, folders = _class_folders(roots)
  paths, labels = [], []
  for label, folder in enumerate(folders[split]):
    files = listing.visible(folder)
    if not files:
      raise ValueError(f"{folder}: no image of this class")
    paths += files
    labels += [label] * len(files)

  dataset = Dataset(
    images=image_files.lazily(paths, image_size, channels),
    labels=np.array(labels, np.int32),
    class_names=class_names,
    split=split,
    sources=tuple(path.relative_to(root).as_posix() for path in paths),
  )
  return dataset.in_memory() if share is None else dataset


def has_validation(data_dir: str | pathlib.Path, **options: Any) -> bool:
  """Returns whether the folder has its own validation split, whatever the options."""
  return "validation" in _split_roots(pathlib.Path(data_dir))


def _split_roots(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folder of class folders of each split."""
  if not root.is_dir():
    raise FileNotFoundError(
      f"no folder {root}; expected one that holds train/, validation/ and test/ with a "
      "folder of images for each class, or such class folders themselves"
    )

  roots: dict[str, pathlib.Path] = {}
  others = []
  for folder in [path for path in listing.visible(root) if path.is_dir()]:
    names = [k for k, known in _FOLDERS.items() if folder.name.lower() in known]
    if not names:
      others.append(folder)
    elif names[0] in roots:
      raise ValueError(
        f"{root}: both {roots[names[0]].name}/ and {folder.name}/ exist; keep one"
      )
    else:
      roots[names[0]] = folder
  if roots:
    _check_others(roots, others)
    return {split: roots[split] for split in _FOLDERS if split in roots}
  return {"train": root}


def _check_others(roots: dict[str, pathlib.Path], others: list[pathlib.Path]) -> None:
  """Refuses a folder beside the splits that has their classes: it is one, misnamed."""
  classes = {path.name for path in listing.visible(next(iter(roots.values())))}
  for folder in others:
    if len(classes & {path.name for path in listing.visible(folder)}) > 1:
      known = ", ".join(f"{name}/" for names in _FOLDERS.values() for name in names)
      raise ValueError(
        f"{folder}: class folders, but its name is of no split ({known}): rename it, "
        "or move it away"
      )


def _class_folders(
  roots: dict[str, pathlib.Path],
) -> tuple[tuple[str, ...], dict[str, list[pathlib.Path]]]:
  """The class names, and each split's class folders in that order."""
  names = {
    split: [path.name for path in listing.visible(root) if path.is_dir()]
    for split, root in roots.items()
  }
  (first, expected), *others = names.items()
  if len(expected) < 2:
    raise ValueError(
      f"{roots[first]}: expected two or more class folders, got {expected}"
    )
  folders = {first: [roots[first] / name for name in expected]}
  for split, found in others:
    matches = spellings.matches(expected, found)
    if not len(matches) == len(expected) == len(found):
      missing = [name for i, name in enumerate(expected) if i not in matches]
      unknown = [n for i, n in enumerate(found) if i not in matches.values()]
      raise ValueError(
        f"{roots[split]}: class folders differ from those of {roots[first].name}/: "
        f"missing {missing}, unexpected {unknown}"
      )
    folders[split] = [roots[split] / found[matches[i]] for i in range(len(expected))]
  return tuple(expected), folders
