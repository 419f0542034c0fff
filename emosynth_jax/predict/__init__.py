"""Expressions of the faces in images.

  from emosynth_jax.predict import Predictor

  predictor = Predictor()  # or of a run's workdir, or a bundle
  print(predictor("photograph.jpg"))

The command is `python -m emosynth_jax.predict`. docs/predict.md says what a label can't
tell of a person.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from emosynth_jax.predict.predictor import FACES, UNCERTAIN, Prediction, Predictor

__all__ = ["FACES", "UNCERTAIN", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
  # The command's --help is spared JAX, which a predictor needs.
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  from emosynth_jax.predict import predictor

  return getattr(predictor, name)
