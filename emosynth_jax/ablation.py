"""Many short trainings that differ in their loss, as one compiled program.

A member is one training: a formula (a loss with the arguments that shape its
program), the formula's numbers (margin, scale, ...) and a seed. Formula, numbers and
seed are all data of the program, so that a whole grid needs one compilation, and two
members of one seed start from the same parameters and see the same batches.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from emosynth_jax import evaluate_step, losses, mapped, train_state, train_step

Array = jax.Array

# How the members of one call run: one after the other, as one batch of networks, or
# one after the other on each device with the members shared out.
MAPPINGS = ("map", "vmap", "devices")


class Formula(NamedTuple):
  """A loss with all that shapes its program.

  Attributes:
    loss: a name as `losses.get_loss` takes it.
    fixed: arguments that are no floats, `((name, value), ...)` in order of name.
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
  """

  formula: ArrayLike
  numbers: Array
  seed: ArrayLike


def expand_grid(grid: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """All combinations of each entry's values.

  Args:
    grid: entries of a loss's arguments with its name under "loss"; a list or tuple
      holds the values to try.

  Returns:
    One dictionary of single values for each combination, the first one of equals.

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
      arguments = {k: v for k, v in setting.items() if k != "loss"}
      losses.get_loss(setting["loss"], **arguments)
      if setting not in settings:
        settings.append(setting)
  return settings


def check_values(setting: Mapping[str, Any], num_classes: int) -> None:
  """Refuses values that the loss itself refuses.

  As data of a program they are traced, and no loss can look at them.

  Args:
    setting: one of `expand_grid`.
    num_classes: K.

  Raises:
    TypeError, ValueError: as the loss does.
  """
  arguments = {k: v for k, v in setting.items() if k != "loss"}
  jax.eval_shape(
    functools.partial(losses.call_loss, losses.get_loss(setting["loss"], **arguments)),
    logits=jnp.zeros((2, num_classes)),
    embeddings=jnp.zeros((2, 1)),
    weights=jnp.zeros((1, num_classes)),
    labels=jnp.zeros(2, jnp.int32),
    class_counts=jnp.ones(num_classes),
    step=jnp.int32(0),
    state=losses.init_state(setting["loss"], num_classes, 1),
  )


def formula_of(setting: Mapping[str, Any]) -> tuple[Formula, tuple[float, ...]]:
  """Takes a setting apart into its formula and its numbers.

  A float is data of the program; anything else (a reading's name, the whole-numbered
  margin of SphereFace, a margin function) is part of the formula.

  Args:
    setting: one of `expand_grid`.

  Returns:
    The formula and the values of its numbers.
  """
  arguments = sorted((k, v) for k, v in setting.items() if k != "loss")
  fixed = tuple((k, v) for k, v in arguments if not isinstance(v, float))
  numbers = tuple((k, v) for k, v in arguments if isinstance(v, float))
  formula = Formula(setting["loss"], fixed, tuple(k for k, _ in numbers))
  return formula, tuple(v for _, v in numbers)


def stack_members(
  members: Sequence[tuple[Mapping[str, Any], int]], formulas: Sequence[Formula]
) -> Members:
  """The arrays of some members.

  Args:
    members: pairs of a setting and a seed.
    formulas: those of the program.

  Returns:
    The arrays.
  """
  width = max(len(formula.numbers) for formula in formulas)
  indices, rows = [], []
  for setting, _ in members:
    formula, numbers = formula_of(setting)
    indices.append(formulas.index(formula))
    rows.append(numbers + (0.0,) * (width - len(numbers)))
  return Members(
    formula=np.asarray(indices, np.int32),
    numbers=jnp.asarray(rows, jnp.float32).reshape(len(members), width),
    seed=np.asarray([seed for _, seed in members], np.uint32),
  )


def switched_loss(
  formulas: Sequence[Formula], formula: ArrayLike, numbers: Array
) -> Callable[..., tuple[Array, Any]]:
  """The loss of the formula whose number is data.

  Args:
    formulas: the program's.
    formula: int32 `()`, which of them.
    numbers: float32 `(P,)`, the values of its numbers.

  Returns:
    A loss of all of `losses.INPUTS`; its state holds that of each formula.
  """

  def loss(logits, embeddings, weights, labels, class_counts, step, state):
    def branch(index):
      bound = losses.get_loss(
        formulas[index].loss, **_arguments(formulas[index], numbers)
      )

      def call():
        values, new = losses.call_loss(
          bound,
          logits=logits,
          embeddings=embeddings,
          weights=weights,
          labels=labels,
          class_counts=class_counts,
          step=step,
          state=state[index],
        )
        return values, (*state[:index], new, *state[index + 1 :])

      return call

    return lax.switch(formula, [branch(i) for i in range(len(formulas))])

  return loss


def switched_evaluation_logits(
  formulas: Sequence[Formula], formula: ArrayLike, numbers: Array
) -> Callable[..., Array]:
  """The margin-free logits of the formula whose number is data.

  Args:
    formulas: the program's.
    formula: int32 `()`, which of them.
    numbers: float32 `(P,)`, the values of its numbers.

  Returns:
    `(logits, embeddings, weights) -> (N, K)`.
  """

  def evaluation_logits(logits, embeddings, weights):
    def branch(f):
      function = losses.get_evaluation_logits(f.loss, **_arguments(f, numbers))
      available = {"logits": logits, "embeddings": embeddings, "weights": weights}
      return lambda: function(**losses.select_inputs(function, **available))

    return lax.switch(formula, [branch(f) for f in formulas])

  return evaluation_logits


def _arguments(formula: Formula, numbers: Array) -> dict[str, Any]:
  values = {name: numbers[i] for i, name in enumerate(formula.numbers)}
  return dict(formula.fixed) | values


def train_member(
  member: Members,
  training: tuple[Array, Array],
  validation: tuple[Array, Array],
  *,
  formulas: Sequence[Formula],
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  augment: Callable[[Array, Array], Array],
  num_classes: int,
  num_epochs: int,
  batch_size: int,
  eval_batch_size: int,
) -> dict[str, Any]:
  """Trains one network from its seed and evaluates it after the last epoch.

  Args:
    member: scalars and one row of numbers.
    training: uint8 images `(M, H, W, C)` and int32 labels `(M,)`.
    validation: the same of the images to evaluate on.
    formulas: the program's.
    model: the network.
    optimizer: turns gradients into updates.
    augment: `(key, uint8 images) -> float32 images`.
    num_classes: K.
    num_epochs: passes over the training images.
    batch_size: N.
    eval_batch_size: images at a time in the evaluation.

  Returns:
    "loss" and "accuracy" `(num_epochs,)`, the training's mean by epoch, "bad_step",
    the first step with a non-finite loss or gradient (-1: none), and "statistics",
    those of `metrics.batch_statistics` by batch of the validation.
  """
  images, labels = training
  # No rate but the optimiser's: the loop has no validation to steer one by.
  constant_rate = optax.contrib.reduce_on_plateau()
  state = train_state.create_train_state(
    jax.random.key(member.seed),
    model=model,
    optimizer=optimizer,
    plateau=constant_rate,
    image_shape=tuple(images.shape[1:]),  # type: ignore[arg-type]
    input_scale=1 / 255,
    init_loss_state=lambda dim: tuple(
      losses.init_state(formula.loss, num_classes, dim) for formula in formulas
    ),
  )
  evaluation_logits = switched_evaluation_logits(
    formulas, member.formula, member.numbers
  )
  run_epoch = functools.partial(
    train_step.train_steps,
    images=images,
    labels=labels,
    class_weights=jnp.ones(num_classes),
    num_steps=images.shape[0] // batch_size,
    batch_size=batch_size,
    model=model,
    loss=switched_loss(formulas, member.formula, member.numbers),
    evaluation_logits=evaluation_logits,
    class_counts=jnp.bincount(labels, length=num_classes),
    optimizer=optimizer,
    augment=augment,
    mixup=None,
  )

  def one_epoch(state, _):
    fresh = train_state.zero_totals()
    kept = {k: v for k, v in state.totals.items() if k.startswith("bad_")}
    state = run_epoch(state.replace(totals=fresh | kept))
    totals = state.totals
    return state, {
      "loss": totals["loss"] / totals["steps"],
      "accuracy": totals["correct"] / totals["count"],
    }

  state, record = lax.scan(one_epoch, state, None, length=num_epochs)
  statistics = evaluate_step.evaluate_images(
    state.variables,
    state.input_scale,
    *validation,
    model=model,
    evaluation_logits=evaluation_logits,
    num_classes=num_classes,
    batch_size=eval_batch_size,
  )
  return record | {"bad_step": state.totals["bad_step"], "statistics": statistics}


def compile_members(
  mapping: str, formulas: Sequence[Formula], **arguments: Any
) -> Callable[..., dict[str, Any]]:
  """`train_member` over the members of a call.

  Args:
    mapping: one of `MAPPINGS`; with "devices" the number of members of a call is a
      multiple of the number of devices.
    formulas: the program's.
    **arguments: the keyword arguments of `train_member`.

  Returns:
    `(members, training, validation) -> results`, jitted, every array of the results
    with a leading axis of the members.

  Raises:
    ValueError: for an unknown mapping.
  """
  if mapping not in MAPPINGS:
    raise ValueError(f"mapping: expected one of {', '.join(MAPPINGS)}; got {mapping!r}")
  one = functools.partial(train_member, formulas=formulas, **arguments)

  if mapping == "vmap":
    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))
  return mapped.compile_map(one, mapping)
