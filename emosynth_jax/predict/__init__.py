"""Facial expression prediction for images.

  from emosynth_jax.predict import Predictor

  predictor = Predictor()  # or ("fer2013"), or of a run's workdir, or a bundle
  print(predictor("photograph.jpg"))

The command is `python -m emosynth_jax.predict`. docs/guides/predict.md explains the
limits of such labels.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from emosynth_jax.predict.labels import FACES, UNCERTAIN
  from emosynth_jax.predict.predictor import Prediction, Predictor

__all__ = ["FACES", "UNCERTAIN", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
  # Imported lazily, so that the command's --help does not import JAX.
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  from emosynth_jax.predict import predictor

  return getattr(predictor, name)
