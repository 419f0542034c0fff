"""The members of an ablation: a grid's settings as formulas, numbers and seeds."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from emosynth_jax import losses
from emosynth_jax.training import named_parts
from emosynth_jax.utils import own_code

Array = jax.Array


class Formula(NamedTuple):
  """A loss with the arguments that determine its program.

  Attributes:
    loss: a name as `losses.get_loss` takes it.
    fixed: non-float arguments, `((name, value), ...)` in order of name.
    numbers: names of the float arguments, in order; their values are data.
  """

  loss: str
  fixed: tuple[tuple[str, Any], ...]
  numbers: tuple[str, ...]


class Members(NamedTuple):
  """The trainings of one call, as arrays of length M.

  Attributes:
    formula: int32 `(M,)`, indices into the program's formulas.
    numbers: float32 `(M, P)`, the values of the formula's numbers, then zeros.
    seed: uint32 `(M,)`.
    learning_rate: float32 `(M,)`.
  """

  formula: ArrayLike
  numbers: Array
  seed: ArrayLike
  learning_rate: ArrayLike


class Member(NamedTuple):
  """One training, in plain values.

  Attributes:
    setting: one of `expand_grid`.
    seed: of the initialization, the batches and the augmentation.
    learning_rate: of the first step.
  """

  setting: Mapping[str, Any]
  seed: int
  learning_rate: float


def expand_grid(grid: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """All combinations of each entry's values.

  Args:
    grid: entries of a loss's arguments with its name under "loss"; a list or tuple has
      the values to try.

  Returns:
    One dictionary of single values for each combination, without duplicates.

  Raises:
    ValueError: for an unknown loss or argument, as `losses.get_loss`.
  """
  settings: list[dict[str, Any]] = []
  for entry in grid:
    choices = [
      list(value) if isinstance(value, list | tuple) else [value]
      for value in entry.values()
    ]
    for values in itertools.product(*choices):
      setting = dict(zip(entry, values, strict=True))
      name, arguments = _resolve(setting)
      losses.get_loss(name, **arguments)
      if setting not in settings:
        settings.append(setting)
  return settings


def check_values(setting: Mapping[str, Any], num_classes: int) -> None:
  """Checks values by the loss's argument checks.

  As data of a program they are traced, and cannot be checked there.

  Args:
    setting: one of `expand_grid`.
    num_classes: K.

  Raises:
    TypeError, ValueError: as the loss does.
  """
  name, arguments = _resolve(setting)
  jax.eval_shape(
    functools.partial(losses.call_loss, losses.get_loss(name, **arguments)),
    logits=jnp.zeros((2, num_classes)),
    embeddings=jnp.zeros((2, 1)),
    weights=jnp.zeros((1, num_classes)),
    labels=jnp.zeros(2, jnp.int32),
    class_counts=jnp.ones(num_classes),
    step=jnp.int32(0),
    state=losses.init_state(name, num_classes, 1),
  )


def _resolve(setting: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  arguments = {k: v for k, v in setting.items() if k != "loss"}
  return named_parts.resolve_loss({"name": setting["loss"], **arguments})


def formula_of(setting: Mapping[str, Any]) -> tuple[Formula, tuple[float, ...]]:
  """Splits a setting into its formula and its numbers.

  A float is data of the program; anything else (a reading's name, the integer margin of
  SphereFace) is part of the formula, and so are all arguments of the user's own code,
  which may have a Python branch on them.

  Args:
    setting: one of `expand_grid`.

  Returns:
    The formula and the values of its numbers.
  """
  arguments = sorted((k, v) for k, v in setting.items() if k != "loss")
  is_own = any(own_code.is_own(value) for value in setting.values())
  numbers = tuple((k, v) for k, v in arguments if isinstance(v, float) and not is_own)
  fixed = tuple(each for each in arguments if each not in numbers)
  formula = Formula(setting["loss"], fixed, tuple(k for k, _ in numbers))
  return formula, tuple(v for _, v in numbers)


def stack_members(members: Sequence[Member], formulas: Sequence[Formula]) -> Members:
  """Converts members to arrays.

  Args:
    members: of the program's formulas.
    formulas: those of the program.

  Returns:
    The arrays.
  """
  width = max(len(formula.numbers) for formula in formulas)
  indices, rows = [], []
  for member in members:
    formula, numbers = formula_of(member.setting)
    indices.append(formulas.index(formula))
    rows.append(numbers + (0.0,) * (width - len(numbers)))
  return Members(
    formula=np.asarray(indices, np.int32),
    numbers=jnp.asarray(rows, jnp.float32).reshape(len(members), width),
    seed=np.asarray([member.seed for member in members], np.uint32),
    learning_rate=np.asarray([member.learning_rate for member in members], np.float32),
  )
