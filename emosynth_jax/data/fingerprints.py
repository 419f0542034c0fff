"""Comparison of data sets by their fingerprints, which `run_data` computes."""

from collections.abc import Mapping
from typing import Any

from absl import logging

from emosynth_jax.data.images import pixel_form

# Derived from the pixels, whose checksums identify the data; missing in files of
# earlier runs.
_DERIVED = ("pixel_forms",)


def different_data(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
  """Compares two fingerprints of a split.

  Args:
    new: of `run_data.fingerprint`, one split's.
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
    found: of `run_data.fingerprint`, or the content of data.json.

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
