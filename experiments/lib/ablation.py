"""Many short trainings that differ in their loss, as one compiled program.

A member is one training: a formula (a loss with the arguments that shape its
program), the formula's numbers (margin, scale, ...) and a seed. Formula, numbers and
seed are all data of the program, so that a whole grid needs one compilation, and two
members of one seed start from the same parameters and see the same batches.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from emosynth_jax import losses
from emosynth_jax.parallel import batched_map
from emosynth_jax.training import build, eval_step, named_parts, train_step
from emosynth_jax.training import state as train_state
from emosynth_jax.utils import errors
from experiments.lib.ablation_members import Formula, Members

Array = jax.Array

# Execution of the members of one call: sequential, as one batch of networks, or
# sequential on each device with the members sharded.
MAPPINGS = ("map", "vmap", "devices")


def switched_loss(
  formulas: Sequence[Formula], formula: ArrayLike, numbers: Array
) -> Callable[..., tuple[Array, Any]]:
  """The loss of a formula whose index is data.

  Args:
    formulas: the program's.
    formula: int32 `()`, the formula's index.
    numbers: float32 `(P,)`, the values of its numbers.

  Returns:
    A loss of all of `losses.INPUTS`; its state holds that of each formula.
  """

  def loss(logits, embeddings, weights, labels, class_counts, step, state):
    def branch(index):
      name, arguments = _resolve(formulas[index], numbers)
      bound = losses.get_loss(name, **arguments)

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
  """The margin-free logits of a formula whose index is data.

  Args:
    formulas: the program's.
    formula: int32 `()`, the formula's index.
    numbers: float32 `(P,)`, the values of its numbers.

  Returns:
    `(logits, embeddings, weights) -> (N, K)`.
  """

  def evaluation_logits(logits, embeddings, weights):
    def branch(f):
      name, arguments = _resolve(f, numbers)
      function = losses.get_evaluation_logits(name, **arguments)
      available = {"logits": logits, "embeddings": embeddings, "weights": weights}
      return lambda: function(**losses.select_inputs(function, **available))

    return lax.switch(formula, [branch(f) for f in formulas])

  return evaluation_logits


def _resolve(formula: Formula, numbers: Array) -> tuple[Any, dict[str, Any]]:
  """The loss of a formula, and its arguments, as `losses.get_loss` takes them."""
  values = {name: numbers[i] for i, name in enumerate(formula.numbers)}
  return named_parts.resolve_loss(
    {"name": formula.loss, **dict(formula.fixed), **values}
  )


def _init_loss_state(formula: Formula, num_classes: int, dim: int) -> Any:
  name, _ = named_parts.resolve_loss({"name": formula.loss, **dict(formula.fixed)})
  return losses.init_state(name, num_classes, dim)


def train_member(
  member: Members,
  training: tuple[Array, Array],
  validation: tuple[Array, Array],
  mislabeled: tuple[Array, Array] | None = None,
  *,
  formulas: Sequence[Formula],
  model: nn.Module,
  build_optimizer: Callable[[ArrayLike], optax.GradientTransformation],
  augment: Callable[[Array, Array], Array],
  num_classes: int,
  num_epochs: int,
  batch_size: int,
  eval_batch_size: int,
  validates_each_epoch: bool = False,
  returns_variables: bool = False,
) -> dict[str, Any]:
  """Trains one network from its seed and evaluates it after the last epoch.

  Args:
    member: scalars and one row of numbers.
    training: uint8 images `(M, H, W, C)` and int32 labels `(M,)`.
    validation: likewise, the images to evaluate on.
    mislabeled: likewise, the training images with a wrong label, if they are known.
    formulas: the program's.
    model: the network.
    build_optimizer: the member's learning rate to its optimizer.
    augment: `(key, uint8 images) -> float32 images`.
    num_classes: K.
    num_epochs: passes over the training images.
    batch_size: N.
    eval_batch_size: images at a time in the evaluation.
    validates_each_epoch: whether it is evaluated after each epoch.
    returns_variables: whether the results have the network's last variables.

  Returns:
    - "loss", "cross_entropy" (without margin) and "accuracy", `(num_epochs,)`, the
      training's mean by epoch; NaN for an epoch with a step that is not finite,
    - "bad_step" `(num_epochs,)`, the first step of an epoch with a non-finite loss or
      gradient (-1: none); such a step leaves the network as it is,
    - "statistics", those of `classification.batch_statistics` by batch of the
      validation; with `validates_each_epoch` by epoch and batch,
    - "memorized" with `mislabeled`, the same of these images after the last epoch: its
      accuracy is the share of the wrong labels that the network gives,
    - "variables" with `returns_variables`.
  """
  images, labels = training
  experiment = _build_experiment(
    member,
    tuple(images.shape[1:]),
    formulas,
    model=model,
    optimizer=build_optimizer(member.learning_rate),
    augment=augment,
    num_classes=num_classes,
  )
  state = experiment.create_state(jax.random.key(member.seed))
  setup = train_step.StepSetup.of(
    experiment,
    class_weights=jnp.ones(num_classes),
    class_counts=jnp.bincount(labels, length=num_classes),
  )
  run_epoch = functools.partial(
    train_step.train_steps,
    images=images,
    labels=labels,
    setup=setup,
    num_steps=images.shape[0] // batch_size,
    batch_size=batch_size,
  )

  def evaluate(state, split=validation):
    return eval_step.evaluate_images(
      state.variables,
      state.input_scale,
      *split,
      experiment=experiment,
      num_classes=num_classes,
      batch_size=eval_batch_size,
    )

  def one_epoch(state, _):
    state = run_epoch(state.replace(totals=train_state.zero_totals()))
    record = _epoch_means(state.totals)
    if validates_each_epoch:
      record["statistics"] = evaluate(state)
    return state, record

  state, record = lax.scan(one_epoch, state, None, length=num_epochs)
  if not validates_each_epoch:
    record["statistics"] = evaluate(state)
  if mislabeled is not None:
    record["memorized"] = evaluate(state, mislabeled)
  if returns_variables:
    record["variables"] = state.variables
  return record


def _build_experiment(
  member: Members,
  image_shape: tuple[int, ...],
  formulas: Sequence[Formula],
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  augment: Callable[[Array, Array], Array],
  num_classes: int,
) -> build.Experiment:
  """A member's functions, with the loss state of each formula."""
  # Only the optimizer's rate: the loop has no validation for a schedule.
  constant_rate = optax.contrib.reduce_on_plateau()
  return build.Experiment(
    model=model,
    loss=switched_loss(formulas, member.formula, member.numbers),
    evaluation_logits=switched_evaluation_logits(
      formulas, member.formula, member.numbers
    ),
    optimizer=optimizer,
    plateau=constant_rate,
    augment=augment,
    mixup=None,
    create_state=functools.partial(
      train_state.create_train_state,
      model=model,
      optimizer=optimizer,
      plateau=constant_rate,
      image_shape=image_shape,  # type: ignore[arg-type]
      input_scale=1 / 255,
      init_loss_state=lambda dim: tuple(
        _init_loss_state(formula, num_classes, dim) for formula in formulas
      ),
    ),
  )


def _epoch_means(totals: dict[str, Array]) -> dict[str, Any]:
  """The means of an epoch's totals, and its first step that is not finite."""
  # The totals leave such steps out: the mean of the others is not the epoch's.
  is_finite = totals["bad_step"] < 0
  means = {k: totals[k] / totals["steps"] for k in ("loss", "cross_entropy")}
  return {
    **{k: jnp.where(is_finite, mean, jnp.nan) for k, mean in means.items()},
    "accuracy": totals["correct"] / totals["count"],
    "bad_step": totals["bad_step"],
  }


def compile_members(
  mapping: str, formulas: Sequence[Formula], **arguments: Any
) -> Callable[..., dict[str, Any]]:
  """Compiles `train_member` over the members of a call.

  Args:
    mapping: one of `MAPPINGS`; with "devices" the number of members of a call is a
      multiple of the number of devices.
    formulas: the program's.
    **arguments: the keyword arguments of `train_member`.

  Returns:
    `(members, training, validation[, mislabeled]) -> results`, jitted, every array of
    the results with a leading axis of the members.

  Raises:
    ValueError: for an unknown mapping.
  """
  errors.check_choice("mapping", mapping, MAPPINGS)

  def one(member, *splits):
    return train_member(member, *splits, formulas=formulas, **arguments)

  if mapping == "vmap":
    return jax.jit(
      lambda members, *splits: jax.vmap(lambda member: one(member, *splits))(members)
    )
  return batched_map.compile_map(one, mapping)
