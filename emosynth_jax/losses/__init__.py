"""Losses: pure functions that return one value for each example, `(N,)`.

The caller averages, and weights by class if it wants to. Hyperparameters are
keyword-only; `get_loss` binds them by name.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jax import Array

from emosynth_jax.losses.classification import cross_entropy, mse
from emosynth_jax.losses.mam_softmax import mam_softmax
from emosynth_jax.losses.sce_loss import sce_loss

__all__ = ["LOSSES", "cross_entropy", "get_loss", "mam_softmax", "mse", "sce_loss"]

LOSSES: dict[str, Callable[..., Array]] = {
  "cross_entropy": cross_entropy,
  "mam_softmax": mam_softmax,
  "mse": mse,
  "sce_loss": sce_loss,
}


def get_loss(name: str, **arguments: Any) -> Callable[..., Array]:
  """The loss called `name` with its hyperparameters bound.

  Args:
    name: a key of `LOSSES`.
    **arguments: hyperparameters, that loss's keyword-only arguments.

  Returns:
    A function of the loss's inputs, `(logits, labels) -> (N,)`.

  Raises:
    ValueError: for an unknown name or argument; it lists the known ones.
  """
  if name not in LOSSES:
    raise ValueError(f"unknown loss {name!r}; known: {', '.join(sorted(LOSSES))}")
  loss = LOSSES[name]
  known = [
    p.name
    for p in inspect.signature(loss).parameters.values()
    if p.kind is inspect.Parameter.KEYWORD_ONLY
  ]
  if unknown := sorted(set(arguments) - set(known)):
    raise ValueError(
      f"loss {name!r} takes no argument {', '.join(map(repr, unknown))}; known: "
      f"{', '.join(known) or 'none'}"
    )
  return functools.partial(loss, **arguments)
