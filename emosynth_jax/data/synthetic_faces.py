"""Procedurally drawn faces with seven expressions: a data set that needs no file.

Every face is a drawing of about forty numbers: an identity (proportions, tones), a
pose, a light, a camera, and an expression given as displacements of brows, lids, nose
and lips in the spirit of the facial action units of Ekman and Friesen. Displacements
are scaled by a random intensity, so that faint expressions come near to neutral and to
each other, as they do in photographs.

The pixels are the same on every platform. Random numbers are raw output of a bit
generator, whose stream NumPy promises to keep; all arithmetic is elementwise
addition, multiplication, division, square root, minimum and maximum, each of which
IEEE 754 rounds in one way only. Hence no exp, no sin, no sum over pixels here.
"""

import operator
import os

import numpy as np

from emosynth_jax.data.dataset import Dataset

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIZE = 48
DEFAULT_NUM_EXAMPLES = {"train": 4096, "validation": 1024, "test": 1024}

# A chunk is drawn from its own random stream: images do not depend on how many are
# asked for. 32 blocks of one image a class keep the working arrays within a cache.
_CHUNK = 32 * len(CLASS_NAMES)

# Lengths are in face units: the face's half height is 1, x points to the image's
# right, y down, and the origin lies between the eyes' line and the mouth.

# name: (low, high) of the uniform distribution that each face draws from.
_RANGES = {
  # Pose. tilt is tan(angle / 2), a rotation without trigonometry.
  "scale": (17.5, 24.0),  # pixels for one face unit
  "center_x": (20.0, 28.0),
  "center_y": (20.0, 28.0),
  "tilt": (-0.14, 0.14),
  "yaw": (-1.0, 1.0),
  # Identity.
  "head_width": (0.70, 0.86),
  "jaw": (0.0, 0.30),
  "hairline": (-0.80, -0.58),
  "hair_curve": (-0.2, 0.6),
  "hair_width": (0.02, 0.20),
  "hair_length": (-0.3, 0.9),
  "eye_x": (0.29, 0.36),
  "eye_y": (-0.20, -0.12),
  "eye_width": (0.135, 0.175),
  "eye_height": (0.055, 0.080),
  "eye_slant": (-0.03, 0.03),
  "gaze_x": (-0.05, 0.05),
  "gaze_y": (-0.02, 0.02),
  "brow_y": (0.16, 0.21),  # above the eye
  "brow_tilt": (-0.035, 0.035),
  "brow_curve": (0.00, 0.05),
  "brow_thickness": (0.022, 0.048),
  "nose_y": (0.16, 0.24),
  "nose_width": (0.09, 0.15),
  "mouth_y": (0.49, 0.59),
  "mouth_width": (0.24, 0.33),
  "mouth_curve": (-0.025, 0.025),
  "lip_upper": (0.025, 0.055),
  "lip_lower": (0.035, 0.075),
  # Tones, 0 black to 1 white; those of brow, lip and iris multiply the skin's.
  "skin_tone": (0.36, 0.86),
  "hair_tone": (0.04, 0.55),
  "brow_tone": (0.20, 0.60),
  "lip_tone": (0.50, 0.85),
  "iris_tone": (0.10, 0.50),
  "cloth_tone": (0.05, 0.95),
  "background": (0.05, 0.95),
  "background_x": (-0.3, 0.3),
  "background_y": (-0.3, 0.3),
  # Light and camera.
  "light_x": (-0.35, 0.35),
  "light_y": (-0.30, 0.15),
  "softness": (1.1, 1.9),  # width of an edge in pixels
  "brightness": (-0.12, 0.12),
  "contrast": (0.65, 1.10),
  "noise": (0.01, 0.06),
  # Expression.
  "intensity": (0.40, 1.0),
  "variant": (0.0, 1.0),
}

# name: (displacement at full intensity, what a full `variant` adds), by class. The
# comment names the action unit.
#                  angry disgust fear happy  sad  surprise neutral
_ACTIONS = {
  "brow_inner": (  # 1 up, 4 down
    (-0.12, -0.06, 0.11, 0.00, 0.12, 0.10, 0.00),
    (0.00, 0.00, 0.02, 0.00, 0.00, 0.03, 0.00),
  ),
  "brow_outer": (  # 2
    (0.03, -0.03, 0.02, 0.02, -0.05, 0.11, 0.00),
    (0.00, 0.00, 0.02, 0.00, 0.00, 0.03, 0.00),
  ),
  "brow_pinch": (  # 4, inner ends drawn together
    (0.06, 0.03, 0.04, 0.00, 0.03, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
  ),
  "lid_upper": (  # 5 raises, 43 lowers
    (0.00, -0.020, 0.055, -0.010, -0.030, 0.050, 0.00),
    (0.02, 0.00, 0.00, 0.00, 0.01, 0.00, 0.00),
  ),
  "lid_lower": (  # 6 and 7 raise it
    (0.015, 0.030, -0.01, 0.035, 0.00, -0.015, 0.00),
    (0.00, 0.00, 0.00, 0.01, 0.00, 0.00, 0.00),
  ),
  "wrinkle": (  # 9
    (0.15, 1.00, 0.00, 0.00, 0.00, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
  ),
  "furrow": (  # 4
    (1.00, 0.40, 0.40, 0.00, 0.40, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
  ),
  "forehead": (  # 1 and 2
    (0.00, 0.00, 0.60, 0.00, 0.20, 0.90, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
  ),
  "fold": (  # 6, 10 and 12
    (0.00, 0.80, 0.00, 0.80, 0.00, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.20, 0.00, 0.00, 0.00),
  ),
  "lip_raise": (  # 10
    (0.00, 0.085, 0.00, 0.01, 0.00, 0.00, 0.00),
    (0.02, 0.02, 0.00, 0.01, 0.00, 0.00, 0.00),
  ),
  "corner": (  # 12 up, 15 down
    (-0.03, -0.05, -0.03, 0.13, -0.11, 0.00, 0.00),
    (0.00, 0.00, 0.00, 0.02, 0.00, 0.00, 0.00),
  ),
  "stretch": (  # 20 widens, 18 narrows
    (-0.02, -0.01, 0.09, 0.08, -0.02, -0.11, 0.00),
    (0.05, 0.00, 0.00, 0.03, 0.00, 0.00, 0.00),
  ),
  "opening": (  # 25, 26 and 27
    (-0.01, 0.00, 0.06, 0.00, 0.00, 0.20, 0.00),
    (0.12, 0.06, 0.05, 0.14, 0.01, 0.06, 0.00),
  ),
  "press": (  # 24
    (0.80, 0.00, 0.30, 0.20, 0.20, 0.00, 0.00),
    (-0.50, 0.00, 0.00, 0.00, -0.20, 0.00, 0.00),
  ),
  "roundness": (
    (0.20, 0.00, 0.40, 0.00, 0.00, 1.00, 0.00),
    (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
  ),
  "teeth": (
    (0.00, 0.30, 0.20, 0.60, 0.00, 0.00, 0.00),
    (0.90, 0.50, 0.30, 0.40, 0.00, 0.10, 0.00),
  ),
}
_BASE = np.array([a[0] for a in _ACTIONS.values()], np.float32)
_VARIANT = np.array([a[1] for a in _ACTIONS.values()], np.float32)


def load(
  data_dir: str | os.PathLike | None,
  split: str,
  *,
  seed: int = 0,
  num_examples: int | None = None,
) -> Dataset:
  """Draws one split of the synthetic faces.

  Image `i` depends on `(seed, split, i)` alone: a smaller `num_examples` returns the
  first images of a larger one. Every seven successive images show each of the seven
  expressions once, in random order. Drawing the default training split takes about
  a second.

  Args:
    data_dir: ignored, since nothing is read; every loader takes a folder first.
    split: "train", "validation" or "test"; their random streams are independent.
    seed: non-negative integer; another seed draws other faces.
    num_examples: number of images; by default `DEFAULT_NUM_EXAMPLES[split]`.

  Returns:
    A `Dataset` with uint8 images `(num_examples, 48, 48, 1)` and int32 labels
    `(num_examples,)`, indices into `CLASS_NAMES`, FER-2013's order.

  Raises:
    TypeError: `seed` or `num_examples` is not an integer.
    ValueError: unknown split, negative seed, or `num_examples` below 1.

  Examples:
    >>> load(None, "test", num_examples=14).class_counts
    array([2, 2, 2, 2, 2, 2, 2])

  References:
    Ekman and Friesen, Facial Action Coding System, 1978.
    Goodfellow et al., `Challenges in Representation Learning
    <https://arxiv.org/abs/1307.0414>`_, 2013 (the classes and the image size).
  """
  del data_dir
  if split not in DEFAULT_NUM_EXAMPLES:
    raise ValueError(
      f"split: expected one of {', '.join(DEFAULT_NUM_EXAMPLES)}, got {split!r}"
    )
  seed = _integer("seed", seed, minimum=0)
  if num_examples is None:
    num_examples = DEFAULT_NUM_EXAMPLES[split]
  num_examples = _integer("num_examples", num_examples, minimum=1)

  images = np.empty((num_examples, SIZE, SIZE, 1), np.uint8)
  labels = np.empty(num_examples, np.int32)
  stream = list(DEFAULT_NUM_EXAMPLES).index(split)
  for chunk, start in enumerate(range(0, num_examples, _CHUNK)):
    stop = min(start + _CHUNK, num_examples)
    bits = np.random.Philox(np.random.SeedSequence((seed, stream, chunk)))
    images[start:stop, :, :, 0], labels[start:stop] = _draw(bits, stop - start)
  return Dataset(
    images=images,
    labels=labels,
    class_names=CLASS_NAMES,
    split=split,
    sources=tuple(f"{split} {i} of seed {seed}" for i in range(num_examples)),
  )


def _integer(name: str, value: int, minimum: int) -> int:
  """`value` as an int of at least `minimum`, or an error that names it."""
  try:
    if isinstance(value, bool | np.bool_):
      raise TypeError
    value = operator.index(value)
  except TypeError:
    raise TypeError(
      f"{name}: expected an integer, got {value!r} of type {type(value).__name__}"
    ) from None
  if value < minimum:
    raise ValueError(f"{name}: expected at least {minimum}, got {value}")
  return value


def _draw(bits: np.random.BitGenerator, n: int) -> tuple[np.ndarray, np.ndarray]:
  """The first `n` images `(n, 48, 48)` and labels `(n,)` of one chunk."""
  names = (*_RANGES, *_ACTIONS)
  # The whole chunk's parameters are drawn whatever n is: see _CHUNK.
  words = bits.random_raw(_CHUNK * (len(names) + 1)).reshape(_CHUNK, -1)
  u = ((words >> np.uint64(40)).astype(np.float32) + 0.5) * np.float32(2**-24)
  k = len(CLASS_NAMES)
  labels = np.argsort(words[:, -1].reshape(-1, k), axis=1, kind="stable")
  labels = labels.reshape(-1)[:n]
  u = u[:n, :, None, None]

  p = {}
  for i, (name, (low, high)) in enumerate(_RANGES.items()):
    p[name] = low + (high - low) * u[:, i]
  for i, name in enumerate(_ACTIONS):
    action = _BASE[i, labels][:, None, None]
    action = action + p["variant"] * _VARIANT[i, labels][:, None, None]
    # No face moves its muscles in the exact proportions of the table.
    wobble = 0.75 + 0.5 * u[:, len(_RANGES) + i]
    p[name] = p["intensity"] * wobble * action

  canvas = _draw_head(p, n)
  _draw_lower_face(canvas, p)
  _draw_upper_face(canvas, p)

  canvas = (canvas - 0.5) * p["contrast"] + (0.5 + p["brightness"])
  # The sum of two uniform bytes: a triangular distribution, near enough to a bell.
  noise = bits.random_raw(n * SIZE * SIZE // 4).astype("<u8").view(np.uint8)
  noise = noise.reshape(n, 2, SIZE, SIZE)
  noise = noise[:, 0].astype(np.float32) + noise[:, 1] - 255.0
  canvas += noise * (p["noise"] * (1 / 255))
  return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), labels


def _face_coordinates(p, rows, columns):
  """Face coordinates (x, y) of pixels; the arguments broadcast to (n, h, w)."""
  dx = (columns - p["center_x"]) / p["scale"]
  dy = (rows - p["center_y"]) / p["scale"]
  norm = 1 / (1 + p["tilt"] * p["tilt"])
  cos = (1 - p["tilt"] * p["tilt"]) * norm
  sin = 2 * p["tilt"] * norm
  return cos * dx + sin * dy, cos * dy - sin * dx


def _window(p, x, y, height, width):
  """A window of each image around the face's point (x, y).

  Returns the index arrays that select it from the canvas, and its face coordinates.
  Features are drawn in windows because most of a face is cheek: it is four times
  faster than whole images.
  """
  norm = 1 / (1 + p["tilt"] * p["tilt"])
  cos = (1 - p["tilt"] * p["tilt"]) * norm
  sin = 2 * p["tilt"] * norm
  column = p["center_x"] + p["scale"] * (cos * x - sin * y)
  row = p["center_y"] + p["scale"] * (sin * x + cos * y)
  top = np.clip(row - height / 2, 0, SIZE - height).astype(np.int32)
  left = np.clip(column - width / 2, 0, SIZE - width).astype(np.int32)
  rows = top + np.arange(height, dtype=np.int32)[:, None]
  columns = left + np.arange(width, dtype=np.int32)
  index = (np.arange(len(rows))[:, None, None], rows, columns)
  x, y = _face_coordinates(p, rows.astype(np.float32), columns.astype(np.float32))
  # A turned head shows its features nearer to one side, and that side narrower.
  x = x - 0.16 * p["yaw"]
  return index, x * (1 + 0.25 * p["yaw"] * x), y


def _cover(p, distance):
  """Share of each pixel inside the shape, from its signed distance."""
  return np.clip(0.5 - distance * (p["scale"] / p["softness"]), 0, 1)


def _paint(canvas, cover, tone):
  """Blends `tone` into `canvas`, in place, where `cover` is above 0."""
  canvas += cover * (tone - canvas)


def _ellipse(x, y, a, b):
  """Approximate signed distance to an axis-aligned ellipse at the origin."""
  x, y = x / a, y / b
  return (np.sqrt(x * x + y * y) - 1) * np.minimum(a, b)


def _draw_head(p, n):
  """Background, shoulders, head and hair: whole images `(n, 48, 48)`."""
  grid = np.arange(SIZE, dtype=np.float32)
  x, y = _face_coordinates(p, grid[:, None], grid)
  ramp = (grid - 23.5) * (1 / 48)
  canvas = p["background"] + p["background_x"] * ramp
  canvas = canvas + p["background_y"] * ramp[:, None]

  _paint(canvas, _cover(p, _ellipse(x, y - 1.75, 1.3, 0.8)), p["cloth_tone"])
  # Long hair falls behind the face, down to hair_length.
  width = p["head_width"] + p["hair_width"]
  hair = np.maximum(_ellipse(x, y + 0.02, width, 1.08), y - p["hair_length"])
  _paint(canvas, _cover(p, hair), p["hair_tone"])
  neck = np.maximum(np.abs(x) - 0.42, np.maximum(0.5 - y, y - 1.2))
  _paint(canvas, _cover(p, neck), 0.72 * p["skin_tone"])

  # The jaw narrows the ellipse below the eyes.
  below = np.maximum(y, 0)
  face = _ellipse(x * (1 + p["jaw"] * below * below), y, p["head_width"], 1.0)
  light = 1 + p["light_x"] * x + p["light_y"] * y - 0.12 * (x * x + y * y)
  skin = p["skin_tone"] * light
  cover = _cover(p, face)
  _paint(canvas, cover, skin)
  fringe = y - p["hairline"] - p["hair_curve"] * x * x
  _paint(canvas, cover * _cover(p, fringe), p["hair_tone"])
  return canvas


def _draw_upper_face(canvas, p):
  """Eyes, brows, and the wrinkles between and above them."""
  index, x, y = _window(p, 0.0, -0.27, 28, 40)
  patch = canvas[index]
  dark = 0.45 * p["skin_tone"]
  side = np.abs(x)

  # Eyes: between two parabolas through the corners. outward runs from the inner
  # corner at -1 to the outer one at 1.
  ex, ey = side - p["eye_x"], y - p["eye_y"]
  outward = ex / p["eye_width"]
  ey = ey + p["eye_slant"] * outward
  bow = 1 - outward * outward
  upper = np.maximum(p["eye_height"] + p["lid_upper"], 0.012)
  lower = np.maximum(0.7 * p["eye_height"] - p["lid_lower"], 0.004)
  lid = ey + upper * bow
  eye = np.maximum(-lid, ey - lower * bow)
  eye_cover = _cover(p, eye)
  # The socket's shadow, then white, iris and pupil, clipped by the lids.
  _paint(patch, 0.35 * _cover(p, eye - 0.05), dark)
  _paint(patch, eye_cover, 0.35 + 0.62 * p["skin_tone"])
  # The gaze turns both eyes to the same side of the image.
  gx = ex - np.where(x > 0, p["gaze_x"], -p["gaze_x"])
  gy = ey - p["gaze_y"] + 0.01
  radius = np.sqrt(gx * gx + gy * gy)
  _paint(patch, eye_cover * _cover(p, radius - 0.085), p["iris_tone"] * p["skin_tone"])
  _paint(patch, eye_cover * _cover(p, radius - 0.04), 0.02)
  line = np.maximum(np.abs(lid) - 0.018, np.abs(ex) - p["eye_width"])
  _paint(patch, 0.9 * _cover(p, line), 0.35 * dark)

  # Brows: an arch between displaced ends.
  bx = ex + p["brow_pinch"] * np.clip(0.5 - 0.5 * outward, 0, 1)
  outward = bx / (1.25 * p["eye_width"])
  rise = 0.5 * (p["brow_inner"] + p["brow_outer"])
  slope = 0.5 * (p["brow_outer"] - p["brow_inner"]) + p["brow_tilt"]
  middle = p["eye_y"] - p["brow_y"] - rise
  curve = middle - slope * outward
  curve = curve - p["brow_curve"] * (1 - outward * outward)
  thickness = p["brow_thickness"] * (1 - 0.35 * outward)
  brow = np.abs(y - curve) - thickness
  brow = np.maximum(brow, np.abs(bx) - 1.25 * p["eye_width"])
  _paint(patch, _cover(p, brow), p["brow_tone"] * p["skin_tone"])

  # Furrows stand between the brows, lines lie across the forehead and the bridge.
  fy = y - p["eye_y"] + 0.15
  furrow = np.maximum(np.abs(side - 0.06) - 0.015, np.abs(fy) - 0.09)
  _paint(patch, 0.8 * p["furrow"] * _cover(p, furrow), dark)
  fy = y - middle + 0.14
  crease = np.minimum(np.abs(fy + 0.1 * x * x), np.abs(fy + 0.09 + 0.1 * x * x))
  crease = np.maximum(crease - 0.012, side - 0.32)
  _paint(patch, 0.6 * p["forehead"] * _cover(p, crease), dark)
  fy = y - p["eye_y"] - 0.3 * side
  crease = np.minimum(np.abs(fy + 0.02), np.abs(fy - 0.07)) - 0.014
  crease = np.maximum(crease, side - 0.11)
  _paint(patch, 0.8 * np.minimum(p["wrinkle"], 1) * _cover(p, crease), dark)
  canvas[index] = patch


def _draw_lower_face(canvas, p):
  """Nose, cheek folds and mouth."""
  index, x, y = _window(p, 0.0, 0.38, 32, 34)
  patch = canvas[index]
  dark = 0.45 * p["skin_tone"]
  side = np.abs(x)

  # Nose: nostrils, and a shadow on the side away from the light. Wrinkling lifts it.
  ny = y - p["nose_y"] + 0.05 * p["wrinkle"]
  nostril = _ellipse(side - 0.6 * p["nose_width"], ny, 0.045, 0.025)
  wing = np.abs(_ellipse(side, ny + 0.03, p["nose_width"], 0.07)) - 0.012
  wing = np.maximum(wing, -(ny + 0.03))
  _paint(patch, 0.4 * _cover(p, wing), dark)
  _paint(patch, 0.9 * _cover(p, nostril), 0.5 * dark)
  lit = np.where(p["light_x"] > 0, x, -x)
  ridge = np.maximum(
    np.abs(lit + 0.05 + 0.15 * (ny + 0.2)) - 0.02, np.abs(ny + 0.2) - 0.2
  )
  _paint(patch, 0.3 * _cover(p, ridge), dark)
  # Folds run from the wings of the nose past the corners of the mouth.
  fy = y - p["nose_y"]
  fold = side - p["nose_width"] - 0.06 - 0.55 * fy + 0.25 * fy * fy
  fold = np.maximum(np.abs(fold) - 0.016, np.abs(fy - 0.16) - 0.16)
  _paint(patch, 0.6 * np.minimum(p["fold"], 1) * _cover(p, fold), dark)

  # Mouth: two lip lines that meet at the corners.
  half = p["mouth_width"] + p["stretch"]
  along = x / half
  bow = np.maximum(1 - along * along, 0)
  rounded = np.clip(p["roundness"], 0, 1)
  bow = bow + rounded * (np.sqrt(bow) - bow)
  opening = np.maximum(p["opening"], 0)
  corner = p["corner"] + p["mouth_curve"]
  # Raised corners sink the middle too, or a smile would climb the nose.
  middle = y - p["mouth_y"] + corner * (along * along - 0.6)
  top = middle + (0.35 * opening + p["lip_raise"]) * bow
  bottom = middle - (0.65 * opening - 0.3 * p["lip_raise"]) * bow
  thin = np.clip(1 - p["press"], 0.15, 1)
  upper = top + p["lip_upper"] * thin * bow
  lower = bottom - p["lip_lower"] * thin * bow
  ends = np.abs(x) - half
  lips = np.maximum(np.maximum(-upper, lower), ends)
  _paint(patch, _cover(p, lips), p["lip_tone"] * p["skin_tone"])
  # A closed mouth keeps a dark line.
  inside = np.maximum(np.maximum(-top, bottom) - 0.016, ends)
  _paint(patch, _cover(p, inside), 0.25 * dark)
  teeth = np.maximum(inside + 0.03, top - 0.09)
  teeth_tone = 0.35 + 0.6 * p["skin_tone"]
  _paint(patch, np.clip(2 * p["teeth"], 0, 1) * _cover(p, teeth), teeth_tone)
  canvas[index] = patch
