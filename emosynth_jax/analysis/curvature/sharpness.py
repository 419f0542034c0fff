"""Sharpness: rise of the loss around a trained network, also at a given loss."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import optimize

from emosynth_jax.analysis import directions as of_params
from emosynth_jax.analysis.curvature import hessian, lanczos
from emosynth_jax.parallel import batched_map
from emosynth_jax.training.train_step import ascend

Array = jax.Array

# Temperatures among which one is searched.
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.05, 100.0


def sam_sharpness(
  loss_fn: Callable[[Any, Any], Array], params: Any, batches: Any, *, radius: float
) -> Array:
  r"""Rise of the mean loss to the point that sharpness-aware minimization climbs to.

  .. math:: L(w + \rho g / \lVert g \rVert_2) - L(w), \quad g = \nabla L(w)

  Args:
    loss_fn: `(params, batch) -> ()`, the mean loss of a batch.
    params: pytree of float arrays.
    batches: pytree of arrays with a leading axis of batches, all of one size.
    radius: rho, in units of the parameters.

  Returns:
    `()`. It depends on the scale of weights to which BatchNorm makes a network
    invariant: `mean_rise` does not.

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving Generalization
    <https://arxiv.org/abs/2010.01412>`_, 2021, equation 2
  """
  loss, gradients = batched_map.mean_over_batches(
    lambda batch: jax.value_and_grad(loss_fn)(params, batch), batches
  )
  climbed = ascend(params, gradients, radius=radius)
  return (
    batched_map.mean_over_batches(lambda batch: loss_fn(climbed, batch), batches) - loss
  )


def mean_rise(
  loss_fn: Callable[[Any, Any], Array],
  params: Any,
  directions: Any,
  batches: Any,
  *,
  distance: float,
) -> Array:
  """Mean rise of the mean loss along directions and against them.

    1 / 2D sum_i [L(w + a d_i) + L(w - a d_i)] - L(w)

  Args:
    loss_fn: `(params, batch) -> ()`, the mean loss of a batch.
    params: pytree of float arrays.
    directions: a pytree as `params`, with a leading axis of D; of
      `directions.normalize_directions`, where 1 is each filter's own norm.
    batches: pytree of arrays with a leading axis of batches, all of one size.
    distance: a.

  Returns:
    `()`.
  """

  def loss_at(params):
    return batched_map.mean_over_batches(lambda batch: loss_fn(params, batch), batches)

  count = jax.tree.leaves(directions)[0].shape[0]
  steps = distance * jnp.concatenate([jnp.eye(count), -jnp.eye(count)])
  moved = lax.map(lambda step: loss_at(of_params.move(params, directions, step)), steps)
  return moved.mean() - loss_at(params)


def find_temperature(loss_at: Callable[[float], float], target: float) -> float:
  """Finds the temperature at which the loss of divided logits has a given value.

  Of the two sides of the temperature with the least loss it is the higher one, where
  probabilities are softer. It serves to compare networks at one loss: a network that is
  more confident has larger derivatives, whatever its minimum is like.

  Args:
    loss_at: the mean cross-entropy of logits that are divided by a temperature.
    target: the loss that is wanted.

  Returns:
    The temperature; NaN where the loss is above `target` at every temperature, or does
    not reach it up to a temperature of 100.
  """
  bounds = (math.log(_LEAST_TEMPERATURE), math.log(_MOST_TEMPERATURE))

  def excess(log_temperature):
    return loss_at(math.exp(log_temperature)) - target

  least = optimize.minimize_scalar(excess, bounds=bounds, method="bounded")
  if not (least.fun <= 0 < excess(bounds[1])):
    return math.nan
  return math.exp(optimize.brentq(excess, least.x, bounds[1], xtol=1e-6))


def measure_sharpness(
  measure: Callable[..., Any],
  params: Any,
  constants: Any,
  batches: Any,
  *,
  target_loss: float,
  radius: float = 0.05,
  distance: float = 0.25,
  num_directions: int = 8,
  num_products: int = 30,
  seed: int = 0,
) -> dict[str, float]:
  """Measures a trained network's sharpness as it is, and at a loss that is given.

  Args:
    measure: `(params, constants, batch, temperature=t) -> {"loss": (), ...}`, as
      `trained_run.TrainedRun.measure`.
    params: the network's parameters.
    constants: of `measure`.
    batches: pytree of arrays with a leading axis of batches, all of one size.
    target_loss: the loss at which networks are compared, see `find_temperature`.
    radius: of `sam_sharpness`.
    distance: of `mean_rise`.
    num_directions: of `mean_rise`; filter-normalized, biases and BatchNorm's fixed.
    num_products: products with the Hessian by which its largest eigenvalue is found.
    seed: of the directions and of the random vector.

  Returns:
    "loss"; "sam", "rise" and "eigenvalue" of the network as it is, with the bound
    "eigenvalue_residual" on the distance to an eigenvalue; "temperature", and with it
    the same with the suffix "_at_target", all NaN where there is none.
  """
  direction_key, probe_key = jax.random.split(jax.random.key(seed))
  drawn = of_params.draw_directions(direction_key, params, num_directions)
  directions = of_params.normalize_directions(drawn, params)

  def loss_fn(temperature, constants):
    return lambda params, batch: measure(
      params, constants, batch, temperature=temperature
    )["loss"]

  @jax.jit
  def mean_loss(temperature, params, constants, batches):
    loss = loss_fn(temperature, constants)
    return batched_map.mean_over_batches(lambda batch: loss(params, batch), batches)

  @jax.jit
  def around(temperature, params, constants, directions, batches):
    loss = loss_fn(temperature, constants)
    matvec, flat = hessian.hessian_matvec(loss, params, batches)
    probe = jax.random.rademacher(probe_key, flat.shape, flat.dtype)
    rises = {
      "sam": sam_sharpness(loss, params, batches, radius=radius),
      "rise": mean_rise(loss, params, directions, batches, distance=distance),
    }
    return rises, lanczos.lanczos(matvec, probe, num_products)

  def loss_at(temperature):
    return float(mean_loss(np.float32(temperature), params, constants, batches))

  temperature = find_temperature(loss_at, target_loss)
  found = {"loss": loss_at(1.0), "temperature": temperature}
  for suffix, t in (("", 1.0), ("_at_target", temperature)):
    rises, tridiagonal = around(np.float32(t), params, constants, directions, batches)
    extremes = lanczos.extreme_eigenvalues(tridiagonal, tolerance=0)
    values = rises | {
      "eigenvalue": extremes.largest,
      "eigenvalue_residual": extremes.largest_residual,
    }
    found |= {f"{name}{suffix}": float(value) for name, value in values.items()}
  return found
