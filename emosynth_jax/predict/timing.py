"""Timing of predictions, and its summary."""

import threading
from collections import Counter

from absl import logging


class Timing:
  """Times of the parts, in seconds; one-time costs are separate.

  Attributes:
    images: number of images in detection, which took `detection`.
    faces: number of classified faces, among `places` of batches, whose rest was blank,
      and alone; they took `classification`.
    loading: of the detector, once for each shape of input.
    compilation: of the network's programs, with their first calls.
    shrunk: number of images that were shrunk more than fourfold for the detector.
    smallest_face: of the most shrunk one, the least height of a face that is found, in
      pixels.
  """

  def __init__(self):
    self.images = self.faces = self.places = 0
    self.detection = self.classification = 0.0
    self.loading = self.compilation = 0.0
    self.shrunk, self.smallest_face = 0, 0.0
    self._lock = threading.Lock()

  def add_detection(self, seconds: float, loading: float) -> None:
    """Counts an image.

    Args:
      seconds: of the detector's call.
      loading: all that the detector has spent on loading so far, in any thread.
    """
    with self._lock:
      new = loading - self.loading
      self.loading = loading
      self.detection += seconds - new
      self.images += 1

  def add_shrunk(self, smallest_face: float) -> None:
    """Counts an image that was shrunk more than fourfold, and warns at the first."""
    with self._lock:
      is_first = not self.shrunk
      self.shrunk += 1
      self.smallest_face = max(self.smallest_face, smallest_face)
    if is_first:
      logging.warning(
        "Large images are shrunk to find faces: in the first of them, faces of less "
        "than about %.0f pixels may be missed; a larger max_side finds them.",
        smallest_face,
      )

  def add_classification(self, seconds: float, faces: int, places: int) -> None:
    """Counts the faces that were classified together, and the places for them."""
    with self._lock:
      self.classification += seconds
      self.faces += faces
      self.places += places


def describe(
  counts: dict[str, int],
  seconds: float,
  timing: Timing,
  batch_size: int,
  passed_over: Counter[str],
) -> str:
  """Formats the results and the speed in a few lines.

  Args:
    counts: numbers of images, faces and so on.
    seconds: time for reading and prediction, without one-time costs.
    timing: times of the parts.
    batch_size: faces at a time.
    passed_over: as `sources.find` counts it.

  Returns:
    Lines.
  """
  lines = [
    f"{_count(counts['images'], 'image')}, {_count(counts['faces'], 'face')}, "
    f"{counts['uncertain']} uncertain, {counts['unreadable']} unreadable"
  ]
  passed = [
    f"{number} {suffix}" for suffix, number in passed_over.most_common() if number
  ]
  if passed:
    lines.append(f"skipped in folders: {', '.join(passed)}")
  if timing.shrunk:
    lines.append(
      "shrunk more than fourfold for detection: "
      f"{_count(timing.shrunk, 'image')}, in which "
      f"faces of less than about {timing.smallest_face:.0f} pixels may be missed; a "
      "larger --max_side finds them"
    )
  if counts["images"]:
    speed = [f"{counts['images'] / max(seconds, 1e-9):.1f} images/s"]
    if timing.images:
      each = 1000 * timing.detection / timing.images
      speed.append(f"detection {each:.1f} ms/image")
    if timing.faces:
      each = 1000 * timing.classification / timing.faces
      fill = timing.faces / timing.places
      speed.append(
        f"classification {each:.1f} ms/face in batches of {batch_size}, "
        f"{100 * fill:.0f} % filled"
      )
    lines.append(", ".join(speed))

  lines.append(
    f"excluded: compilation {timing.compilation:.1f} s, detector setup per image "
    f"shape {timing.loading:.1f} s. images/s includes decoding, not drawing"
  )
  return "\n".join(lines)


def _count(number: int, name: str) -> str:
  return f"{number:,} {name}{'s' * (number != 1)}"
