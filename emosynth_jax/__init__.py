"""Facial-expression recognition and margin-loss research in JAX.

  import emosynth_jax as ej

  run = ej.train("configs/synthetic_faces.py:small", "runs/mine", loss=my_loss)
  run.report["splits"]["test"]["accuracy"]

`ej.losses`, `ej.models` and `ej.data` are imported at their first use, as is all else.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from emosynth_jax import data, losses, metrics, models
  from emosynth_jax.api import Run, train
  from emosynth_jax.api import load_run as load
  from emosynth_jax.config.defaults import get_default_config
  from emosynth_jax.config.recipes import read as get_config
  from emosynth_jax.predict.predictor import Prediction, Predictor

__version__ = "0.1.0"

__all__ = [
  "Prediction",
  "Predictor",
  "Run",
  "data",
  "get_config",
  "get_default_config",
  "load",
  "losses",
  "metrics",
  "models",
  "train",
]

# Name -> module and attribute; "" for the module itself.
_LAZY = {
  "Prediction": ("emosynth_jax.predict", "Prediction"),
  "Predictor": ("emosynth_jax.predict", "Predictor"),
  "Run": ("emosynth_jax.api", "Run"),
  "data": ("emosynth_jax.data", ""),
  "get_config": ("emosynth_jax.config.recipes", "read"),
  "get_default_config": ("emosynth_jax.config.defaults", "get_default_config"),
  "load": ("emosynth_jax.api", "load_run"),
  "losses": ("emosynth_jax.losses", ""),
  "metrics": ("emosynth_jax.metrics", ""),
  "models": ("emosynth_jax.models", ""),
  "train": ("emosynth_jax.api", "train"),
}


def __getattr__(name: str) -> Any:
  if name not in _LAZY:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module, attribute = _LAZY[name]
  loaded = importlib.import_module(module)
  return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
