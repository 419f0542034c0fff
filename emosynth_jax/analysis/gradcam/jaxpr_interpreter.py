"""Evaluates a traced network equation by equation, to access inner arrays.

JAX records a function as a list of equations (a jaxpr). Walking through that list
reaches arrays inside a network and changes the gradient of its activations without
changes to the network, hooks or global state: nothing has to be restored afterwards,
and the functions are thread-safe.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax

Array = jax.Array
ApplyFn = Callable[[Any, Array], tuple[Array, Mapping[str, Array]]]

# The names under which JAX records them, each a function of its first input.
RECTIFIERS = ("relu", "relu6", "elu", "silu")


class Trace(NamedTuple):
  """A traced network.

  Attributes:
    jaxpr: its equations, as a function of `leaves`.
    leaves: the variables' leaves and the inputs.
    layers: name to variable of the jaxpr, in the order in which they are computed.
  """

  jaxpr: Any
  leaves: list[Any]
  layers: dict[str, Any]


def trace(
  apply_fn: ApplyFn, variables: Any, inputs: Array | jax.ShapeDtypeStruct
) -> Trace:
  """Traces a network.

  Args:
    apply_fn: `(variables, inputs) -> (logits, layers)`, not jitted itself.
    variables: its variables.
    inputs: `(N, ...)`.

  Returns:
    The trace.

  Raises:
    ValueError: if the logits are not `(N, K)`.
  """
  closed, shapes = jax.make_jaxpr(apply_fn, return_shape=True)(variables, inputs)
  logits, layers = shapes
  if logits.ndim != 2 or logits.shape[0] != inputs.shape[0]:
    raise ValueError(
      f"apply_fn: expected logits of shape ({inputs.shape[0]}, K), got {logits.shape}"
    )

  # The leaves of a mapping are ordered by name.
  names = jax.tree.leaves({name: name for name in layers})
  found = dict(zip(names, closed.jaxpr.outvars[1:], strict=True))
  order = {v: i for i, eqn in enumerate(closed.jaxpr.eqns) for v in eqn.outvars}
  at = {
    name: -1 if isinstance(v, jex.Literal) else order.get(v, -1)
    for name, v in found.items()
  }
  return Trace(
    closed,
    jax.tree.leaves((variables, inputs)),
    {name: found[name] for name in sorted(names, key=lambda name: at[name])},
  )


def evaluate(trace: Trace, *, layer: str, shift: Array) -> tuple[Array, Array]:
  """Evaluates a trace, with an array added to a layer.

  Args:
    trace: the network.
    layer: one of `trace.layers`, on which the logits depend.
    shift: added to that layer, of its shape.

  Returns:
    The logits, and the layer before the addition.
  """
  target = trace.layers[layer]
  kept: list[Array] = []

  def write(variable, value):
    if variable is not target:
      return value
    kept.append(value)
    return value + shift

  logits = _walk(trace.jaxpr, trace.leaves, _evaluate_alone, write)[0]
  return logits, kept[0]


def depends_on(trace: Trace, layer: str) -> bool:
  """Returns whether the logits depend on a layer."""
  reached = {trace.layers[layer]} - set(trace.jaxpr.jaxpr.constvars)
  for eqn in trace.jaxpr.jaxpr.eqns:
    if any(v in reached for v in eqn.invars if not isinstance(v, jex.Literal)):
      reached.update(eqn.outvars)
  return trace.jaxpr.jaxpr.outvars[0] in reached


def evaluate_rectified(
  trace: Trace, rule: Callable[[Callable[..., Array], Sequence[Any]], Array]
) -> tuple[Array, int]:
  """Evaluates a trace with another rule for its rectifiers.

  Args:
    trace: the network.
    rule: `(activation, arguments) -> output`, instead of `activation(*arguments)`.

  Returns:
    The logits, and the number of rectifiers met.

  Raises:
    ValueError: if a rectifier is inside of a loop or branch.
  """
  met = 0

  def bind(eqn, one, arguments):
    nonlocal met
    if _name(eqn) in RECTIFIERS and arguments:
      met += 1
      return [rule(lambda *x: jex.jaxpr_as_fun(one)(*x)[0], arguments)]
    if not _has_rectifier(one.jaxpr):
      return _evaluate_alone(eqn, one, arguments)
    if eqn.primitive.name in ("jit", "pjit"):
      values = dict(zip(one.jaxpr.invars, arguments, strict=True))
      inputs = [v.val if isinstance(v, jex.Literal) else values[v] for v in eqn.invars]
      return _walk(eqn.params["jaxpr"], inputs, bind)

    raise ValueError(
      f"apply_fn: an activation is inside {eqn.primitive.name}, where its gradient "
      "can't be replaced; unroll it"
    )

  return _walk(trace.jaxpr, trace.leaves, bind)[0], met


def _walk(closed, arguments, bind, write=lambda variable, value: value):
  jaxpr = closed.jaxpr
  values = {}

  def put(variables, new):
    values.update((v, write(v, x)) for v, x in zip(variables, new, strict=True))

  put(jaxpr.constvars, closed.consts)
  put(jaxpr.invars, arguments)
  for eqn in jaxpr.eqns:
    one = _alone(jaxpr, eqn)
    put(eqn.outvars, bind(eqn, one, [values[v] for v in one.jaxpr.invars]))
  return [v.val if isinstance(v, jex.Literal) else values[v] for v in jaxpr.outvars]


def _alone(jaxpr, eqn):
  """The jaxpr of one equation, in its variable inputs, each once."""
  # Binding the primitive by hand would need JAX's private part.
  inputs = dict.fromkeys(v for v in eqn.invars if not isinstance(v, jex.Literal))
  one = jaxpr.replace(
    constvars=[], invars=list(inputs), outvars=list(eqn.outvars), eqns=[eqn]
  )
  return jex.ClosedJaxpr(one, [])


def _evaluate_alone(eqn, one, arguments):
  return jex.jaxpr_as_fun(one)(*arguments)


def _name(eqn) -> str | None:
  """The name of the function that an equation calls, also by a rule of its own."""
  if eqn.primitive.name in ("jit", "pjit"):
    return eqn.params["name"]
  if eqn.primitive.name == "custom_jvp_call":
    inner = eqn.params["call_jaxpr"].jaxpr.eqns
    return _name(inner[0]) if len(inner) == 1 else None
  return None


def _has_rectifier(jaxpr) -> bool:
  return any(
    _name(eqn) in RECTIFIERS
    or any(_has_rectifier(inner) for inner in jex.jaxprs_in_params(eqn.params))
    for eqn in jaxpr.eqns
  )


def as_targets(logits: Array, targets: Array | None) -> Array:
  """The requested classes, int32 `(N,)`: the predicted ones if None.

  Raises:
    TypeError: if they are not integers.
    ValueError: if their shape does not fit.
  """
  if targets is None:
    return logits.argmax(-1).astype(jnp.int32)
  targets = jnp.asarray(targets)
  if not jnp.issubdtype(targets.dtype, jnp.integer):
    raise TypeError(f"targets: expected integers, got {targets.dtype}")
  if targets.shape != logits.shape[:1]:
    raise ValueError(f"targets: expected {logits.shape[:1]}, got {targets.shape}")
  return targets.astype(jnp.int32)


def target_scores(logits: Array, targets: Array | None) -> Array:
  """The logit of each image's class, `(N,)`.

  A class out of range makes value and gradient NaN, since no error can be raised under
  `jax.jit`.
  """
  classes = as_targets(lax.stop_gradient(logits), targets)
  known = (classes >= 0) & (classes < logits.shape[1])
  scores = jnp.take_along_axis(logits, classes[:, None] % logits.shape[1], axis=1)
  return scores[:, 0] * jnp.where(known, 1, jnp.nan).astype(logits.dtype)
