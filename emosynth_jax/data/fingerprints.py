"""Fingerprints of data sets: sizes and checksums of each split."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import pixel_form
from emosynth_jax.data.images.lazy import LazyImages
from emosynth_jax.parallel import distributed

# The part of a fingerprint that a process computes without the others.
_TOLD_ALONE = (
  "num_examples",
  "class_names",
  "sample_crc32",
  "labels_crc32",
  "soft_labels_crc32",
  "images_crc32",
)

# Derived from the pixels, whose checksums identify the data; missing in files of
# earlier runs.
_DERIVED = ("pixel_forms",)

# Number of sampled images that identify a split whose images are not all in memory.
_SAMPLE = 64


def fingerprint(datasets: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
  """Computes the fingerprint of data sets: sizes and checksums of each split.

  It is the same in a job of any number of processes, all of which call this alike. A
  split that stays on disk has no checksum of all its images, only that of a sample.
  It includes the counts of the images' forms where these are known.

  Args:
    datasets: some of the splits.

  Returns:
    Counts and checksums by split and name.

  Raises:
    ValueError: in all processes of a job, if they do not read the same data.
  """
  found: dict[str, dict[str, Any]] = {}
  for name, dataset in datasets.items():
    count = min(_SAMPLE, len(dataset))
    rows = np.arange(count) * len(dataset) // max(count, 1)
    found[name] = {
      "num_examples": len(dataset),
      "class_names": list(dataset.class_names),
      "sample_crc32": zlib.crc32(dataset.images[rows].tobytes()),
      "labels_crc32": zlib.crc32(dataset.labels.tobytes()),
    }
    if dataset.soft_labels is not None:
      found[name]["soft_labels_crc32"] = zlib.crc32(dataset.soft_labels.tobytes())
    if dataset.clean_labels is not None:
      found[name]["labels_changed"] = int(
        np.sum(dataset.labels != dataset.clean_labels)
      )
    if counts := dataset.form_counts:
      found[name]["pixel_forms"] = counts
    if not isinstance(dataset.images, LazyImages):
      found[name]["images_crc32"] = zlib.crc32(dataset.images.tobytes())

  # Before the next collective, which not all would take part in if one had more images
  # than its devices hold.
  _check_one_data_set(found)
  for name, dataset in datasets.items():
    images: Any = dataset.images
    if isinstance(images, LazyImages) and images.is_held:
      part = images[images.held.start : images.held.stop]
      found[name]["images_crc32"] = distributed.crc32_of_rows(part, images.held.start)

  return found


def _check_one_data_set(found: Mapping[str, Mapping[str, Any]]) -> None:
  """Checks that all processes read the same data, by their local fingerprints."""
  keys = [(name, key) for name in found for key in _TOLD_ALONE]
  texts = [json.dumps(found[name].get(key)) for name, key in keys]
  if different := distributed.differing(texts):
    process, places = next(iter(different.items()))
    what = ", ".join(f"{keys[i][0]} {keys[i][1]}" for i in places)
    raise ValueError(
      f"config.data.data_dir: process {', '.join(map(str, different))} reads "
      f"different data than process 0 (process {process} differs in {what}); give "
      "all processes the same data"
    )


def different_data(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
  """Compares two fingerprints of a split.

  Args:
    new: of `fingerprint`, one split's.
    old: likewise; not every way of reading a split has all the checksums.

  Returns:
    Names of the entries that both have and that differ.
  """
  return [
    key for key in new if key in old and new[key] != old[key] and key not in _DERIVED
  ]


def form_counts(
  found: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, int]]:
  """Number of images of each form, for the splits where it is known.

  Args:
    found: of `fingerprint`, or the content of data.json.

  Returns:
    By split, the counts as `pixel_form.count_forms` gives them.
  """
  return {
    name: split["pixel_forms"]
    for name, split in found.items()
    if split.get("pixel_forms")
  }


def warn_of_other_form(
  trained: Mapping[str, int] | None, counts: Mapping[str, int] | None, use: str
) -> None:
  """Logs a warning if images have another form than the network's training images.

  The form of most images counts. Nothing is logged where one of the two is not known.

  Args:
    trained: the training images of each form, see `form_counts`.
    counts: likewise, of the other images.
    use: what is done with those, in words: "evaluated on".
  """
  forms = pixel_form.main_form(trained), pixel_form.main_form(counts)
  if trained and counts and None not in forms and forms[0] != forms[1]:
    logging.warning(
      "Pixel form mismatch: the network was trained on %s images and is %s %s ones; "
      "results on the two forms are not comparable (docs/guides/data.md).",
      pixel_form.describe_counts(trained),
      use,
      pixel_form.describe_counts(counts),
    )
