"""Lanczos against matrices with known eigenvalues and against NumPy's eigh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.analysis.curvature import lanczos, spectrum

# Distinct eigenvalues with their multiplicities, 40 in all.
_CLUSTERED = {-2.0: 1, -1e-3: 2, 0.0: 27, 1e-3: 4, 1.0: 3, 1.001: 1, 5.0: 2}


def _diagonal(spectrum):
  return np.repeat(list(spectrum), list(spectrum.values())).astype(np.float32)


def _rotation(n, seed=0):
  normal = np.random.default_rng(seed).standard_normal((n, n))
  return np.linalg.qr(normal)[0]


@functools.cache
def _program(num_steps, tolerance):
  return jax.jit(
    lambda a, v: lanczos.lanczos(lambda x: a @ x, v, num_steps, tolerance=tolerance)
  )


def _run(matrix, num_steps, *, seed=0, dtype=np.float32, tolerance=0.0):
  matrix = np.asarray(matrix, dtype)
  start = np.random.default_rng(seed).standard_normal(len(matrix)).astype(dtype)
  return jax.device_get(_program(num_steps, tolerance)(matrix, start))


# More steps than there are rows are no more steps.
@pytest.mark.parametrize(("dtype", "num_steps"), [(np.float64, 100), (np.float32, 40)])
def test_clustered_degenerate_and_negative_eigenvalues_are_found(dtype, num_steps):
  rotation = _rotation(40)
  matrix = rotation @ np.diag(_diagonal(_CLUSTERED)) @ rotation.T
  with jax.enable_x64(dtype == np.float64):
    found = _run(matrix, num_steps, dtype=dtype)
  # A Krylov space has as many dimensions as there are distinct eigenvalues, and some
  # for what rounding makes of them.
  assert bool(found.broken_down)
  assert len(_CLUSTERED) <= int(found.num_steps) <= 40
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-4)
  assert extremes.smallest == pytest.approx(-2, abs=2e-5)
  assert extremes.largest == pytest.approx(5, abs=2e-5)
  assert extremes.converged
  # No ghosts: each Ritz value is an eigenvalue.
  values, _ = lanczos.ritz(found)
  for value in values:
    assert np.abs(value - np.array(list(_CLUSTERED))).min() < 1e-4


def test_ritz_values_are_no_ghosts_in_float32_where_plain_lanczos_has_them():
  # An isolated large eigenvalue converges at once and comes back without
  # reorthogonalisation.
  spectrum = np.concatenate([np.linspace(-1, 1, 79), [50.0]])
  found = _run(np.diag(spectrum), 80)
  values, _ = lanczos.ritz(found)
  assert np.sum(values > 2) == 1
  assert values[-1] == pytest.approx(50, rel=1e-5)
  assert values[0] == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize(
  ("matrix", "smallest", "largest", "steps"),
  [
    (np.zeros((6, 6)), 0, 0, 1),
    (3 * np.eye(6), 3, 3, 1),
    (np.array([[-4.0]]), -4, -4, 1),
    (np.outer(np.arange(1.0, 4), np.arange(1.0, 4)), 0, 14, 2),
    (np.diag([0.0, 0, 0, 0, 2.0]), 0, 2, 2),
  ],
)
def test_an_early_breakdown_ends_with_exact_values(matrix, smallest, largest, steps):
  found = _run(matrix, 20)
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-5)
  assert bool(found.broken_down)
  assert int(found.num_steps) == extremes.num_steps == steps
  assert extremes.smallest == pytest.approx(smallest, abs=1e-5)
  assert extremes.largest == pytest.approx(largest, rel=1e-5, abs=1e-5)
  assert extremes.converged


def test_the_residual_bounds_the_distance_to_an_eigenvalue():
  matrix = np.random.default_rng(1).standard_normal((200, 200))
  matrix = matrix + matrix.T
  eigenvalues = np.linalg.eigvalsh(matrix)
  with jax.enable_x64(True):
    for num_steps in (1, 8, 60):
      found = _run(matrix, num_steps, dtype=np.float64)
      extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-3)
      for value, bound in (
        (extremes.smallest, extremes.smallest_residual),
        (extremes.largest, extremes.largest_residual),
      ):
        assert np.abs(value - eigenvalues).min() <= bound * (1 + 1e-6) + 1e-10
      assert eigenvalues[0] - 1e-9 <= extremes.smallest
      assert extremes.largest <= eigenvalues[-1] + 1e-9
      assert extremes.converged == (num_steps == 60)


def test_a_tolerance_ends_early_and_no_later_than_it_holds():
  matrix = np.diag(np.concatenate([np.linspace(-0.1, 0.1, 298), [-3, 10]]))
  whole = _run(matrix, 60)
  early = _run(matrix, 60, tolerance=1e-3)
  steps = int(early.num_steps)
  assert 3 <= steps < 20
  assert int(whole.num_steps) > 40
  extremes = lanczos.extreme_eigenvalues(early, tolerance=1e-3)
  assert extremes.converged
  assert not lanczos.extreme_eigenvalues(
    early._replace(num_steps=steps - 1), tolerance=1e-3
  ).converged
  assert extremes.smallest == pytest.approx(-3, abs=1e-3)
  assert extremes.largest == pytest.approx(10, abs=1e-3)


def test_a_large_outlier_does_not_end_it_before_the_smallest_is_found():
  # As at a trained network: the largest converges in three steps, when the Ritz values
  # near 0 have residuals that are small beside it, but not beside the smallest.
  bulk = np.concatenate([np.linspace(-1, 1, 300), [-20, 1000]])
  found = _run(np.diag(bulk), 60, tolerance=1e-2)
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-2)
  assert extremes.converged
  assert extremes.smallest == pytest.approx(-20, rel=1e-3)
  assert extremes.largest == pytest.approx(1000, rel=1e-5)
  assert extremes.num_steps < 20
  at = lambda *residuals: lanczos.within_tolerance(  # noqa: E731
    np.array([-1.0, 1000.0]), np.array(residuals), 1e-2
  )
  assert at(0.01, 10.0)
  assert not at(0.0101, 10.0)
  assert not at(0.01, 10.01)
  assert not at(np.nan, 0.0)


def test_a_smallest_eigenvalue_hidden_behind_a_bulk_at_zero_is_found():
  # What :small EmoSynthNet has: a bulk within 1e-4 of 0, and 20,000 and -340 of which a
  # random vector has a share of 1 / n each.
  bulk = np.random.default_rng(3).normal(scale=1e-4, size=20_000)
  diagonal = np.concatenate([bulk, [-340, 20_000]]).astype(np.float32)
  start = np.random.default_rng(4).standard_normal(len(diagonal)).astype(np.float32)
  program = jax.jit(
    lambda d, v: lanczos.lanczos(lambda x: d * x, v, 25, tolerance=1e-2)
  )
  found = jax.device_get(program(diagonal, start))
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-2)
  assert extremes.converged
  assert extremes.smallest == pytest.approx(-340, rel=1e-3)
  assert extremes.largest == pytest.approx(20_000, rel=1e-5)
  # The step before, the smallest Ritz value's residual is small beside the largest.
  before = found._replace(num_steps=2, broken_down=False)
  before = lanczos.extreme_eigenvalues(before, tolerance=2e-2)
  assert before.smallest_residual < 2e-4 * before.largest
  assert before.largest_residual < 2e-2 * before.largest
  assert not before.converged


def test_a_smallest_eigenvalue_of_zero_converges_by_the_absolute_tolerance():
  spectrum = np.concatenate([np.zeros(100), np.linspace(1, 50, 100)])
  found = _run(np.diag(spectrum), 90, tolerance=1e-2)
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-2)
  assert not found.broken_down
  assert extremes.converged
  # 64 times float32's epsilon times the largest product, which is 50 at most.
  assert 0 < extremes.absolute_tolerance <= 64 * 2**-23 * 50
  assert abs(extremes.smallest) <= extremes.absolute_tolerance
  residuals = np.array([extremes.smallest_residual, extremes.largest_residual])
  values = np.array([extremes.smallest, extremes.largest])
  # Nothing is small beside 0.
  assert not lanczos.within_tolerance(values, residuals, 1e-2)
  assert lanczos.within_tolerance(values, residuals, 1e-2, extremes.absolute_tolerance)
  # One rule: what is rounding counts, and nothing above it.
  at = lanczos.within_tolerance(np.zeros(2), np.array([1.0, 1.01]), 1e-2, 1.005)
  assert not at


def test_a_start_near_an_eigenvector_is_not_both_ends():
  start = np.full(30, 1e-3, np.float32)
  start[0] = 1
  diagonal = np.concatenate([[5.0], np.linspace(-2, 1, 29)]).astype(np.float32)
  found = jax.device_get(_program(20, 1e-2)(np.diag(diagonal), start))
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-2)
  assert extremes.converged
  assert extremes.smallest == pytest.approx(-2, rel=1e-2)
  one = jax.device_get(_program(1, 0.0)(np.diag(diagonal), start))
  extremes = lanczos.extreme_eigenvalues(one, tolerance=1e-2)
  assert extremes.largest_residual < 1e-2 * extremes.largest
  assert not extremes.converged


def test_numbers_that_are_not_finite_end_it_and_do_not_count_as_converged():
  found = _run(np.diag([1.0, np.nan, 2.0]), 3, tolerance=1e-3)
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-3)
  assert int(found.num_steps) == 1
  assert np.isnan(extremes.smallest)
  assert np.isnan(extremes.largest)
  assert not extremes.converged


def test_the_spectral_density_of_random_signs_is_exact_for_a_diagonal_matrix():
  # Each entry of the probe squared is 1/n, so the weight of an eigenvalue is its share.
  diagonal = _diagonal({-1.0: 5, 0.0: 25, 2.0: 9, 10.0: 1})
  probes = jax.random.rademacher(jax.random.key(0), (3, 40), jnp.float32)
  program = jax.jit(
    jax.vmap(lambda v: lanczos.lanczos(lambda x: jnp.asarray(diagonal) * x, v, 12))
  )
  stack = lanczos.unstack(jax.device_get(program(probes)))
  result = spectrum.spectral_density(stack, broadening=0.01)
  assert result.broadening == pytest.approx(0.11, rel=1e-5)
  for nodes, weights in zip(result.nodes, result.weights, strict=True):
    np.testing.assert_allclose(nodes, [-1, 0, 2, 10], atol=1e-4)
    np.testing.assert_allclose(weights, [5 / 40, 25 / 40, 9 / 40, 1 / 40], atol=1e-5)
  area = np.trapezoid(result.density, result.eigenvalues)
  assert area == pytest.approx(1, abs=1e-4)
  # At an eigenvalue far from the others: its share times a Gaussian's height.
  height = np.interp(2.0, result.eigenvalues, result.density)
  assert height == pytest.approx(9 / 40 / (0.11 * np.sqrt(2 * np.pi)), rel=1e-3)


def test_the_spectral_density_of_a_dense_matrix():
  normal = np.random.default_rng(2).standard_normal((400, 400))
  matrix = (normal + normal.T) / np.sqrt(800)
  stack = [_run(matrix, 40, seed=seed) for seed in range(8)]
  result = spectrum.spectral_density(stack, broadening=0.05)
  z = (result.eigenvalues[:, None] - np.linalg.eigvalsh(matrix)[None]) / (
    result.broadening
  )
  expected = np.exp(-(z**2) / 2).mean(axis=1) / (result.broadening * np.sqrt(2 * np.pi))
  # Eight probes of 400 numbers: what is left is their sampling error.
  distance = np.trapezoid(np.abs(result.density - expected), result.eigenvalues)
  assert distance < 0.08


@pytest.mark.parametrize("broadening", [1e-3, 1e-4])
def test_narrow_gaussians_keep_their_area_and_height(broadening):
  diagonal = _diagonal({-1.0: 5, 0.0: 25, 2.0: 9, 10.0: 1})
  signs = jax.random.rademacher(jax.random.key(0), (40,), jnp.float32)
  found = jax.device_get(_program(12, 0.0)(np.diag(diagonal), signs))
  result = spectrum.spectral_density([found], broadening=broadening)
  area = np.trapezoid(result.density, result.eigenvalues)
  assert area == pytest.approx(1, abs=1e-6)
  near = np.abs(result.eigenvalues - 2) < 4 * result.broadening
  height = 9 / 40 / (result.broadening * np.sqrt(2 * np.pi))
  # At a quarter of a standard deviation from the middle, at worst an eighth.
  assert result.density[near].max() == pytest.approx(height, rel=0.01)


def test_a_spectrum_of_one_eigenvalue_has_a_density():
  result = spectrum.spectral_density([_run(3 * np.eye(5), 4)])
  assert np.trapezoid(result.density, result.eigenvalues) == pytest.approx(1, abs=1e-4)
  assert result.eigenvalues[result.density.argmax()] == pytest.approx(3, abs=0.01)


def test_bad_input_gets_one_clear_error():
  with pytest.raises(ValueError, match=r"start: expected a vector.*\(2, 2\)"):
    lanczos.lanczos(lambda x: x, jnp.ones((2, 2)), 3)
  with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
    lanczos.lanczos(lambda x: x, jnp.ones(2), 0)
  with pytest.raises(ValueError, match="at least one"):
    spectrum.spectral_density([])
  good = _run(np.eye(2), 1)
  for broadening in (0, 1e-5, np.nan):
    with pytest.raises(ValueError, match=f"from 0.0001 on, got {broadening}"):
      spectrum.spectral_density([good], broadening=broadening)
  with pytest.raises(ValueError, match="expected finite"):
    spectrum.spectral_density([good._replace(diagonal=np.array([np.nan]))])
