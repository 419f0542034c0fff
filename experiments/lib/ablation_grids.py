"""Grids of `margin_ablation`, and loading of a user's margin formula."""

import importlib.util
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

KAPPAS = [0.5, 1.0, 2.0]

GRIDS: dict[str, list[dict[str, Any]]] = {
  # The thesis's losses in all their readings, and the plain margin.
  "thesis": [
    {"loss": "cross_entropy"},
    {"loss": "sm_softmax", "margin": [0.5, 1.0, 2.0, 4.0]},
    {"loss": "mam_softmax", "margin_fn": "centered_max", "kappa": KAPPAS},
    {"loss": "mam_softmax", "margin_fn": "box_repaired", "kappa": KAPPAS},
    {"loss": "mam_softmax", "margin_fn": "printed_max", "kappa": 1.0},
    {"loss": "mam_softmax", "margin_fn": "printed_argmax", "kappa": 1.0},
    {"loss": "mam_softmax_class_ema", "kappa": KAPPAS},
    {"loss": "mam_softmax_class_count", "kappa": KAPPAS},
    {"loss": "sce_loss", "reading": ["batch", "example", "intent", "box"]},
    {
      "loss": "mam_softmax+sce_loss",
      "margin_fn": "centered_max",
      "reading": ["batch", "intent"],
      "kappa": 1.0,
    },
  ],
  # Angular margins, by scale: some collapse with few classes.
  "angular": [
    {"loss": "cross_entropy"},
    {"loss": "cosface", "scale": [4.0, 8.0, 16.0, 30.0], "margin": [0.0, 0.1, 0.35]},
    {"loss": "arcface", "scale": [4.0, 8.0, 16.0, 64.0], "margin": [0.1, 0.3, 0.5]},
    {"loss": "dynamic_am_softmax", "scale": [8.0, 30.0], "margin": 0.2},
    {"loss": "sphereface", "margin": [2, 4]},
    {"loss": "l_softmax", "margin": [2, 4]},
    # Those two barely reach their margins in a few hundred steps: the annealing ends at
    # lam_min. Here lam_min holds from the first step, and then the full margin.
    {
      "loss": ["sphereface", "l_softmax"],
      "margin": [2, 4],
      "lam_min": [5.0, 0.0],
      "lam_max": 0.0,
    },
  ],
  # Only the formula of --margin_file.
  "mine": [{"loss": "cross_entropy"}],
}


def load_margin(path: str) -> Callable:
  """Loads the function `margin` of a Python file.

  Args:
    path: the file.

  Returns:
    The function, tested on logits of two examples.

  Raises:
    FileNotFoundError, ValueError: if there is none, or it fails.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"--margin_file: no file {path}")
  spec = importlib.util.spec_from_file_location("margin_file", path)
  if spec is None or spec.loader is None:
    raise ValueError(f"--margin_file: expected a Python file, NAME.py, got {path}")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except (Exception, SystemExit) as error:
    raise ValueError(f"--margin_file: {path} does not run: {error!r}") from error
  function = getattr(module, "margin", None)
  if not callable(function) or len(inspect.signature(function).parameters) != 1:
    raise ValueError(
      f"--margin_file: expected a function margin(logits) in {path}, logits (N, K) to "
      "margins (N,)"
    )
  try:
    shape = jax.eval_shape(function, jnp.zeros((2, 7))).shape
  except Exception as error:
    raise ValueError(
      f"--margin_file: margin of {path} fails for logits of shape (2, 7): {error}"
    ) from error
  if shape != (2,):
    raise ValueError(
      f"--margin_file: margin of {path} should return shape (2,) for logits of shape "
      f"(2, 7), got {shape}"
    )
  return function


def describe(setting: dict[str, Any], margin_hash: str = "") -> dict[str, Any]:
  """Converts a setting to plain values, for the records."""
  return {
    key: f"margin_file {margin_hash}" if callable(value) else value
    for key, value in setting.items()
  }
