"""Weights by a formula: what the golden outputs need not hold."""

import math
import zlib

import numpy as np


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Numbers in [-1, 1) that depend on the name alone, on every machine alike.

  The mixing is that of SplitMix64 (Steele et al., 2014), over a counter.
  """
  start = np.uint64(zlib.crc32(name.encode()) << 32)
  x = np.arange(math.prod(shape), dtype=np.uint64) + start
  x *= np.uint64(0x9E3779B97F4A7C15)
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    x ^= x >> np.uint64(shift)
    x *= np.uint64(factor)
  x ^= x >> np.uint64(31)
  fraction = (x >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
  return (2 * fraction - 1).reshape(shape)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """A state dict of such numbers, scaled so that activations stay of order 1.

  Kernels have variance 2 / fan-in, so that after a ReLU the running statistics below
  are about those of the activations. All of them differ from map to map.
  """
  state = {}
  for name, shape in shapes.items():
    u = uniform(name, tuple(shape))
    leaf = name.rsplit(".", 1)[1]
    if leaf == "num_batches_tracked":
      continue
    if len(shape) > 1:
      state[name] = u * np.float32(math.sqrt(6 / math.prod(shape[1:])))
    elif leaf == "weight":
      state[name] = 1 + np.float32(0.3) * u
    elif leaf == "running_var":
      state[name] = 1 + np.float32(0.5) * u
    else:
      state[name] = np.float32(0.3) * u
  return state


def images(side: int, channels: int = 3) -> np.ndarray:
  """Two images of three by three fields and noise, `(2, side, side, channels)`."""
  field = np.arange(side) * 3 // side
  coarse = 2 * uniform("fields", (2, 3, 3, channels))[:, field][:, :, field]
  return coarse + uniform("noise", (2, side, side, channels))
