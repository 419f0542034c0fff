"""One batch for the tests of formulas, of the shape that the contract test compiles."""

import types

import numpy as np
import pytest


@pytest.fixture
def data():
  """Five examples of seven classes, with float32 values and their float64 copies."""
  rng = np.random.default_rng(0)
  logits = (rng.normal(size=(5, 7)) * 3).astype(np.float32)
  soft = rng.dirichlet(np.ones(7), size=5).astype(np.float32)
  labels = np.array([2, 0, 6, 2, 4], np.int32)
  z = logits.astype(np.float64)
  log_p = z - z.max(-1, keepdims=True)
  log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
  return types.SimpleNamespace(
    logits=logits,
    labels=labels,
    soft=soft,
    embeddings=rng.normal(size=(5, 4)).astype(np.float32) * 2,
    weights=rng.normal(size=(4, 7)).astype(np.float32),
    counts=np.array([50, 7, 400, 1, 90, 0, 33]),
    y=np.eye(7)[labels],
    z=z,
    log_p=log_p,
    p=np.exp(log_p),
    p_y=np.exp(log_p)[np.arange(5), labels],
  )
