"""What an analysis has computed, in a workdir: read again, and never overwritten.

STEM.json and STEM.npz have what was asked for last. What was made with other settings
stays beside them as STEM-XXXXXXXX.*, named by a checksum of its settings, and comes
back when those are asked for again.
"""

import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.analysis import directions as of_params
from emosynth_jax.utils import files, npz

# Of one analysis, the record last: it says that the others are whole.
_PICTURES = (".png", "_contour.png", "_surface.png")
# Beside another run, whose settings are not here: drawn again where asked for.
_COMPARISONS = tuple(f"_comparison{ending}" for ending in _PICTURES)
_ENDINGS = (*_PICTURES, "_directions.npz", ".npz", ".json")

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


def read(stem: pathlib.Path, settings: Mapping[str, Any]) -> Found | None:
  """What a workdir has of an analysis that was made with the same settings.

  What is found among the kept ones becomes the current one; that one is kept.

  Args:
    stem: path without ".json" and ".npz".
    settings: what the figures depend on.

  Returns:
    The record and the arrays, or None where there are none of these settings.
  """
  if found := _read_same(stem, settings):
    return found
  for record in sorted(stem.parent.glob(f"{stem.name}-*.json")):
    other = record.with_suffix("")
    if found := _read_same(other, settings):
      keep_current(stem)
      _clear(stem)
      _copy(other, stem)
      logging.info("%s.json is back from %s.json.", stem, other.name)
      return found
  return None


def write(
  stem: pathlib.Path,
  record: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  directions: Any = None,
) -> None:
  """Writes an analysis; one of other settings is kept under another name.

  The pictures of the one before are removed: they are drawn anew, and until then
  nothing in the workdir shows another network's.

  Args:
    stem: path without ".json" and ".npz".
    record: the content of STEM.json, with "settings".
    arrays: the content of STEM.npz.
    directions: those of the plane, if there is one, for STEM_directions.npz.
  """
  current = _record(stem)
  if current and not _same(current["settings"], record["settings"]):
    keep_current(stem)
  _clear(stem)
  if directions is not None:
    of_params.save_directions(_with(stem, "_directions.npz"), directions)
  npz.write_npz(_with(stem, ".npz"), arrays)
  files.write_report(_with(stem, ".json"), record)


def keep_current(stem: pathlib.Path) -> None:
  """Keeps a whole analysis under the name of its settings, and says so."""
  record = _record(stem)
  if record is None or not _with(stem, ".npz").is_file():
    return
  own = json.dumps(_telling(record["settings"]), sort_keys=True)
  other = stem.with_name(f"{stem.name}-{zlib.crc32(own.encode()):08x}")
  _copy(stem, other)
  logging.info(
    "%s.json was made with other settings; it is kept as %s.json.", stem, other.name
  )


def _copy(stem: pathlib.Path, other: pathlib.Path) -> None:
  """Gives all files of an analysis a second name, without writing them twice."""
  for ending in _ENDINGS:
    source, target = _with(stem, ending), _with(other, ending)
    if not source.is_file():
      continue
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
      try:
        # Files are replaced and never written to, so that the name keeps its content.
        os.link(source, temporary)
      except OSError:  # a file system without links
        shutil.copyfile(source, temporary)
      os.replace(temporary, target)
    finally:
      temporary.unlink(missing_ok=True)


def _clear(stem: pathlib.Path) -> None:
  """Removes what must not stand beside new arrays: the old record and pictures."""
  for ending in (".json", *_PICTURES, *_COMPARISONS):
    _with(stem, ending).unlink(missing_ok=True)


def _read_same(stem: pathlib.Path, settings: Mapping[str, Any]) -> Found | None:
  record = _record(stem)
  if record is None or not _same(record["settings"], settings):
    return None
  try:
    return record, npz.read_npz(_with(stem, ".npz"))
  except (OSError, ValueError):
    return None


def _record(stem: pathlib.Path) -> dict[str, Any] | None:
  """A record, or None where there is none, or a damaged one."""
  try:
    record = json.loads(_with(stem, ".json").read_text())
  except (OSError, ValueError):
    return None
  whole = isinstance(record, dict) and isinstance(record.get("settings"), dict)
  return record if whole else None


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
  return _telling(found) == _telling(wanted)


def _telling(settings: Mapping[str, Any]) -> dict[str, Any]:
  # A workdir may be named in more ways than one; what it holds is in the checksums.
  plain = files.to_jsonable(dict(settings))
  return {key: value for key, value in plain.items() if key != "workdir"}


def _with(stem: pathlib.Path, ending: str) -> pathlib.Path:
  return stem.with_name(f"{stem.name}{ending}")
