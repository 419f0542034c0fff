"""Spectrum of a matrix from Lanczos runs of several probes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emosynth_jax.analysis.curvature import lanczos

# Minimum number of points per standard deviation of a Gaussian; its area by the
# trapezoidal rule is then 1 up to rounding.
_POINTS_A_SIGMA = 4
_LEAST_BROADENING = 1e-4


class Density(NamedTuple):
  """A spectral density.

  Attributes:
    eigenvalues: `(P,)`, ascending, evenly spaced.
    density: `(P,)`, integrates to 1.
    nodes: of each probe, its Ritz values.
    weights: of each probe, the share of the spectrum at each; they add up to 1.
    broadening: standard deviation of the Gaussians.
  """

  eigenvalues: np.ndarray
  density: np.ndarray
  nodes: list[np.ndarray]
  weights: list[np.ndarray]
  broadening: float


def spectral_density(
  tridiagonals: Sequence[lanczos.Tridiagonal],
  *,
  broadening: float = 0.01,
) -> Density:
  """Stochastic Lanczos quadrature: the density of eigenvalues, smoothed.

    phi(t) = 1/P sum_p sum_i tau_{p,i}^2 N(t; theta_{p,i}, sigma^2)

  with the Ritz values theta of probe p and the first entries tau of the tridiagonal
  matrix's eigenvectors.

  Args:
    tridiagonals: of Lanczos runs from independent random vectors with
      `E[q q^T] = I / n`, Gaussian or of random signs, without a tolerance.
    broadening: sigma as a share of the distance between the extreme Ritz values, at
      least 1e-4.

  Returns:
    The density at 2,000 points, or at more if four a sigma are more.

  Raises:
    ValueError: if there is no matrix, a number is not finite, or the broadening is out
      of its range.

  References:
    Golub and Meurant, `Matrices, Moments and Quadrature
    <https://doi.org/10.1515/9781400833887>`_, 2010; Ghorbani, Krishnan and Xiao, `An
    Investigation into Neural Net Optimization via Hessian Eigenvalue Density
    <https://arxiv.org/abs/1901.10159>`_, 2019
  """
  if not tridiagonals:
    raise ValueError("tridiagonals: expected at least one, got none")
  if not _LEAST_BROADENING <= broadening < float("inf"):
    raise ValueError(
      f"broadening: expected a number from {_LEAST_BROADENING} on, got {broadening}"
    )

  pairs = [lanczos.ritz(tridiagonal) for tridiagonal in tridiagonals]
  nodes = [values for values, _ in pairs]
  weights = [vectors[0] ** 2 for _, vectors in pairs]
  every = np.concatenate(nodes)
  if not np.isfinite(every).all():
    raise ValueError("tridiagonals: expected finite numbers, got NaN or infinity")

  low, high = every.min(), every.max()
  # A single eigenvalue has no range.
  spread = high - low or max(abs(high), 1.0)
  sigma = broadening * spread
  num_points = max(2000, int(np.ceil(_POINTS_A_SIGMA * (1 / broadening + 12))) + 1)
  points = np.linspace(low - 6 * sigma, high + 6 * sigma, num_points)
  density = np.zeros(num_points)
  for theta, tau in zip(nodes, weights, strict=True):
    z = (points[:, None] - theta[None, :]) / sigma
    density += np.exp(-(z**2) / 2) @ tau / (sigma * np.sqrt(2 * np.pi))

  return Density(points, density / len(nodes), nodes, weights, float(sigma))


def summarize(
  probes: Sequence[lanczos.Tridiagonal],
  num_parameters: int,
  *,
  tolerance: float,
  broadening: float,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Extreme eigenvalues, trace and density.

  Args:
    probes: of vectors of random signs, one each.
    num_parameters: n, rows of the Hessian.
    tolerance: of `lanczos.Extremes.converged`.
    broadening: width of the density's Gaussians, as a share of its range.

  Returns:
    The metrics "smallest", "largest", "ratio", "trace" with their uncertainties; and
    the arrays "eigenvalues" and "density", `(P,)`, and "nodes" and "weights" of all
    probes, `(probes, steps)`, NaN where a probe ended early.
  """
  extremes = [
    lanczos.extreme_eigenvalues(probe, tolerance=tolerance) for probe in probes
  ]
  density = spectral_density(probes, broadening=broadening)

  # Every Ritz value is inside the spectrum, so the outermost ones are the best.
  low = min(extremes, key=lambda e: e.smallest)
  high = max(extremes, key=lambda e: e.largest)
  absolute = max(e.absolute_tolerance for e in extremes)
  converged = lanczos.within_tolerance(
    np.array([low.smallest, high.largest]),
    np.array([low.smallest_residual, high.largest_residual]),
    # One Ritz value cannot be both extremes.
    tolerance if max(e.num_steps for e in extremes) > 1 else 0.0,
    absolute,
  )
  means = [float(w @ v) for v, w in zip(density.nodes, density.weights, strict=True)]
  error = None  # Of one probe it is unknown.
  if len(means) > 1:
    deviation = num_parameters * np.std(means, ddof=1)
    error = float(f"{deviation / len(means) ** 0.5:.3g}")
  record = {
    "smallest": low.smallest,
    "smallest_residual": low.smallest_residual,
    "largest": high.largest,
    "largest_residual": high.largest_residual,
    "absolute_tolerance": absolute,
    "converged": bool(converged),
    "ratio": abs(low.smallest / high.largest) if high.largest else float("nan"),
    "trace": num_parameters * float(np.mean(means)),
    "trace_standard_error": error,
    "steps_of_probes": [e.num_steps for e in extremes],
    "broadening": density.broadening,
  }
  arrays = {
    "eigenvalues": density.eigenvalues,
    "density": density.density,
    "nodes": _padded(density.nodes),
    "weights": _padded(density.weights),
  }

  return record, arrays


def describe_error(error: float | None) -> str:
  """Formats the trace's standard error."""
  return "unknown (one probe)" if error is None else f"{error:.3g}"


def _padded(rows: list[np.ndarray]) -> np.ndarray:
  padded = np.full((len(rows), max(map(len, rows))), np.nan)
  for line, row in zip(padded, rows, strict=True):
    line[: len(row)] = row
  return padded
