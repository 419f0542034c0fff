"""Timing of predictions, and its summary."""

from collections import Counter


class Timing:
  """Times of the parts, in seconds; one-time costs are separate.

  Attributes:
    pictures: number of images in detection, which took `detection`.
    faces: number of classified faces, in `batches` of one size, padded with blanks;
      they took `classification`.
    loading: of the detector, once for each shape of input.
    compilation: of the network's program, with its first call.
  """

  def __init__(self):
    self.pictures = self.faces = self.batches = 0
    self.detection = self.classification = 0.0
    self.loading = self.compilation = 0.0


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
    passed_over: as `media.read_all` counts it.

  Returns:
    Lines.
  """
  lines = [", ".join(f"{number} {name}" for name, number in counts.items())]
  passed = [
    f"{number} {suffix}" for suffix, number in passed_over.most_common() if number
  ]
  if passed:
    lines.append(f"skipped in folders: {', '.join(passed)}")
  if counts["pictures"]:
    speed = [f"{counts['pictures'] / max(seconds, 1e-9):.1f} images/s"]
    if timing.pictures:
      each = 1000 * timing.detection / timing.pictures
      speed.append(f"detection {each:.1f} ms/image")
    if timing.faces:
      each = 1000 * timing.classification / timing.faces
      fill = timing.faces / (timing.batches * batch_size)
      speed.append(
        f"classification {each:.1f} ms/face in batches of {batch_size}, {fill:.0%} "
        "filled"
      )
    lines.append(", ".join(speed))
  lines.append(
    f"excluded: compilation {timing.compilation:.1f} s, detector setup per image "
    f"shape {timing.loading:.1f} s. images/s includes decoding, not drawing"
  )
  return "\n".join(lines)
