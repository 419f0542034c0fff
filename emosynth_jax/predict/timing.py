"""How long predictions took, and what the command says of it."""

from collections import Counter


class Timing:
  """What the parts took, in seconds; what is done once is in none but its own.

  Attributes:
    pictures: how many were searched for faces, and `detection` how long it took.
    faces: how many were classified, in `batches` of one size whose rest is blank, and
      `classification` how long it took.
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
  """What was found and how fast, in a few lines.

  Args:
    counts: of pictures, faces and so on.
    seconds: that reading and predicting took, without what is done once.
    timing: of the parts.
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
    lines.append(f"in folders passed over: {', '.join(passed)}")
  if counts["pictures"]:
    speed = [f"{counts['pictures'] / max(seconds, 1e-9):.1f} pictures a second"]
    if timing.pictures:
      each = 1000 * timing.detection / timing.pictures
      speed.append(f"detection {each:.1f} ms a picture")
    if timing.faces:
      each = 1000 * timing.classification / timing.faces
      fill = timing.faces / (timing.batches * batch_size)
      speed.append(
        f"classification {each:.1f} ms a face in batches of {batch_size}, {fill:.0%} "
        "filled"
      )
    lines.append(", ".join(speed))
  lines.append(
    f"in none of these figures: compilation {timing.compilation:.1f} s, loading the "
    f"detector for each shape {timing.loading:.1f} s. Reading is in the pictures a "
    "second, drawing is not"
  )
  return "\n".join(lines)
