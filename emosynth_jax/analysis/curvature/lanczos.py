"""Lanczos with full reorthogonalization, for extreme eigenvalues.

The implementation does not use matfree, whose tridiagonalization does not handle
invariant subspaces: after such a breakdown it continues with normalized rounding
errors, and its Ritz values are then not eigenvalues of the matrix. It also allows at
most as many steps as the matrix has rows, and cannot stop at convergence.
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
# norm, below which only rounding error is left. Such a coupling moves no eigenvalue by
# more than itself, and a residual below it cannot be distinguished from 0.
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
      the part of a residual that may be rounding error.
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
    smallest_residual: `beta_m |s_m|`: an eigenvalue lies within this distance of
      `smallest`.
    largest_residual: likewise for `largest`.
    num_steps: number of products with the matrix.
    absolute_tolerance: the residual that counts as converged for any Ritz value, the
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
  """Lanczos tridiagonalization of a symmetric matrix given by its products.

    beta_k q_{k+1} = (A - alpha_k) q_k - beta_{k-1} q_{k-1}

  Each new vector is orthogonalized against all previous ones, twice: otherwise
  converged eigenvalues reappear as spurious copies. The iteration ends early at a
  breakdown, when the vectors span an invariant subspace (for example, if A has fewer
  distinct eigenvalues than there are steps), at a number that is not finite, and, with
  a tolerance, when the residual of each extreme Ritz value is small relative to that
  value. A residual within rounding does not end it: a Ritz value at 0 has such a
  residual several steps before the smallest eigenvalue is found.

  Args:
    matvec: `(n,) -> (n,)`, linear and symmetric.
    start: `(n,)`, not zero; as a rule random.
    num_steps: m, the maximum number of products; at most n are needed and computed. The
      vectors take `m n` floats.
    tolerance: of `within_tolerance`, for early stopping; 0 stops only at a breakdown.

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

    # NaN compares as False and therefore ends the loop.
    going_on = (beta > rounding) & jnp.isfinite(beta) & (k + 1 < size)
    if tolerance:
      # A single Ritz value, of a vector near an eigenvector by chance, is not both
      # extremes.
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
  """Tests convergence of both extreme Ritz values of the first k + 1 rows."""
  rows = jnp.arange(len(diagonal))
  # Rows not yet computed get a value between the extremes, and no coupling.
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
  """Tests whether each residual is small relative to its Ritz value, or is rounding.

    r_i <= max(tolerance |theta_i|, absolute)

  The residual is not compared with the larger of both values: nearly all eigenvalues of
  a trained network are near 0, and one is far larger. A random vector has almost no
  component in the direction of the smallest one, and a Ritz value at 0 whose residual
  is 1/20,000 of the largest appears several steps before it.

  Args:
    values: both extreme Ritz values, `(2,)`, of NumPy or JAX.
    residuals: their residuals, `(2,)`.
    tolerance: between 0 and 1.
    absolute: `Tridiagonal.rounding`, without which an eigenvalue of 0 could never
      converge.

  Returns:
    bool `()`; False where a number is NaN.
  """
  # Not maximum(): works for JAX and NumPy arrays.
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
  """Computes the extreme Ritz values, with bounds on the distance to an eigenvalue.

  The bound is on the distance to some eigenvalue: products alone cannot show that there
  is none beyond the Ritz value. It is pessimistic, as the error of a Ritz value is of
  the order of the squared residual.

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
