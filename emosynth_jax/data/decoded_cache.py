"""Cache of decoded images in the user's cache folder.

An entry is used only if the file has the same path, size, time and SHA-256 as when it
was decoded, by the same code; a folder's files the same names, sizes and times. The
folder is `emosynth_jax/data` in $XDG_CACHE_HOME, by default ~/.cache. With
EMOSYNTH_DATA_CACHE=0 nothing is read or written there.
"""

import functools
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL
from absl import logging

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import files, npz
from emosynth_jax.utils.json_files import parse_json

# Files whose time is more recent may still change without their time changing.
_RECENT_SECONDS = 2.0
_FIELDS = ("images", "labels", "sources", "pixel_forms")
_METADATA = ("class_names", "split", "official_split")

_digests: dict[tuple, str] = {}


def is_enabled() -> bool:
  """Returns whether the cache is used; EMOSYNTH_DATA_CACHE=0 disables it."""
  value = os.environ.get("EMOSYNTH_DATA_CACHE", "1")
  return value.lower() not in ("0", "off", "false", "no")


def folder() -> pathlib.Path:
  """The folder of the entries."""
  return files.user_folder("XDG_CACHE_HOME", ".cache") / "data"


def load_or_decode(
  path: pathlib.Path,
  part: str,
  decode: Callable[[], Dataset],
  code: Sequence[str],
) -> Dataset:
  """Reads a part of a data set from the cache, or decodes it and keeps it there.

  Args:
    path: the file or folder of the data set.
    part: name of the part, such as a split.
    decode: reads the part from `path`.
    code: the source files on which the result depends.

  Returns:
    What `decode` returns.
  """
  if not is_enabled():
    return decode()
  try:
    key = _key(path, part, code)
    name = hashlib.sha256(f"{path.resolve()}\0{part}".encode()).hexdigest()[:16]
    entry = folder() / f"{path.stem}-{name}.npz"
    cached = _read(entry, key)
  except OSError as error:
    logging.warning("The cache of decoded images is not used: %s", error)
    return decode()
  if cached is not None:
    logging.info("%s: %s from the cache, %s", path.name, part, entry)
    return cached

  dataset = decode()
  try:
    # A file that changed while it was read is not kept.
    if _key(path, part, code) == key:
      _write(entry, key, dataset)
      logging.info(
        "%s: %s is kept decoded in %s for the next start (EMOSYNTH_DATA_CACHE=0: "
        "never)",
        path.name,
        part,
        entry,
      )
  except OSError as error:
    logging.warning("The decoded images of %s are not kept: %s", path, error)
  return dataset


def _key(path: pathlib.Path, part: str, code: Sequence[str]) -> str:
  """All that an entry depends on."""
  state = path.stat()
  facts = {
    "path": os.fspath(path.resolve()),
    "part": part,
    "size": state.st_size,
    "mtime_ns": state.st_mtime_ns,
    "content": _digest_of_folder(path) if path.is_dir() else _digest_of_file(path),
    "code": [_digest_of_code(tuple(code)), PIL.__version__, np.__version__],
  }
  return json.dumps(facts, sort_keys=True)


def _digest_of_file(path: pathlib.Path) -> str:
  state = path.stat()
  # No program can set the time of a change, ctime, to a value of its choice.
  identity = (state.st_dev, state.st_ino, state.st_size, state.st_ctime_ns)
  if identity in _digests:
    return _digests[identity]
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if time.time() - state.st_ctime_ns * 1e-9 > _RECENT_SECONDS:
    _digests[identity] = digest
  return digest


def _digest_of_folder(path: pathlib.Path) -> str:
  """Of the names, sizes and times of all files, whose contents take seconds to read."""
  lines: list[str] = []
  waiting = [(os.fspath(path), "")]
  while waiting:
    directory, prefix = waiting.pop()
    with os.scandir(directory) as entries:
      for entry in entries:
        if entry.is_dir():
          waiting.append((entry.path, f"{prefix}{entry.name}/"))
          continue
        state = entry.stat()
        times = f"{state.st_mtime_ns} {state.st_ctime_ns}"
        lines.append(f"{prefix}{entry.name}\0{state.st_size} {times} {state.st_ino}")
  text = "\n".join(sorted(lines))
  return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@functools.cache
def _digest_of_code(files: tuple[str, ...]) -> str:
  contents = [pathlib.Path(file).read_bytes() for file in (__file__, *files)]
  return hashlib.sha256(b"\0".join(contents)).hexdigest()


def _read(entry: pathlib.Path, key: str) -> Dataset | None:
  """The entry's data, None if there is none of this key or it is damaged."""
  try:
    arrays = npz.read_npz(entry)
    facts = parse_json(str(arrays["facts"]), "facts")
    if facts["key"] != key:
      return None
    metadata = {name: facts[name] for name in _METADATA}
    forms = arrays.get("pixel_forms")
    return Dataset(
      images=arrays["images"],
      labels=arrays["labels"],
      sources=tuple(arrays["sources"].tolist()),
      pixel_forms=forms,
      **metadata | {"class_names": tuple(metadata["class_names"])},
    )
  except FileNotFoundError:
    return None
  except (ValueError, KeyError, TypeError) as error:
    logging.warning(
      "The cache entry %s is damaged and is written anew: %s", entry, error
    )
    return None


def _write(entry: pathlib.Path, key: str, dataset: Dataset) -> None:
  """Writes an entry atomically; the last of several concurrent writers wins."""
  arrays: dict[str, Any] = {
    name: np.asarray(value)
    for name in _FIELDS
    if (value := getattr(dataset, name)) is not None
  }
  facts = {name: getattr(dataset, name) for name in _METADATA} | {"key": key}
  arrays["facts"] = np.asarray(json.dumps(facts))
  npz.write_npz(entry, arrays)
