"""Digests of a tree's arrays, to detect damage."""

import concurrent.futures
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from emosynth_jax.parallel import mesh


def compute(state: Any) -> dict[str, str]:
  """Computes the digests of a tree's arrays.

  Args:
    state: a tree of arrays, of any shapes, perhaps on several processes.

  Returns:
    The SHA-256 of each array's dtype, shape and bytes, then dtype and shape, by path.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  # In threads, as hashing releases the GIL: at full width a state is 0.5 GB, and an
  # epoch on an accelerator takes a few seconds. Arrays on several processes are fetched
  # collectively, therefore in this thread, and in order.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    digests = {
      jax.tree_util.keystr(path): threads.submit(
        _digest_array, np.ascontiguousarray(mesh.whole(leaf)), tuple(leaf.shape)
      )
      for path, leaf in leaves
    }
    return {path: digest.result() for path, digest in digests.items()}


def _digest_array(array: np.ndarray, shape: tuple[int, ...]) -> str:
  # The shape of the contiguous array, which is (1,) for a scalar.
  digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
  digest.update(array.view(np.uint8).data if array.size else b"")
  return f"{digest.hexdigest()} {array.dtype}{shape}"


def forms(stored: Mapping[str, str]) -> dict[str, str]:
  """Dtype and shape of each array, by path, as `compute` appends them.

  Args:
    stored: of `compute`; those of earlier versions have none.

  Returns:
    By path, as "float32(3, 4)"; "" where it is not stored.
  """
  return {path: digest.partition(" ")[2] for path, digest in stored.items()}


def check(state: Any, expected: dict[str, str]) -> None:
  """Checks a tree against its digests.

  Args:
    state: the tree.
    expected: of `compute`, by path.

  Raises:
    ValueError: with the path of an array that differs.
  """
  found = compute(state)

  # Earlier versions stored no form beside the digest, which has it too.
  def same(digest: str, other: str) -> bool:
    return other in (digest, digest.partition(" ")[0])

  if wrong := sorted(k for k in found if not same(found[k], expected.get(k, ""))):
    raise ValueError(f"the digest of {wrong[0]} does not match")


def checksum(tree: Any) -> int:
  """CRC-32 of all arrays of a pytree."""
  checksum = 0
  for leaf in jax.tree.leaves(jax.device_get(tree)):
    checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
  return checksum
