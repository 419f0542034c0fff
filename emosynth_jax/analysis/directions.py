"""Filter-normalized random directions in the space of a network's parameters."""

import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from emosynth_jax.utils import errors, npz

Array = jax.Array

# Treatment of biases and BatchNorm's parameters: fixed, as in the paper, or each vector
# normalized as one filter.
VECTORS = ("fixed", "normalized")


def draw_directions(key: Array, params: Any, count: int) -> Any:
  """Draws standard normal directions, not yet normalized.

  The direction of an array depends on the key, its path and its shape, not on the other
  arrays: two networks have the same directions in all layers that they share.

  Args:
    key: random key.
    params: a network's parameters.
    count: D, how many directions.

  Returns:
    A pytree as `params`, float32 with a leading axis of D.
  """

  def draw(path, leaf):
    # Not the leaf's index, which additional layers of another network would shift.
    of_leaf = jax.random.fold_in(key, zlib.crc32(_name(path).encode()))
    return jax.random.normal(of_leaf, (count, *leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, params)


def normalize_directions(
  directions: Any, params: Any, *, vectors: str = "fixed"
) -> Any:
  """Gives each filter of each direction the norm of the network's filter.

    d_f <- d_f |w_f| / |d_f|

  A filter produces one output channel: the entries of a kernel at one index of its last
  axis, for convolutions (also depthwise) and dense layers. A unit step thus means the
  same relative change of the weights in each filter of any network, independent of the
  weight scale, to which BatchNorm makes networks invariant.

  Args:
    directions: of `draw_directions`.
    params: the network's parameters.
    vectors: "fixed" leaves arrays of rank 0 and 1 (biases, BatchNorm's scale and
      shift) where they are, as the paper does; "normalized" moves each of them, as
      one filter.

  Returns:
    The directions; a filter of zeros has the direction zero.

  Raises:
    ValueError: for another value of `vectors`.

  References:
    Li et al., `Visualizing the Loss Landscape of Neural Nets
    <https://arxiv.org/abs/1712.09913>`_, 2018, section 4
  """
  errors.check_choice("vectors", vectors, VECTORS)

  def one(direction, weights):
    if weights.ndim < 2 and vectors == "fixed":
      return jnp.zeros_like(direction)
    axes = tuple(range(weights.ndim - 1)) if weights.ndim > 1 else None
    wanted = jnp.sqrt(jnp.sum(weights**2, axis=axes, keepdims=True))
    norm = jnp.sqrt(jnp.sum(direction**2, axis=axes, keepdims=True))
    return direction * (wanted / jnp.maximum(norm, 1e-30))

  def normalize(direction, weights):
    return jnp.stack([one(d, weights) for d in direction])

  return jax.tree.map(normalize, directions, params)


def move(params: Any, directions: Any, coordinates: Array) -> Any:
  """A point of the plane: `params + sum_i coordinates[i] directions[i]`.

  Args:
    params: the network's parameters.
    directions: a pytree as `params`, with a leading axis of D.
    coordinates: `(D,)`.

  Returns:
    A pytree as `params`.
  """
  return jax.tree.map(
    lambda p, d: p + jnp.tensordot(coordinates, d, axes=1).astype(p.dtype),
    params,
    directions,
  )


def save_directions(path: str | os.PathLike, directions: Any) -> None:
  """Writes directions as .npz, an array for each parameter by its path."""
  npz.write_npz(path, dict(_named(directions)))


def load_directions(path: str | os.PathLike, params: Any, count: int) -> Any:
  """Reads directions for a network of the same layers.

  Args:
    path: the file of `save_directions`.
    params: the network's parameters.
    count: D, how many directions to take; the file may hold more.

  Returns:
    The directions, as `draw_directions` returns them.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, belongs to another network, or holds fewer directions.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"directions: {path} does not exist")

  stored = npz.read_npz(path)
  shapes = {name: leaf.shape for name, leaf in _named(params)}
  for name in sorted(shapes.keys() | stored.keys()):
    found = stored[name].shape[1:] if name in stored else "absent"
    expected = shapes.get(name, "absent")
    if found != expected:
      raise ValueError(
        f"directions: {path} is of another network: {name} is {found} there and "
        f"{expected} here; directions drawn by the seed fit any network"
      )
    if len(stored[name]) < count:
      raise ValueError(
        f"directions: expected at least {count}, got {len(stored[name])} in {path}"
      )

  leaves = [jnp.asarray(stored[name][:count], jnp.float32) for name in shapes]
  return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield _name(path), leaf
