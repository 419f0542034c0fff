"""Alternating timing, a machine's matrix product rate, and a process's memory."""

import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def alternate(
  candidates: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
  """Times candidates in turn, so that changes of the machine's speed affect all.

  Args:
    candidates: name to a blocking function; each must be warmed up.
    rounds: calls of each.

  Returns:
    Seconds by name, one per round.
  """
  seconds: dict[str, list[float]] = {name: [] for name in candidates}
  for _ in range(rounds):
    for name, run in candidates.items():
      began = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - began)
  return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
  """Median over rounds of the reference's time over JAX's: above 1, JAX is faster."""
  return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def check_close(
  what: str, found: np.ndarray, expected: np.ndarray, tolerance: float
) -> float:
  """Compares logits that only rounding may tell apart.

  Args:
    what: whose logits `found` are.
    found: `(N, K)`.
    expected: `(N, K)`.
    tolerance: of the difference.

  Returns:
    The largest difference over the largest expected logit.

  Raises:
    ValueError: if that is not below the tolerance.
  """
  difference = float(np.abs(found - expected).max() / np.abs(expected).max())
  if not difference < tolerance:
    raise ValueError(
      f"{what}: logits differ by {difference:.2g}, expected less than {tolerance:g}"
    )
  return difference


def blocking(program: Callable[..., Any], *arrays: Any) -> Callable[[], Any]:
  """A function that calls a program and waits for its result."""
  return lambda: jax.block_until_ready(program(*arrays))


def product_rate() -> float:
  """Best FLOP/s of JAX's float32 product of two 2048 x 2048 matrices."""
  matrix = jnp.ones((2048, 2048))
  run = blocking(jax.jit(jnp.matmul), matrix, matrix)
  run()
  return 2 * 2048**3 / min(alternate({"": run}, 5)[""])


def resident_memory() -> float:
  """Resident memory of this process, in MiB; of Linux."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
