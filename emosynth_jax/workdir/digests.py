"""Digests of a tree's arrays, by which a damaged one is told."""

import concurrent.futures
import hashlib
import zlib
from typing import Any

import jax
import numpy as np

from emosynth_jax.parallel import mesh


def compute(state: Any) -> dict[str, str]:
  """Digests of a tree.

  Args:
    state: a tree of arrays, of any shapes, perhaps on several processes.

  Returns:
    By each array's path the SHA-256 of its type, shape and bytes.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  # In threads, as hashing lets go of the interpreter: at full width a state is half a
  # gigabyte, and an accelerator's epoch a few seconds. What lies on several processes
  # is fetched by all of them together, so in this thread, and in order.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    digests = {
      jax.tree_util.keystr(path): threads.submit(
        _digest_array, np.ascontiguousarray(mesh.whole(leaf))
      )
      for path, leaf in leaves
    }
    return {path: digest.result() for path, digest in digests.items()}


def _digest_array(array: np.ndarray) -> str:
  digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
  digest.update(array.view(np.uint8).data if array.size else b"")
  return digest.hexdigest()


def check(state: Any, expected: dict[str, str]) -> None:
  """Refuses a tree that is not what its digests were computed of.

  Args:
    state: the tree.
    expected: of `compute`, by path.

  Raises:
    ValueError: with the path of an array that differs.
  """
  found = compute(state)
  if wrong := sorted(k for k in found if found[k] != expected.get(k)):
    raise ValueError(f"the digest of {wrong[0]} does not match")


def checksum(tree: Any) -> int:
  """CRC-32 of all arrays of a pytree."""
  checksum = 0
  for leaf in jax.tree.leaves(jax.device_get(tree)):
    checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
  return checksum
