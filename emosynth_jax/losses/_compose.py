"""Inputs of a loss, and composition of a margin and a loss.

A loss's positional arguments are its inputs, out of `INPUTS`; its keyword-only
arguments are its hyperparameters. The signature thus specifies all that a caller needs.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

from jax import Array

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
