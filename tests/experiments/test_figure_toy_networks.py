"""Toy networks of figure 4.2: metrics and drawing."""

import numpy as np
import pytest

from emosynth_jax.data.dataset import from_arrays
from experiments.lib import figures_of_toy_networks, toy_embeddings


def _digits(total):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (total, 32, 32)).astype(np.uint8)
  return from_arrays(images, np.arange(total) % 3, ("0", "1", "2"))


def test_a_toy_network_is_judged_by_what_its_loss_leaves_without_the_margin():
  train = toy_embeddings.build_trainer(
    toy_embeddings.LOSSES["ArcFace"], 3, _digits(64), _digits(30), epochs=1
  )
  found = train(0)
  assert found.points.shape == (30, 3)
  assert found.weights.shape == (3, 3)
  # The nearest weight by angle, whatever the lengths.
  cosines = found.points @ (found.weights / np.linalg.norm(found.weights, axis=0))
  right = (cosines.argmax(axis=1) == np.arange(30) % 3).mean()
  assert found.metrics["accuracy"] == pytest.approx(right)


def test_toy_networks_are_compared_by_pairs_of_one_seed(tmp_path, drawn):
  labels = np.arange(12) % 3

  def trained(dim, accuracy):
    rng = np.random.default_rng(0)
    return toy_embeddings.Trained(
      rng.normal(size=(12, dim)),
      rng.normal(size=(dim, 3)),
      dict.fromkeys(toy_embeddings.METRICS, accuracy),
    )

  accuracies = {label: (0.5, 0.625) for label in toy_embeddings.LOSSES}
  accuracies["ArcFace"] = (0.75, 0.75)
  found = {
    dim: {label: [trained(dim, a) for a in pair] for label, pair in accuracies.items()}
    for dim in toy_embeddings.DIMENSIONS
  }
  summary = toy_embeddings.summarize(found)
  own = summary["3"]["ArcFace"]["accuracy"]
  assert own["mean"] == 0.75
  assert own["difference"]["mean"] == pytest.approx((0.25 + 0.125) / 2)
  assert "difference" not in summary["3"]["softmax"]["accuracy"]
  text = figures_of_toy_networks.format_summary(summary, {"seeds": "0, 1"})
  assert "0.5625 ± 0.0884" in text
  assert "+0.1875 (" in text
  figures_of_toy_networks.draw(
    tmp_path / "x.png", found, labels, ("0", "1", "2"), "title"
  )
  assert len(drawn["x.png"].axes) == 8
  # The side of a sphere that is turned away is pale, and still to be seen.
  shares = [points.get_alpha() for points in drawn["x.png"].axes[-1].collections[1:]]
  assert min(shares) >= 0.3
