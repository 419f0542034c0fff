"""Lanczos with full reorthogonalisation: a symmetric matrix's extreme eigenvalues.

Own code, and not matfree's, whose tridiagonalisation has no rule for an invariant
subspace: after such a breakdown it goes on with normalized rounding errors, and its
Ritz values are then none of the matrix's eigenvalues; it takes no more steps than the
matrix has rows, and can't end when the eigenvalues have converged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax

Array = jax.Array

# Norm of the next vector, in units of the type's epsilon and of the largest product's
# norm, below which nothing of it but rounding is left. A coupling so small moves no
# eigenvalue by more than itself, and no residual can be told from 0 below it.
_ROUNDING = 64


class Tridiagonal(NamedTuple):
  """Lanczos's tridiagonal matrix, of which `num_steps` rows are valid.

  Attributes:
    diagonal: `(m,)`.
    off_diagonal: `(m,)`; entry k couples rows k and k + 1, and the last valid one is
      the norm of the residual vector, outside of the matrix.
    num_steps: int32 `()`.
    broken_down: bool `()`, whether the vectors span an invariant subspace, in which
      the Ritz values are eigenvalues: the next vector's norm is at most `rounding`.
    rounding: `()`, 64 times the type's epsilon times the largest norm of a product:
      what of a residual may be rounding.
  """

  diagonal: Any
  off_diagonal: Any
  num_steps: Any
  broken_down: Any
  rounding: Any


class Extremes(NamedTuple):
  """The extreme Ritz values, float64.

  Attributes:
    smallest: the least Ritz value.
    largest: the greatest.
    smallest_residual: `beta_m |s_m|`: an eigenvalue lies so close to `smallest`.
    largest_residual: the same of `largest`.
    num_steps: products with the matrix that it took.
    absolute_tolerance: what counts as converged whatever the Ritz value is, the
      matrix's `Tridiagonal.rounding`.
    converged: whether both residuals are `within_tolerance`; False where a number is
      not finite, and where one Ritz value stands for both ends of a matrix that may
      have others.
  """

  smallest: float
  largest: float
  smallest_residual: float
  largest_residual: float
  num_steps: int
  absolute_tolerance: float
  converged: bool


def lanczos(
  matvec: Callable[[Array], Array],
  start: Array,
  num_steps: int,
  *,
  tolerance: float = 0.0,
) -> Tridiagonal:
  """Lanczos's tridiagonalisation of a symmetric matrix that is only multiplied with.

    beta_k q_{k+1} = (A - alpha_k) q_k - beta_{k-1} q_{k-1}

  Each new vector is made orthogonal to all before it, twice: without that, converged
  eigenvalues come back as ghosts. It ends early at a breakdown, when the vectors span
  an invariant subspace (A has fewer distinct eigenvalues than there are steps, say),
  at a number that is not finite, and, with a tolerance, when each of both extreme Ritz
  values has a residual that is small beside itself. A residual within rounding does not
  end it: a Ritz value at 0 has one, steps before the smallest eigenvalue turns up.

  Args:
    matvec: `(n,) -> (n,)`, linear and symmetric.
    start: `(n,)`, not zero; as a rule random.
    num_steps: m, at most so many products; no more than n are needed or done. The
      vectors take `m n` floats.
    tolerance: of `within_tolerance`, for ending early; 0 ends at a breakdown alone.

  Returns:
    The matrix, jit-compatible.

  Raises:
    ValueError: if `start` is no vector or `num_steps` less than 1.

  References:
    Lanczos, `An Iteration Method for the Solution of the Eigenvalue Problem
    <https://doi.org/10.6028/jres.045.026>`_, 1950; Paige, `Computational Variants of
    the Lanczos Method <https://doi.org/10.1093/imamat/10.3.373>`_, 1972
  """
  if start.ndim != 1 or not start.size:
    raise ValueError(f"start: expected a vector, got the shape {start.shape}")
  if num_steps < 1:
    raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
  size, dtype = min(num_steps, start.size), start.dtype
  threshold = _ROUNDING * jnp.finfo(dtype).eps

  def is_going_on(carry):
    return carry["going_on"]

  def step(carry):
    k = carry["num_steps"]
    basis = carry["basis"].at[k].set(carry["vector"])
    product = matvec(carry["vector"])
    diagonal = carry["diagonal"].at[k].set(jnp.vdot(carry["vector"], product))
    rounding = jnp.maximum(carry["rounding"], threshold * jnp.linalg.norm(product))
    for _ in range(2):  # "Twice is enough" (Kahan and Parlett).
      product = product - basis.T @ (basis @ product)
    beta = jnp.linalg.norm(product)
    off_diagonal = carry["off_diagonal"].at[k].set(beta)
    broken_down = beta <= rounding
    # NaN compares as False, and so ends the loop.
    going_on = (beta > rounding) & jnp.isfinite(beta) & (k + 1 < size)
    if tolerance:
      # One Ritz value, of a vector by chance near an eigenvector, is not both ends.
      going_on &= ~((k > 0) & _have_converged(diagonal, off_diagonal, k, tolerance))
    return {
      "vector": product / jnp.where(beta > 0, beta, 1),
      "basis": basis,
      "diagonal": diagonal,
      "off_diagonal": off_diagonal,
      "rounding": rounding,
      "num_steps": k + 1,
      "broken_down": broken_down,
      "going_on": going_on,
    }

  first = {
    "vector": start / jnp.linalg.norm(start),
    "basis": jnp.zeros((size, start.size), dtype),
    "diagonal": jnp.zeros(size, dtype),
    "off_diagonal": jnp.zeros(size, dtype),
    "rounding": jnp.zeros((), dtype),
    "num_steps": jnp.int32(0),
    "broken_down": jnp.bool_(False),
    "going_on": jnp.bool_(True),
  }
  last = lax.while_loop(is_going_on, step, first)
  return Tridiagonal(*(last[name] for name in Tridiagonal._fields))


def _have_converged(diagonal, off_diagonal, k, tolerance):
  """Whether both extreme Ritz values of the first k + 1 rows have converged."""
  rows = jnp.arange(len(diagonal))
  # Rows that are not there yet get a number between the extremes, and no coupling.
  diagonal = jnp.where(rows <= k, diagonal, diagonal[0])
  coupling = jnp.where(rows < k, off_diagonal, 0)[:-1]
  matrix = jnp.diag(diagonal) + jnp.diag(coupling, 1) + jnp.diag(coupling, -1)
  values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(matrix), matrix, 0))
  residuals = off_diagonal[k] * jnp.abs(vectors[k])
  ends = jnp.array([0, -1])
  return within_tolerance(values[ends], residuals[ends], tolerance)


def within_tolerance(
  values: Any, residuals: Any, tolerance: float, absolute: Any = 0.0
) -> Any:
  """Whether each residual is small beside its own Ritz value, or is rounding.

    r_i <= max(tolerance |theta_i|, absolute)

  Not beside the largest of both: nearly all of a trained network's eigenvalues are near
  0, and one is far larger. A random vector has next to nothing in the direction of the
  smallest one, and a Ritz value at 0 whose residual is a 20,000th of the largest turns
  up steps before it.

  Args:
    values: both extreme Ritz values, `(2,)`, of NumPy or JAX.
    residuals: their residuals, `(2,)`.
    tolerance: between 0 and 1.
    absolute: `Tridiagonal.rounding`, without which an eigenvalue of 0 could never
      converge.

  Returns:
    bool `()`; False where a number is NaN.
  """
  # Not maximum(): of JAX's arrays and NumPy's alike.
  return ((residuals <= tolerance * abs(values)) | (residuals <= absolute)).all()


def ritz(tridiagonal: Tridiagonal) -> tuple[np.ndarray, np.ndarray]:
  """Eigenvalues and eigenvectors of the valid part, in float64 on the host.

  Returns:
    `(k,)`, ascending, and `(k, k)`, an eigenvector a column. All NaN where the matrix
    holds a number that is not finite.
  """
  steps = int(tridiagonal.num_steps)
  diagonal = np.asarray(tridiagonal.diagonal, np.float64)[:steps]
  coupling = np.asarray(tridiagonal.off_diagonal, np.float64)[: steps - 1]
  if not (np.isfinite(diagonal).all() and np.isfinite(coupling).all()):
    return np.full(steps, np.nan), np.full((steps, steps), np.nan)
  if steps == 1:
    return diagonal, np.ones((1, 1))
  return scipy.linalg.eigh_tridiagonal(diagonal, coupling)


def extreme_eigenvalues(tridiagonal: Tridiagonal, *, tolerance: float) -> Extremes:
  """The extreme Ritz values, and how close an eigenvalue is to each.

  The bound is on the distance to some eigenvalue: that there is none beyond the Ritz
  value can't be known from products alone. It is pessimistic, as a Ritz value's error
  is of the order of the residual's square.

  Args:
    tridiagonal: of `lanczos`.
    tolerance: of `within_tolerance`.

  Returns:
    The extremes.
  """
  values, vectors = ritz(tridiagonal)
  steps = int(tridiagonal.num_steps)
  beta = float(np.asarray(tridiagonal.off_diagonal)[steps - 1])
  residuals = beta * np.abs(vectors[-1])
  ends = [0, -1]
  absolute = float(np.asarray(tridiagonal.rounding))
  converged = within_tolerance(
    values[ends], residuals[ends], 0.0 if steps == 1 else tolerance, absolute
  )
  return Extremes(
    smallest=float(values[0]),
    largest=float(values[-1]),
    smallest_residual=float(residuals[0]),
    largest_residual=float(residuals[-1]),
    num_steps=steps,
    absolute_tolerance=absolute,
    converged=bool(converged),
  )


def unstack(tridiagonals: Tridiagonal) -> list[Tridiagonal]:
  """The matrices of a stack, one for each entry of the leading axis."""
  return [
    Tridiagonal(*(field[i] for field in tridiagonals))
    for i in range(len(tridiagonals.num_steps))
  ]
