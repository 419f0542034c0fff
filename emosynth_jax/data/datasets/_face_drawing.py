"""Vectorized rendering of faces from their parameters, for `synthetic_faces`.

Each shape is a signed distance, negative inside, whose zero line is smoothed over about
a pixel; shapes are painted over one another. Lengths are in face units: the face's
half height is 1, x points to the image's right, y down, and the origin lies between
the line of the eyes and the mouth. The two sides are drawn symmetrically, from |x|.

Only operations that IEEE 754 rounds in one way appear here (no exp, no sin, no sum over
pixels), so that every platform draws the same pixels.
"""

import numpy as np

Parameters = dict[str, np.ndarray]


def draw(p: Parameters, size: int) -> np.ndarray:
  """Draws the faces.

  Args:
    p: float32 `(n, 1, 1)` for each name that `synthetic_faces` lists as a range or as
      an action.
    size: side of the images in pixels.

  Returns:
    Tones, float32 `(n, size, size)`, 0 black to 1 white; light may exceed 1.
  """
  canvas = _draw_head(p, size)
  _draw_lower_face(canvas, p)
  _draw_upper_face(canvas, p)
  return canvas


def _rotation(p):
  """Cosine and sine of the head's angle."""
  square = p["tilt"] * p["tilt"]
  return (1 - square) / (1 + square), 2 * p["tilt"] / (1 + square)


def _face_coordinates(p, rows, columns):
  """Face coordinates (x, y) of pixels; the arguments broadcast to (n, h, w)."""
  dx = (columns - p["center_x"]) / p["scale"]
  dy = (rows - p["center_y"]) / p["scale"]
  cos, sin = _rotation(p)
  return cos * dx + sin * dy, cos * dy - sin * dx


def _window(p, size, y, height, width):
  """The part of each image around height `y` of the face's middle line.

  Features are drawn in windows, since most of an image is cheek and background: whole
  images would take several times longer. The sizes that callers pass hold the features
  in every pose.

  Returns the index arrays that select the windows from the canvas, and the face
  coordinates (x, y) of their pixels, `(n, height, width)` each.
  """
  turn = 0.16 * p["yaw"]
  cos, sin = _rotation(p)
  row = p["center_y"] + p["scale"] * (sin * turn + cos * y)
  column = p["center_x"] + p["scale"] * (cos * turn - sin * y)
  top = np.clip(row - (height - 1) / 2, 0, size - height).astype(np.int32)
  left = np.clip(column - (width - 1) / 2, 0, size - width).astype(np.int32)
  rows = top + np.arange(height, dtype=np.int32)[:, None]
  columns = left + np.arange(width, dtype=np.int32)
  index = (np.arange(len(rows))[:, None, None], rows, columns)
  x, y = _face_coordinates(p, rows.astype(np.float32), columns.astype(np.float32))

  # A turned head shows its features nearer to one side, and that side narrower.
  x = x - turn
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


def _draw_head(p, size):
  """Background, shoulders, head and hair: whole images `(n, size, size)`."""
  grid = np.arange(size, dtype=np.float32)
  x, y = _face_coordinates(p, grid[:, None], grid)
  ramp = grid / (size - 1) - 0.5
  canvas = p["background"] + p["background_x"] * ramp
  canvas = canvas + p["background_y"] * ramp[:, None]

  side = np.abs(x)
  light = 1 + p["light_x"] * x + p["light_y"] * y - 0.12 * (x * x + y * y)
  skin = p["skin_tone"] * light

  _paint(canvas, _cover(p, _ellipse(x, y - 1.75, 1.3, 0.8)), p["cloth_tone"])
  # Long hair falls behind the face, down to hair_length.
  width = p["head_width"] + p["hair_width"]
  hair = np.maximum(_ellipse(x, y + 0.02, width, 1.08), y - p["hair_length"])
  _paint(canvas, _cover(p, hair), p["hair_tone"])
  neck = np.maximum(side - 0.42, np.maximum(0.5 - y, y - 1.2))
  _paint(canvas, _cover(p, neck), 0.72 * p["skin_tone"])

  _paint(canvas, _cover(p, _ellipse(side - p["head_width"], y, 0.09, 0.17)), skin)
  # The jaw narrows the ellipse below the eyes.
  below = np.maximum(y, 0)
  face = _ellipse(side * (1 + p["jaw"] * below * below), y, p["head_width"], 1.0)
  # Skin and fringe are painted as one, or the edge of the skin would shine through.
  fringe = _cover(p, y - p["hairline"] - p["hair_curve"] * side * side)
  _paint(skin, fringe, p["hair_tone"])
  _paint(canvas, _cover(p, face), skin)
  return canvas


def _draw_upper_face(canvas, p):
  """Eyes, brows, and the wrinkles between and above them."""
  index, x, y = _window(p, canvas.shape[1], -0.36, 30, 40)
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

  # Furrows between the brows, lines across the forehead and the bridge.
  fy = y - p["eye_y"] + 0.15
  furrow = np.maximum(np.abs(side - 0.06) - 0.015, np.abs(fy) - 0.09)
  _paint(patch, 0.8 * p["furrow"] * _cover(p, furrow), dark)
  fy = y - middle + 0.12
  crease = np.minimum(np.abs(fy + 0.1 * x * x), np.abs(fy + 0.08 + 0.1 * x * x))
  crease = np.maximum(crease - 0.012, side - 0.32)
  _paint(patch, 0.6 * p["forehead"] * _cover(p, crease), dark)
  fy = y - p["eye_y"] - 0.3 * side
  crease = np.minimum(np.abs(fy + 0.02), np.abs(fy - 0.07)) - 0.014
  crease = np.maximum(crease, side - 0.11)
  _paint(patch, 0.8 * np.minimum(p["wrinkle"], 1) * _cover(p, crease), dark)
  canvas[index] = patch


def _draw_lower_face(canvas, p):
  """Nose, cheek folds and mouth."""
  index, x, y = _window(p, canvas.shape[1], 0.36, 34, 34)
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
