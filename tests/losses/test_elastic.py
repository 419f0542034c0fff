"""ElasticFace: the margins that are drawn, and CosFace and ArcFace without them."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from emosynth_jax.losses import (
  arcface,
  cosface,
  cosine_logits,
  elastic_arcface,
  elastic_arcface_logits,
  elastic_cosface,
  elastic_cosface_logits,
)


@pytest.mark.parametrize("sort_margins", [False, True])
def test_without_deviation_elastic_is_its_namesake(data, sort_margins):
  given = data.embeddings, data.weights, data.labels
  settings = {"scale": 16.0, "margin": 0.3}
  for elastic, plain in ((elastic_cosface, cosface), (elastic_arcface, arcface)):
    np.testing.assert_allclose(
      elastic(*given, 5, sigma=0.0, sort_margins=sort_margins, **settings),
      plain(*given, **settings),
      rtol=1e-5,
    )


@pytest.fixture(scope="module")
def many():
  """2000 examples of 3 classes in 4 dimensions, with the cosines to their labels."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2000, 4)).astype(np.float32)
  w = rng.normal(size=(4, 3)).astype(np.float32)
  labels = rng.integers(3, size=2000)
  cosines = np.asarray(cosine_logits(x, w, scale=1.0))[np.arange(2000), labels]
  return (x, w, labels), cosines


def cosine_margins(many, step, **arguments):
  given, cosines = many
  logits = elastic_cosface_logits(*given, step, scale=1.0, **arguments)
  return cosines - np.asarray(logits)[np.arange(len(cosines)), given[2]]


def angular_margins(many, step, **arguments):
  """Where theta + margin stays below pi, and theta away from 0."""
  given, cosines = many
  logits = elastic_arcface_logits(*given, step, scale=1.0, **arguments)
  shifted = np.asarray(logits)[np.arange(len(cosines)), given[2]]
  inside = np.abs(cosines) < 0.7
  return np.arccos(shifted[inside]) - np.arccos(cosines[inside])


@pytest.mark.parametrize("sort_margins", [False, True])
def test_margins_of_cosines_are_normal(many, sort_margins):
  """By Kolmogorov and Smirnov's test, on a draw that is the same in every run."""
  margins = cosine_margins(many, 3, margin=0.35, sigma=0.05, sort_margins=sort_margins)
  assert stats.kstest(margins, "norm", (0.35, 0.05)).pvalue > 0.01


def test_margins_of_angles_are_normal(many):
  margins = angular_margins(many, 3, margin=0.5, sigma=0.05)
  assert len(margins) > 500
  assert stats.kstest(margins, "norm", (0.5, 0.05)).pvalue > 0.01


def test_each_step_draws_anew_and_a_step_is_repeatable(many):
  first, again, later = (cosine_margins(many, s, sigma=0.05) for s in (3, 3, 4))
  np.testing.assert_array_equal(first, again)
  assert abs(np.corrcoef(first, later)[0, 1]) < 0.1
  jitted = jax.jit(functools.partial(elastic_cosface, sigma=0.05))
  np.testing.assert_allclose(
    jitted(*many[0], np.int32(3)), elastic_cosface(*many[0], 3, sigma=0.05), rtol=1e-4
  )


def test_sorted_margins_are_larger_for_smaller_cosines(many):
  plain = cosine_margins(many, 3, sigma=0.05)
  ordered = cosine_margins(many, 3, sigma=0.05, sort_margins=True)
  np.testing.assert_allclose(np.sort(plain), np.sort(ordered), atol=1e-5)
  assert (np.diff(ordered[np.argsort(many[1])]) < 1e-5).all()


def test_margins_stay_where_the_formulas_are_monotone(many):
  """A deviation of 4 would leave [0, 2.331] for most examples."""
  assert cosine_margins(many, 3, margin=0.0, sigma=4.0).min() > -1e-5
  (x, w, labels), cosines = many
  logits = elastic_arcface_logits(x, w, labels, 3, scale=1.0, margin=1.0, sigma=4.0)
  target = np.asarray(logits)[np.arange(len(cosines)), labels]
  # No margin, and an angle that goes from 0 to pi.
  assert (target <= cosines + 1e-5).all()
  assert (target >= cosines - 2 - 1e-5).all()
