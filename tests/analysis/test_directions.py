"""Directions: norms by filter computed one filter at a time, files, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.analysis import directions

_RNG = np.random.default_rng(0)
_PROGRAMS = {
  vectors: jax.jit(functools.partial(directions.normalize_directions, vectors=vectors))
  for vectors in directions.VECTORS
}


def _normalize(raw, params, vectors="fixed"):
  return jax.device_get(_PROGRAMS[vectors](raw, params))


def _draw(seed, params, count):
  program = jax.jit(directions.draw_directions, static_argnums=2)
  return jax.device_get(program(jax.random.key(seed), params, count))


def _params():
  normal = lambda *shape: _RNG.standard_normal(shape).astype(np.float32)  # noqa: E731
  dense = normal(6, 3)
  dense[:, 1] = 0
  return {
    "conv": {"kernel": 3 * normal(3, 3, 2, 4), "bias": normal(4)},
    "depthwise": {"kernel": normal(3, 3, 1, 5)},
    "dense": {"kernel": dense, "bias": np.zeros(3, np.float32)},
    "norm": {"scale": 1 + normal(4), "bias": normal(4)},
  }


def test_each_filter_has_the_norm_of_the_networks_and_vectors_stay():
  params = _params()
  raw = _draw(3, params, 2)
  found = _normalize(raw, params)
  for layer in ("conv", "depthwise", "dense"):
    weights = params[layer]["kernel"]
    for i in range(2):
      drawn, moved = raw[layer]["kernel"][i], found[layer]["kernel"][i]
      for f in range(weights.shape[-1]):
        norm = np.linalg.norm(np.ravel(weights[..., f]))
        assert np.linalg.norm(np.ravel(moved[..., f])) == pytest.approx(norm, rel=1e-5)
        # Only the length of each filter changes.
        expected = np.ravel(drawn[..., f]) / np.linalg.norm(np.ravel(drawn[..., f]))
        np.testing.assert_allclose(np.ravel(moved[..., f]), norm * expected, rtol=2e-5)
  for layer, name in (("conv", "bias"), ("norm", "scale"), ("norm", "bias")):
    np.testing.assert_array_equal(found[layer][name], np.zeros((2, 4)))


def test_vectors_can_be_moved_as_one_filter_each():
  params = _params()
  raw = _draw(3, params, 2)
  found = _normalize(raw, params, "normalized")
  for layer, name in (("conv", "bias"), ("norm", "scale"), ("dense", "bias")):
    norm = np.linalg.norm(params[layer][name])
    for vector in found[layer][name]:
      assert np.linalg.norm(vector) == pytest.approx(norm, rel=1e-5)
  with pytest.raises(ValueError, match="fixed, normalized; got 'half'"):
    directions.normalize_directions(raw, params, vectors="half")


def test_a_rescaled_filter_keeps_its_share_of_the_step():
  # What the normalization is for: w and 10 w (the same network before BatchNorm) are
  # changed by the same share.
  params = _params()
  scaled = jax.tree.map(lambda x: x, params)
  scaled["conv"]["kernel"] = 10 * params["conv"]["kernel"]
  raw = _draw(3, params, 1)
  one, other = (_normalize(raw, p) for p in (params, scaled))
  np.testing.assert_allclose(
    other["conv"]["kernel"], 10 * one["conv"]["kernel"], rtol=1e-5
  )


def test_draws_depend_on_seed_and_path_alone():
  params = _params()
  raw = _draw(3, params, 2)
  part = _draw(3, {"norm": params["norm"]}, 2)
  jax.tree.map(np.testing.assert_array_equal, part["norm"], raw["norm"])
  other = _draw(4, params, 2)
  kernel = raw["conv"]["kernel"]
  assert np.abs(kernel - other["conv"]["kernel"]).max() > 0.1
  assert np.abs(kernel[0] - kernel[1]).max() > 0.1
  # Arrays of one shape are not drawn alike.
  assert np.abs(raw["norm"]["scale"] - raw["norm"]["bias"]).max() > 0.1


def test_a_move_is_linear_in_the_coordinates():
  params = {"w": jnp.array([1.0, 2.0])}
  two = {"w": jnp.array([[10.0, 0.0], [0.0, 100.0]])}
  moved = directions.move(params, two, jnp.array([0.5, -0.25]))
  np.testing.assert_array_equal(moved["w"], [6, -23])


def test_a_file_gives_the_same_directions_and_refuses_other_networks(tmp_path):
  params = _params()
  raw = _draw(3, params, 2)
  path = tmp_path / "directions.npz"
  directions.save_directions(path, raw)
  jax.tree.map(
    np.testing.assert_array_equal, directions.load_directions(path, params, 2), raw
  )
  line = directions.load_directions(path, params, 1)
  np.testing.assert_array_equal(line["conv"]["bias"], raw["conv"]["bias"][:1])
  with pytest.raises(ValueError, match=r"expected at least 3, got 2"):
    directions.load_directions(path, params, 3)
  wide = params | {"norm": {"scale": np.ones(5), "bias": np.ones(4)}}
  with pytest.raises(ValueError, match=r"norm/scale is \(4,\) there and \(5,\) here"):
    directions.load_directions(path, wide, 2)
  with pytest.raises(ValueError, match="more/bias is absent there"):
    directions.load_directions(path, params | {"more": {"bias": np.ones(2)}}, 2)
  with pytest.raises(FileNotFoundError, match="does not exist"):
    directions.load_directions(tmp_path / "none.npz", params, 2)
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match="is damaged"):
    directions.load_directions(path, params, 2)
