"""Checks of the number of images that a loader has read."""

from collections.abc import Sequence

import numpy as np
from absl import logging


def check_classes(where: str, labels: np.ndarray, class_names: Sequence[str]) -> None:
  """Raises ValueError, which begins with `where`, for a class without an image."""
  counts = np.bincount(labels, minlength=len(class_names))
  if not counts.all():
    name = class_names[int(counts.argmin())]
    raise ValueError(f"{where} no image of class {name!r}")


def warn_if_partial(where: object, found: int, kind: str, expected: int) -> None:
  """Logs a warning if the whole data set has another number of images of a kind."""
  if found != expected:
    logging.warning(
      "%s has %s %s; the whole data set has %s",
      where,
      f"{found:,}",
      kind,
      f"{expected:,}",
    )
