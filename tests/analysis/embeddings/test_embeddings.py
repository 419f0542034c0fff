"""Embeddings of a split, and their places in a plane."""

import jax
import numpy as np
import pytest
import scipy.spatial.distance
import tiny_network

from emosynth_jax.analysis.embeddings import embeddings
from emosynth_jax.analysis.gradcam import grad_cam


def _blobs(per_class=15, dim=6):
  """Three classes far apart."""
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(3), per_class)
  x = rng.normal(size=(len(labels), dim))
  x[np.arange(len(labels)), labels] += 30
  return x.astype(np.float32), labels


def test_every_image_has_the_embedding_of_plain_numpy():
  state = tiny_network.create_state(seed=0)
  # Statistics that are no batch's own.
  statistics = jax.tree.map(lambda x: x + 0.5, state.batch_stats)
  variables = {"params": state.params, "batch_stats": statistics}
  images = np.asarray(tiny_network.random_images(11)[0])
  done = []
  found, logits = embeddings.compute_embeddings(
    grad_cam.flax_apply_fn(tiny_network.TinyNetwork()),
    variables,
    np.float32(1 / 255),
    images,
    batch_size=4,
    report=done.append,
  )
  params = jax.device_get(state.params)
  stored = jax.device_get(statistics)["BatchNorm_0"]
  x = images.reshape(11, -1) / 255.0 @ np.float64(params["Dense_0"]["kernel"])
  x = (x - stored["mean"]) / np.sqrt(stored["var"] + 1e-5)
  x = x * params["BatchNorm_0"]["scale"] + params["BatchNorm_0"]["bias"]
  x = np.where(x > 0, x, np.expm1(x))
  expected = x @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]
  np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  assert done[-1] == 11


def test_a_network_without_an_embedding_and_no_images_are_refused():
  def apply_fn(variables, inputs):
    return inputs.sum((1, 2)), {"block1": inputs}

  images = np.zeros((2, 4, 4, 3), np.uint8)
  with pytest.raises(ValueError, match=r"'pre_logits', got block1"):
    embeddings.compute_embeddings(apply_fn, {}, 1.0, images)
  with pytest.raises(ValueError, match=r"at least one, got shape \(0, 4, 4, 3\)"):
    embeddings.compute_embeddings(apply_fn, {}, 1.0, images[:0])


def test_principal_components_are_those_of_the_covariance():
  x, _ = _blobs()
  points = embeddings.project(x, "pca")
  values, vectors = np.linalg.eigh(np.cov(x.astype(np.float64).T))
  expected = (x - x.mean(axis=0)) @ vectors[:, :-3:-1]
  # A component's sign is free.
  np.testing.assert_allclose(np.abs(points), np.abs(expected), rtol=1e-3, atol=1e-3)
  assert points.var(axis=0, ddof=1) == pytest.approx(values[:-3:-1], rel=1e-4)


def test_tsne_keeps_clusters_and_answers_to_its_seed():
  x, labels = _blobs()
  points = embeddings.project(x, "tsne", seed=3, perplexity=5)
  assert points.shape == (45, 2)
  assert points.dtype == np.float32
  distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(points))
  np.fill_diagonal(distances, np.inf)
  np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)
  again = embeddings.project(x, "tsne", seed=3, perplexity=5)
  np.testing.assert_array_equal(again, points)
  other = embeddings.project(x, "tsne", seed=4, perplexity=5)
  assert np.abs(other - points).max() > 0.1


def test_few_or_equal_embeddings_have_places_too():
  x, _ = _blobs(per_class=2)
  assert np.isfinite(embeddings.project(x)).all()
  np.testing.assert_array_equal(embeddings.project(np.ones((7, 3))), np.zeros((7, 2)))


@pytest.mark.parametrize(
  ("arguments", "error", "message"),
  [
    ((np.zeros((5, 2), int),), TypeError, "expected floating, got int64"),
    ((np.zeros(5),), ValueError, r"expected \(N, D\), got shape \(5,\)"),
    ((np.zeros((5, 1)),), ValueError, r"D >= 2, got \(5, 1\)"),
    ((np.zeros((5, 2)), "umap"), ValueError, "tsne, pca; got 'umap'"),
    ((np.full((5, 2), np.nan),), ValueError, "got 5 rows with NaN"),
  ],
)
def test_what_has_no_place_is_refused(arguments, error, message):
  with pytest.raises(error, match=message):
    embeddings.project(*arguments)


def test_a_perplexity_out_of_range_is_refused():
  with pytest.raises(ValueError, match=r"number in \(0, 5\).*got 5"):
    embeddings.project(np.eye(5), perplexity=5)


def test_a_plane_is_faithful_to_itself_and_not_to_a_shuffled_one():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(200, 2))
  labels = rng.integers(0, 5, 200)
  kept = embeddings.faithfulness(x, x, labels)
  assert kept["trustworthiness"] == 1
  assert kept["center_distances"] == pytest.approx(1)
  shuffled = embeddings.faithfulness(x, rng.permutation(x), labels)
  assert shuffled["trustworthiness"] == pytest.approx(0.5, abs=0.1)


def test_the_order_of_center_distances_by_hand():
  # Centers at 0, 1 and 10, so distances of 1, 10 and 9; in the plane at 0, 5 and 6: 5,
  # 6 and 1. Ranks 1, 3, 2 and 2, 3, 1: Spearman is 1 - 6 (1 + 0 + 1) / (3 * 8) = 1/2.
  labels = np.repeat([0, 1, 2], 2)
  x = np.zeros((6, 2))
  x[:, 0] = np.repeat([0, 1, 10], 2) + np.tile([0.1, -0.1], 3)
  points = np.zeros((6, 2))
  points[:, 1] = np.repeat([0, 5, 6], 2) + np.tile([0.1, -0.1], 3)
  kept = embeddings.faithfulness(x, points, labels)
  assert kept["center_distances"] == pytest.approx(0.5)
  two = embeddings.faithfulness(x[:4], points[:4], labels[:4])
  assert np.isnan(two["center_distances"])


def test_arrays_that_do_not_fit_are_refused():
  x = np.zeros((4, 2))
  with pytest.raises(ValueError, match=r"points: expected \(4, 2\)"):
    embeddings.faithfulness(x, x[:3], np.zeros(4, int))
  with pytest.raises(ValueError, match=r"labels: expected shape \(4,\), got \(3,\)"):
    embeddings.faithfulness(x, x, np.zeros(3, int))
  with pytest.raises(TypeError, match="expected integers, got float64"):
    embeddings.faithfulness(x, x, np.zeros(4))
