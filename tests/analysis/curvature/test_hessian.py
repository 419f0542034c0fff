"""Hessian products and eigenvalues against dense Hessians in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from emosynth_jax.analysis.curvature import hessian, lanczos
from emosynth_jax.models.ops import unit_stride

_STEPS = 200


def _network(dtype, seed=0):
  """A convolution by the project's own rule, ELU, a dense layer: 61 parameters."""
  rng = np.random.default_rng(seed)
  params = {
    "conv": rng.standard_normal((3, 3, 1, 3)),
    "bias": rng.standard_normal(3),
    "dense": rng.standard_normal((3, 3)),
    "logits": rng.standard_normal((3, 3)) / 2,
    "shift": rng.standard_normal(3) / 2,
    "scale": rng.standard_normal((4, 4, 1)),
  }
  images = rng.standard_normal((3, 4, 4, 4, 1))
  labels = rng.integers(0, 3, (3, 4)).astype(np.int32)
  cast = lambda x: jnp.asarray(x, dtype)  # noqa: E731
  return jax.tree.map(cast, params), (cast(images), jnp.asarray(labels))


def _measure(params, constants, batch):
  images, labels = batch
  x = images * params["scale"][None] + constants["shift"]
  x = jax.nn.elu(
    unit_stride.conv2d(x, params["conv"]) + params["bias"][None, None, None]
  )
  x = jnp.tanh(x.mean(axis=(1, 2)) @ params["dense"])
  logits = x @ params["logits"] + params["shift"][None]
  logs = jax.nn.log_softmax(logits)
  return {"loss": -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()}


def _loss(params, batch):
  return _measure(params, {"shift": 0.0}, batch)["loss"]


@pytest.fixture(scope="module")
def dense():
  """The dense Hessian of the mean over all images, in float64.

  By central differences of the gradient, which take no second derivative.
  """
  with jax.enable_x64(True):
    params, (images, labels) = _network(np.float64)
    whole = (images.reshape(12, 4, 4, 1), labels.reshape(12))
    flat, unravel = ravel_pytree(params)
    gradient = jax.jit(lambda x: ravel_pytree(jax.grad(_loss)(unravel(x), whole))[0])
    step = 1e-5
    columns = [
      (gradient(flat.at[i].add(step)) - gradient(flat.at[i].add(-step))) / (2 * step)
      for i in range(len(flat))
    ]
    matrix = np.stack(columns)
  assert np.abs(matrix - matrix.T).max() < 1e-8
  return (matrix + matrix.T) / 2


def test_products_are_those_of_the_dense_hessian(dense):
  vectors = np.random.default_rng(1).standard_normal((2, len(dense)))
  with jax.enable_x64(True):
    params, batches = _network(np.float64)

    @jax.jit
    def product(vector):
      return hessian.hessian_matvec(_loss, params, batches)[0](vector)

    for vector in vectors:
      np.testing.assert_allclose(product(vector), dense @ vector, atol=1e-7)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-7), (np.float32, 3e-6)])
def test_extreme_eigenvalues_are_those_of_the_dense_hessian(dense, dtype, atol):
  eigenvalues = np.linalg.eigvalsh(dense)
  assert eigenvalues[0] < -0.05  # a saddle: both ends count
  with jax.enable_x64(dtype == np.float64):
    params, batches = _network(dtype)
    zeros = jax.tree.map(lambda x: jnp.zeros((2, *x.shape), x.dtype), params)
    probe = jnp.asarray(np.random.default_rng(2).standard_normal(len(dense)), dtype)
    found = jax.jit(hessian.at_point(_measure, _STEPS, 1e-4))(
      jnp.zeros(2, dtype), params, zeros, {"shift": dtype(0)}, batches, probe
    )
    found = jax.device_get(found)
  extremes = lanczos.extreme_eigenvalues(found, tolerance=1e-4)
  assert extremes.converged
  assert extremes.num_steps <= len(dense)
  scale = np.abs(eigenvalues).max()
  # The error is of second order in the residual, which is below 1e-4.
  assert extremes.smallest == pytest.approx(
    eigenvalues[0], abs=atol + 1e-4 * scale / 10
  )
  assert extremes.largest == pytest.approx(
    eigenvalues[-1], abs=atol + 1e-4 * scale / 10
  )


def test_the_probes_average_to_the_trace(dense):
  params, batches = _network(np.float32)
  function = jax.jit(
    jax.vmap(hessian.at_network(_measure, 3), in_axes=(0, None, None, None))
  )
  keys = jax.random.split(jax.random.key(0), 200)
  stack = lanczos.unstack(
    jax.device_get(function(keys, params, {"shift": np.float32(0)}, batches))
  )
  # Gauss quadrature has the first moment of each probe to the bit: q^T H q.
  moments = np.array([float(one.diagonal[0]) for one in stack])
  for one, moment in zip(stack[:3], moments, strict=False):
    values, vectors = lanczos.ritz(one)
    assert vectors[0] ** 2 @ values == pytest.approx(moment, abs=1e-6)
  error = moments.std() / np.sqrt(len(moments))
  assert moments.mean() == pytest.approx(np.trace(dense) / len(dense), abs=4 * error)
