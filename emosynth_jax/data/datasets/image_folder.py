"""Folder of class folders of images, for custom data sets.

Two layouts are supported:

    root/train/<class>/*   root/validation/<class>/* (or val)   root/test/<class>/*
    root/<class>/*         one split, "train"

The class names are the sorted folder names, the same in every split; the images of a
class are sorted by name. Files and folders whose name starts with a dot are ignored.
"""

import pathlib
from typing import Any

import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import files as image_files

_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load(
  data_dir: str | pathlib.Path, split: str, *, image_size: int, channels: int
) -> Dataset:
  """Reads one split of a folder of class folders.

  Args:
    data_dir: the root of either layout.
    split: "train", "validation" or "test".
    image_size: side in pixels to which every image is resized; an image that isn't
      square is stretched. Shrinking averages over areas, enlarging is bilinear.
    channels: 1 converts to grayscale, 3 to RGB; an alpha channel is dropped.

  Returns:
    A `Dataset` of images `(N, image_size, image_size, channels)`.

  Raises:
    FileNotFoundError: the folder, or the split in it, doesn't exist.
    ValueError: splits differ in their classes, a class is empty, or a file is no
      image; the folder or file is named.
  """
  return open_split(
    data_dir, split, image_size=image_size, channels=channels
  ).in_memory()


def open_split(
  data_dir: str | pathlib.Path, split: str, *, image_size: int, channels: int
) -> Dataset:
  """Like `load`, but reads each image on access."""
  if split not in _FOLDERS:
    raise ValueError(f"split: expected one of {list(_FOLDERS)}, got {split!r}")
  image_files.check_options(image_size, channels)
  root = pathlib.Path(data_dir)
  roots = _split_roots(root)
  if split not in roots:
    raise FileNotFoundError(
      f"{root}: no split {split!r}; it has {', '.join(roots)}. Put the class folders "
      f"of {split!r} in {root / split}"
    )

  class_names = _class_names(roots)
  paths, labels = [], []
  for label, class_name in enumerate(class_names):
    files = image_files.visible(roots[split] / class_name)
    if not files:
      raise ValueError(f"{roots[split] / class_name}: no image of this class")
    paths += files
    labels += [label] * len(files)

  return Dataset(
    images=image_files.lazily(paths, image_size, channels),
    labels=np.array(labels, np.int32),
    class_names=class_names,
    split=split,
    sources=tuple(path.relative_to(root).as_posix() for path in paths),
  )


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
  for split, names in _FOLDERS.items():
    for name in names:
      if (root / name).is_dir():
        if split in roots:
          raise ValueError(
            f"{root}: both {roots[split].name}/ and {name}/ exist; keep one"
          )
        roots[split] = root / name

  return roots or {"train": root}


def _class_names(roots: dict[str, pathlib.Path]) -> tuple[str, ...]:
  names = {
    split: tuple(path.name for path in image_files.visible(root) if path.is_dir())
    for split, root in roots.items()
  }
  (first, expected), *others = names.items()
  if len(expected) < 2:
    raise ValueError(
      f"{roots[first]}: expected two or more class folders, got {list(expected)}"
    )

  for split, found in others:
    if found != expected:
      raise ValueError(
        f"{roots[split]}: class folders differ from those of {roots[first].name}/: "
        f"missing {sorted(set(expected) - set(found))}, unexpected "
        f"{sorted(set(found) - set(expected))}"
      )

  return expected
