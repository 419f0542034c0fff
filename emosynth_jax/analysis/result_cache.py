"""Cache of analysis results in a workdir, which never overwrites other settings.

STEM.json and STEM.npz hold the latest requested result. Results of other settings are
kept as STEM-XXXXXXXX.*, named by a checksum of the settings, and are restored when
those settings are requested again.
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
from emosynth_jax.config import renamed
from emosynth_jax.utils import files, npz
from emosynth_jax.utils.json_files import read_json

# Files of one analysis, the record last: it marks the others as complete.
_PLOTS = (".png", "_contour.png", "_surface.png")
# Comparison plots depend on another run, whose settings are not here: redrawn on
# request.
_COMPARISONS = tuple(f"_comparison{ending}" for ending in _PLOTS)
_ENDINGS = (*_PLOTS, "_directions.npz", ".npz", ".json")

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


def read(stem: pathlib.Path, settings: Mapping[str, Any]) -> Found | None:
  """Looks up the result of an analysis with the same settings.

  A match among the kept results becomes the current one, and the current one is kept.

  Args:
    stem: path without ".json" and ".npz".
    settings: the settings that the results depend on.

  Returns:
    The record and the arrays, or None if there is no result of these settings.
  """
  if found := _read_same(stem, settings):
    return found
  for record in sorted(stem.parent.glob(f"{stem.name}-*.json")):
    other = record.with_suffix("")
    if found := _read_same(other, settings):
      keep_current(stem)
      _clear(stem)
      _copy(other, stem)
      logging.info("%s.json was restored from %s.json.", stem, other.name)
      return found

  return None


def write(
  stem: pathlib.Path,
  record: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  directions: Any = None,
) -> None:
  """Writes a result; one of other settings is kept under another name.

  The previous plots are removed: until they are redrawn, the workdir has no plot that
  belongs to other results.

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
  """Keeps a complete result under the name of its settings, and logs it."""
  record = _record(stem)
  if record is None or not _with(stem, ".npz").is_file():
    return
  own = json.dumps(_telling(record["settings"]), sort_keys=True)
  other = stem.with_name(f"{stem.name}-{zlib.crc32(own.encode()):08x}")
  _copy(stem, other)
  logging.info("%s.json has other settings; it was kept as %s.json.", stem, other.name)


def _copy(stem: pathlib.Path, other: pathlib.Path) -> None:
  """Links all files of an analysis under a second name, without copying them."""
  for ending in _ENDINGS:
    source, target = _with(stem, ending), _with(other, ending)
    if not source.is_file():
      continue
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
      try:
        # Files are replaced and never written to, so that the link keeps its content.
        os.link(source, temporary)
      except OSError:  # a file system without links
        shutil.copyfile(source, temporary)
      os.replace(temporary, target)
    finally:
      temporary.unlink(missing_ok=True)


def _clear(stem: pathlib.Path) -> None:
  """Removes the old record and plots, which would not match the new arrays."""
  for ending in (".json", *_PLOTS, *_COMPARISONS):
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
  """Reads a record; None if it is missing or damaged."""
  try:
    return renamed.with_new_names(read_json(_with(stem, ".json"), {"settings": dict}))
  except (OSError, ValueError):
    return None


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
  return _telling(found) == _telling(wanted)


def _telling(settings: Mapping[str, Any]) -> dict[str, Any]:
  # A workdir may have several paths; the checksums identify its content.
  plain = files.to_jsonable(dict(settings))
  return {key: value for key, value in plain.items() if key != "workdir"}


def _with(stem: pathlib.Path, ending: str) -> pathlib.Path:
  return stem.with_name(f"{stem.name}{ending}")
