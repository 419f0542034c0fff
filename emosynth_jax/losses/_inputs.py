"""Inputs of a loss: their names and checks, and the functions that take them.

A loss's positional arguments are its inputs, out of `INPUTS`; its keyword-only
arguments are its hyperparameters. The signature thus specifies all that a caller needs.

Shapes and dtypes are known while tracing, so they are always checked. Values are known
only outside of a transformation: there, a label out of range raises an error; inside
`jax.jit` its row of targets becomes NaN, so that the loss is NaN rather than wrong.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

# The inputs that a training step provides, in the order of signatures.
INPUTS = (
  "logits",  # (N, K), the model's output
  "embeddings",  # (N, D), the input of the model's last layer
  "weights",  # (D, K), the kernel of the model's last layer
  "labels",  # (N,) integers or (N, K) probabilities
  "class_counts",  # (K,), examples of each class in the training set
  "step",  # (), training steps done
  "state",  # what a stateful loss carries from step to step
)


def name_of(function: Callable[..., Any]) -> str:
  """A function's name, that of the function inside for a `functools.partial`."""
  if isinstance(function, functools.partial):
    return name_of(function.func)
  return getattr(function, "__name__", repr(function))


def loss_inputs(function: Callable[..., Any]) -> tuple[str, ...]:
  """The inputs that a loss takes, some of `INPUTS`."""
  return tuple(
    name
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
  )


def hyperparameters(function: Callable[..., Any]) -> dict[str, Any]:
  """A loss's hyperparameters and their defaults (`inspect.Parameter.empty`: none)."""
  return {
    name: parameter.default
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }


def select_inputs(function: Callable[..., Any], **available: Any) -> dict[str, Any]:
  """Selects the available inputs that a function takes.

  Args:
    function: a loss, or one of `get_evaluation_logits`.
    **available: some of `INPUTS`; None for an unavailable one.

  Raises:
    ValueError: when an input is missing.
  """
  names = loss_inputs(function)
  if missing := [name for name in names if available.get(name) is None]:
    offered = [name for name, value in available.items() if value is not None]
    raise ValueError(
      f"{name_of(function)} needs "
      f"{', '.join(missing)}; available: {', '.join(offered) or 'nothing'}"
    )
  return {name: available[name] for name in names}


def call_loss(loss: Callable[..., Any], **available: Any) -> tuple[Array, Any]:
  """Calls any loss with those of the available inputs that it takes.

  Args:
    loss: a loss, from `get_loss` or by itself.
    **available: the inputs that the caller has, some of `INPUTS`.

  Returns:
    The loss of each example, `(N,)`, and the new state: the state that was given, if
    the loss keeps none.

  Raises:
    ValueError: when the loss needs an input that is not there.
  """
  inputs = select_inputs(loss, **available)
  result = loss(**inputs)
  return result if "state" in inputs else (result, available.get("state"))


@overload
def under_margin(
  margin: Callable[..., Array], loss: Callable[..., Array], name: str | None = None
) -> Callable[..., Array]: ...


@overload
def under_margin(
  margin: Callable[..., Any], loss: Callable[..., Any], name: str | None = None
) -> Callable[..., Any]: ...


def under_margin(
  margin: Callable[..., Any], loss: Callable[..., Any], name: str | None = None
) -> Callable[..., Any]:
  """Composes a margin and a loss: `loss(margin(...), labels)`.

  Args:
    margin: a function of some of `INPUTS` that returns logits `(N, K)`; with
      `state` among its inputs it returns `(logits, new_state)`.
    loss: a loss of `logits` and others of `INPUTS`.
    name: the new function's name.

  Returns:
    A loss whose inputs and hyperparameters are those of both. If both keep a state,
    its state is the pair of theirs.

  Raises:
    ValueError: when a hyperparameter of both has the same name, or the loss takes
      no logits.
  """
  margin_inputs, loss_takes = loss_inputs(margin), loss_inputs(loss)
  if "logits" not in loss_takes:
    raise ValueError(
      f"{name_of(loss)} takes {', '.join(loss_takes)}: only a loss of logits can "
      "follow a margin"
    )

  both = sorted(set(hyperparameters(margin)) & set(hyperparameters(loss)))
  if both:
    raise ValueError(
      f"{name_of(margin)} and {name_of(loss)} both take {', '.join(both)}: wrap one "
      "of them in a function that fixes it"
    )

  two_states = "state" in margin_inputs and "state" in loss_takes
  loss_inputs_left = tuple(i for i in loss_takes if i != "logits")
  signature = _joint_signature(margin, loss)

  def composed(*args: Any, **kwargs: Any) -> Any:
    given = dict(signature.bind(*args, **kwargs).arguments)
    state = given.pop("state", None)
    margin_state, loss_state = state if two_states else (state, state)
    logits = _call(margin, given, margin_state)
    if "state" in margin_inputs:
      logits, margin_state = logits
    result = _call(loss, {**given, "logits": logits}, loss_state)
    if two_states:
      return result[0], (margin_state, result[1])
    return (result, margin_state) if "state" in margin_inputs else result

  composed.__name__ = composed.__qualname__ = name or (
    f"{name_of(loss)}_of_{name_of(margin)}"
  )
  composed.__doc__ = (
    f"`{name_of(loss)}` of the logits that `{name_of(margin)}` makes.\n\n"
    f"Inputs: {', '.join(loss_inputs_left)} and those of `{name_of(margin)}`:\n\n"
    f"{inspect.getdoc(margin)}"
  )
  composed.__signature__ = signature  # type: ignore[attr-defined]
  return composed


def _call(function: Callable[..., Any], given: dict[str, Any], state: Any) -> Any:
  """Calls a function with those of `given` that it takes."""
  taken = {
    k: v for k, v in given.items() if k in inspect.signature(function).parameters
  }
  if "state" in loss_inputs(function):
    taken["state"] = state
  return function(**taken)


def _joint_signature(
  margin: Callable[..., Any], loss: Callable[..., Any]
) -> inspect.Signature:
  """The parameters of both, except the logits that the margin returns."""
  of_margin = inspect.signature(margin).parameters
  of_loss = inspect.signature(loss).parameters
  joint = {k: p for k, p in of_loss.items() if k != "logits"} | dict(of_margin)
  inputs = [joint[name] for name in INPUTS if name in joint]
  others = [p for p in joint.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
  return inspect.Signature([*inputs, *others])


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


def as_logits_and_targets(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
  """Logits as by `as_logits`, and their labels as by `as_targets`."""
  logits = as_logits(logits)
  return logits, as_targets(labels, logits)


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
