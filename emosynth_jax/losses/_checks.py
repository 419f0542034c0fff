"""Argument checks and conversions of the losses.

Shapes and dtypes are known while tracing, so they are always checked. Values are known
only outside of a transformation: there, a label out of range raises an error; inside
`jax.jit` its row of targets becomes NaN, so that the loss is NaN rather than wrong.
"""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def as_float(name: str, array: ArrayLike, shape: tuple[str, ...]) -> Array:
  """A floating array of rank `len(shape)`, in float32 or, if it is one, float64.

  Args:
    name: the argument's name, for the error.
    array: the caller's argument.
    shape: the axes' names, for the error; their number is the expected rank.
  """
  array = jnp.asarray(array)
  wanted = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})"
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise TypeError(f"{name}: expected a floating dtype, got {array.dtype}")
  if array.ndim != len(shape):
    raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}")
  if 0 in array.shape:
    raise ValueError(
      f"{name}: expected shape {wanted} without a zero, got {array.shape}"
    )

  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_logits(logits: ArrayLike) -> Array:
  """Logits `(N, K)`, K at least 2, in float32 or float64."""
  logits = as_float("logits", logits, ("N", "K"))
  if logits.shape[1] < 2:
    raise ValueError(
      f"logits: expected at least 2 classes on the last axis, got shape {logits.shape}"
    )
  return logits


def as_embeddings(embeddings: ArrayLike, logits: Array) -> Array:
  """Embeddings `(N, D)` of the examples of the checked logits, as `as_float`."""
  embeddings = as_float("embeddings", embeddings, ("N", "D"))
  if embeddings.shape[0] != logits.shape[0]:
    raise ValueError(
      f"embeddings: expected {logits.shape[0]} rows, as the logits have, got shape "
      f"{embeddings.shape}"
    )
  return embeddings


def as_targets(labels: ArrayLike, like: Array, *, soft: bool = True) -> Array:
  """Labels as class probabilities `(N, K)`, with the dtype of `like`.

  Args:
    labels: integer classes `(N,)`, or, where `soft` allows it, probabilities
      `(N, K)`.
    like: the checked logits `(N, K)`.
    soft: whether the loss is defined for probabilities.

  Returns:
    One-hot rows for integer labels (a row of NaN for a label out of range, which
    raises where its value is known), and floating labels as they are.
  """
  given, labels = labels, jnp.asarray(labels)
  # A conversion to 32 bits could bring a label into range: check the original value.
  values = None if isinstance(labels, jax.core.Tracer) else np.asarray(given)
  n, k = like.shape
  if jnp.issubdtype(labels.dtype, jnp.integer):
    if labels.shape != (n,):
      raise ValueError(
        f"labels: expected integers of shape {(n,)} for logits of shape {(n, k)}, "
        f"got shape {labels.shape}"
      )
    if values is not None and (values.min() < 0 or values.max() >= k):
      raise ValueError(
        f"labels: expected 0..{k - 1} for {k} classes, got "
        f"{values.min()}..{values.max()}"
      )
    valid = (labels >= 0) & (labels < k)
    rows = jax.nn.one_hot(labels, k, dtype=like.dtype)
    return jnp.where(valid[:, None], rows, jnp.nan)
  if not jnp.issubdtype(labels.dtype, jnp.floating):
    raise TypeError(
      "labels: expected integer classes (N,) or class probabilities (N, K), got "
      f"dtype {labels.dtype}"
    )
  if not soft:
    raise TypeError(
      f"labels: expected integer classes of shape {(n,)}, got {labels.dtype} of shape "
      f"{labels.shape}; this loss is not defined for class probabilities (as mixup "
      "and label smoothing produce them)"
    )
  if labels.shape != (n, k):
    raise ValueError(
      f"labels: expected class probabilities of shape {(n, k)}, the shape of the "
      f"logits, got {labels.shape}"
    )

  if values is not None:
    values = values.astype(np.float64)
    # bfloat16 knows three digits.
    if not (np.all(values >= 0) and np.allclose(values.sum(axis=1), 1, atol=0.02)):
      raise ValueError(
        "labels: expected class probabilities, rows of numbers >= 0 that sum to 1; "
        f"got a minimum of {values.min():.3g} and sums of "
        f"{values.sum(axis=1).min():.3g}..{values.sum(axis=1).max():.3g}"
      )

  return labels.astype(like.dtype)


def as_mask(labels: ArrayLike, like: Array) -> Array:
  """Integer labels as a mask `(N, K)`, True at the label; none for one out of range."""
  return as_targets(labels, like, soft=False) == 1


def as_class_counts(class_counts: ArrayLike, num_classes: int) -> Array:
  """Examples of each class `(K,)`, at least 1: a class that is empty has no weight."""
  counts = jnp.asarray(class_counts)
  if not jnp.issubdtype(counts.dtype, jnp.number) or jnp.iscomplexobj(counts):
    raise TypeError(f"class_counts: expected numbers, got {counts.dtype}")
  if counts.shape != (num_classes,):
    raise ValueError(
      f"class_counts: expected shape {(num_classes,)}, got {counts.shape}"
    )
  if not isinstance(counts, jax.core.Tracer) and not np.all(np.asarray(counts) >= 0):
    raise ValueError(f"class_counts: expected numbers >= 0, got {counts}")
  return jnp.maximum(counts.astype(jnp.float32), 1.0)


def as_step(step: ArrayLike) -> Array:
  """The number of training steps done, a scalar, in float32."""
  step = jnp.asarray(step)
  if step.shape != () or not jnp.issubdtype(step.dtype, jnp.number):
    raise ValueError(
      f"step: expected one number, got {step.dtype} of shape {step.shape}"
    )
  return step.astype(jnp.float32)


def as_state(name: str, state: ArrayLike, shape: tuple[int, ...]) -> Array:
  """A loss's state, floating, of the shape that `init_state` gave it."""
  state = jnp.asarray(state)
  if not jnp.issubdtype(state.dtype, jnp.floating):
    raise TypeError(f"state ({name}): expected a floating dtype, got {state.dtype}")
  if state.shape != shape:
    raise ValueError(
      f"state ({name}): expected shape {shape}, got {state.shape}; create it with "
      "init_state"
    )
  return state


def check_number(
  name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> None:
  """Checks that a hyperparameter is in `[low, high]`.

  An array that is being traced (an ablation maps over margins) has no value to
  check and passes.
  """
  if isinstance(value, jax.core.Tracer):
    return
  if not _is_number(value):
    raise TypeError(f"{name}: expected a number, got {value!r}")
  if not low <= float(value) <= high or math.isinf(float(value)):
    raise ValueError(f"{name}: expected a number in [{low}, {high}], got {value}")


def check_order(low_name: str, low: Any, high_name: str, high: Any) -> None:
  """Refuses an upper bound below the lower one.

  Bounds that are being traced have no values to compare and pass.
  """
  if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
    return
  if float(high) < float(low):
    raise ValueError(
      f"{high_name}: expected a number of at least {low_name}={low}, got {high}"
    )


def as_integer(name: str, value: Any, low: int) -> int:
  """A whole number that shapes the program, at least `low`; a NumPy one is taken."""
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise TypeError(f"{name}: expected an integer, got {value!r}")
  if value < low:
    raise ValueError(f"{name}: expected an integer of at least {low}, got {value}")
  return int(value)


def _is_number(value: Any) -> bool:
  """Whether a value is one real number, of Python, NumPy or JAX."""
  if isinstance(value, bool):
    return False
  if isinstance(value, (int, float)):
    return True
  return (
    hasattr(value, "dtype")
    and np.ndim(value) == 0
    and (
      jnp.issubdtype(value.dtype, jnp.floating)
      or jnp.issubdtype(value.dtype, jnp.integer)
    )
  )


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
  """Checks that a value is one of `choices`."""
  choices = tuple(choices)
  if value not in choices:
    raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
