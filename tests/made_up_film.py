"""Short films of 64 x 48 pixels."""

import cv2
import numpy as np


def write(path, code="mp4v", *, frames=6, rate=5.0, noise=False):
  """Writes a film; each frame is brighter than the one before, or noise."""
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, (64, 48))
  assert writer.isOpened()
  rng = np.random.default_rng(0)
  for i in range(frames):
    plain = np.full((48, 64, 3), 40 * i % 256, np.uint8)
    writer.write(rng.integers(0, 256, plain.shape, np.uint8) if noise else plain)
  writer.release()
  return path
