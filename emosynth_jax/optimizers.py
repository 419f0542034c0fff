"""The optimiser of the thesis, and its learning rate's decay."""

import optax


def build_optimizer(
  *, learning_rate: float, b1: float, b2: float, gradient_clip: float
) -> optax.GradientTransformation:
  """Adam (Kingma and Ba 2015), behind a limit on the gradient's global norm.

  Args:
    learning_rate: step size before any decay.
    b1: decay of the first moment.
    b2: decay of the second moment.
    gradient_clip: largest global norm of the gradient; 0 for no limit.

  Returns:
    The transformation from gradients to updates.
  """
  adam = optax.adam(learning_rate, b1=b1, b2=b2)
  if gradient_clip:
    return optax.chain(optax.clip_by_global_norm(gradient_clip), adam)
  return adam


def build_plateau(
  *, factor: float, patience: int, min_improvement: float, min_scale: float
) -> optax.GradientTransformationExtraArgs:
  """Decay of the learning rate when the validation loss stops falling.

  The state's `scale` multiplies the updates of every step; `update_plateau` feeds it
  once an epoch.

  Args:
    factor: what the scale is multiplied by.
    patience: epochs without an improvement before that.
    min_improvement: share of the best loss that counts as an improvement.
    min_scale: where the decay ends.

  Returns:
    The transformation.
  """
  return optax.contrib.reduce_on_plateau(
    factor=factor, patience=patience, rtol=min_improvement, min_scale=min_scale
  )


def update_plateau(
  plateau: optax.GradientTransformationExtraArgs,
  state: optax.OptState,
  validation_loss: float,
) -> optax.OptState:
  """The plateau's state after an epoch.

  Args:
    plateau: as `build_plateau` makes it.
    state: its state before.
    validation_loss: that of the epoch.

  Returns:
    The state whose `scale` the next epoch's updates are multiplied by.
  """
  _, state = plateau.update({}, state, value=validation_loss)
  return state
