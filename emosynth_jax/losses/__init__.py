"""Losses: pure functions that return one value for each example, `(N,)`.

The caller averages, optionally with class weights. A loss's positional arguments are
its inputs, some of `INPUTS`; its keyword-only arguments are its hyperparameters, which
`get_loss` binds by name:

  loss = get_loss("arcface", margin=0.3)
  losses, state = call_loss(loss, logits=..., embeddings=..., weights=..., labels=...)

A margin changes the logits and a classification loss follows; `"arcface"` is
cross-entropy under the ArcFace margin, and `"mam_softmax+sce_loss"` the thesis's SCE
loss under its MAM-SoftMax margin. A loss with `state` among its inputs returns
`(losses, new_state)`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jax import Array

from emosynth_jax.losses._inputs import (
  INPUTS,
  call_loss,
  hyperparameters,
  loss_inputs,
  name_of,
  select_inputs,
  under_margin,
)
from emosynth_jax.losses.adaptive_margin import (
  adaface,
  adaface_logits,
  adaface_state,
  curricularface,
  curricularface_logits,
  curricularface_state,
  magface,
)
from emosynth_jax.losses.additive_margin import (
  arcface,
  arcface_logits,
  cosface,
  cosface_logits,
  double_am_softmax,
  double_am_softmax_logits,
  dynamic_am_softmax,
  dynamic_am_softmax_logits,
  sm_softmax,
  sm_softmax_logits,
)
from emosynth_jax.losses.center import center_loss, center_loss_state
from emosynth_jax.losses.classification import (
  binary_cross_entropy,
  cross_entropy,
  focal,
  label_smoothing,
  mse,
  poly,
  sce_loss,
)
from emosynth_jax.losses.contrastive import supervised_contrastive
from emosynth_jax.losses.cosine import (
  cosine_logits,
  linear_logits,
  norm_cosine_logits,
)
from emosynth_jax.losses.elastic import (
  elastic_arcface,
  elastic_arcface_logits,
  elastic_cosface,
  elastic_cosface_logits,
)
from emosynth_jax.losses.hinge import ramp, unhinged
from emosynth_jax.losses.imbalance import (
  balanced_softmax,
  deferred_reweighting,
  dynamically_weighted_balanced,
  ldam,
  ldam_logits,
  logit_adjustment,
  real_world_weight_cross_entropy,
)
from emosynth_jax.losses.mam_softmax import (
  MARGIN_FNS,
  mam_softmax,
  mam_softmax_class_count,
  mam_softmax_class_count_logits,
  mam_softmax_class_ema,
  mam_softmax_class_ema_logits,
  mam_softmax_class_ema_state,
  mam_softmax_logits,
)
from emosynth_jax.losses.multiplicative_margin import (
  l_softmax,
  l_softmax_logits,
  sphereface,
  sphereface_logits,
)
from emosynth_jax.losses.noise_robust import (
  active_passive,
  generalized_cross_entropy,
  mean_absolute_error,
  normalized_cross_entropy,
  reverse_cross_entropy,
  symmetric_cross_entropy,
  truncated_generalized_cross_entropy,
)
from emosynth_jax.losses.scheduled import (
  mixed_cross_entropy,
  sample_ratio,
  small_loss_cross_entropy,
)
from emosynth_jax.losses.subcenter import (
  subcenter_arcface,
  subcenter_arcface_logits,
  subcenter_cosine_logits,
)
from emosynth_jax.utils.nearest import or_known

__all__ = [
  "CLASSIFICATION_LOSSES",
  "INPUTS",
  "LOSSES",
  "MARGINS",
  "MARGIN_FNS",
  "active_passive",
  "adaface",
  "adaface_logits",
  "adaface_state",
  "arcface",
  "arcface_logits",
  "balanced_softmax",
  "binary_cross_entropy",
  "call_loss",
  "center_loss",
  "center_loss_state",
  "cosface",
  "cosface_logits",
  "cosine_logits",
  "cross_entropy",
  "curricularface",
  "curricularface_logits",
  "curricularface_state",
  "defaults_of",
  "deferred_reweighting",
  "double_am_softmax",
  "double_am_softmax_logits",
  "dynamic_am_softmax",
  "dynamic_am_softmax_logits",
  "dynamically_weighted_balanced",
  "elastic_arcface",
  "elastic_arcface_logits",
  "elastic_cosface",
  "elastic_cosface_logits",
  "focal",
  "generalized_cross_entropy",
  "get_evaluation_logits",
  "get_loss",
  "init_state",
  "l_softmax",
  "l_softmax_logits",
  "label_smoothing",
  "ldam",
  "ldam_logits",
  "linear_logits",
  "logit_adjustment",
  "loss_inputs",
  "magface",
  "mam_softmax",
  "mam_softmax_class_count",
  "mam_softmax_class_count_logits",
  "mam_softmax_class_ema",
  "mam_softmax_class_ema_logits",
  "mam_softmax_class_ema_state",
  "mam_softmax_logits",
  "mean_absolute_error",
  "mixed_cross_entropy",
  "mse",
  "norm_cosine_logits",
  "normalized_cross_entropy",
  "poly",
  "ramp",
  "real_world_weight_cross_entropy",
  "reverse_cross_entropy",
  "sample_ratio",
  "sce_loss",
  "select_inputs",
  "sm_softmax",
  "sm_softmax_logits",
  "small_loss_cross_entropy",
  "sphereface",
  "sphereface_logits",
  "subcenter_arcface",
  "subcenter_arcface_logits",
  "subcenter_cosine_logits",
  "supervised_contrastive",
  "symmetric_cross_entropy",
  "truncated_generalized_cross_entropy",
  "under_margin",
  "unhinged",
]

# Losses of plain logits; each can be combined with a margin.
CLASSIFICATION_LOSSES: dict[str, Callable[..., Any]] = {
  "active_passive": active_passive,
  "balanced_softmax": balanced_softmax,
  "binary_cross_entropy": binary_cross_entropy,
  "center_loss": center_loss,
  "cross_entropy": cross_entropy,
  "deferred_reweighting": deferred_reweighting,
  "dynamically_weighted_balanced": dynamically_weighted_balanced,
  "focal": focal,
  "generalized_cross_entropy": generalized_cross_entropy,
  "label_smoothing": label_smoothing,
  "logit_adjustment": logit_adjustment,
  "mean_absolute_error": mean_absolute_error,
  "mixed_cross_entropy": mixed_cross_entropy,
  "mse": mse,
  "normalized_cross_entropy": normalized_cross_entropy,
  "poly": poly,
  "ramp": ramp,
  "real_world_weight_cross_entropy": real_world_weight_cross_entropy,
  "reverse_cross_entropy": reverse_cross_entropy,
  "sce_loss": sce_loss,
  "small_loss_cross_entropy": small_loss_cross_entropy,
  "supervised_contrastive": supervised_contrastive,
  "symmetric_cross_entropy": symmetric_cross_entropy,
  "truncated_generalized_cross_entropy": truncated_generalized_cross_entropy,
  "unhinged": unhinged,
}

# Margins by name: the logits with the margin at the label, and cross-entropy of these.
_OF_MARGINS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
  "a_softmax": (sphereface_logits, sphereface),
  "aam_softmax": (arcface_logits, arcface),
  "adaface": (adaface_logits, adaface),
  "am_softmax": (cosface_logits, cosface),
  "arcface": (arcface_logits, arcface),
  "cosface": (cosface_logits, cosface),
  "curricularface": (curricularface_logits, curricularface),
  "double_am_softmax": (double_am_softmax_logits, double_am_softmax),
  "dynamic_am_softmax": (dynamic_am_softmax_logits, dynamic_am_softmax),
  "elastic_arcface": (elastic_arcface_logits, elastic_arcface),
  "elastic_cosface": (elastic_cosface_logits, elastic_cosface),
  "l_softmax": (l_softmax_logits, l_softmax),
  "ldam": (ldam_logits, ldam),
  "lmcl": (cosface_logits, cosface),
  "mam_softmax": (mam_softmax_logits, mam_softmax),
  "mam_softmax_class_count": (mam_softmax_class_count_logits, mam_softmax_class_count),
  "mam_softmax_class_ema": (mam_softmax_class_ema_logits, mam_softmax_class_ema),
  "sm_softmax": (sm_softmax_logits, sm_softmax),
  "sphereface": (sphereface_logits, sphereface),
  "subcenter_arcface": (subcenter_arcface_logits, subcenter_arcface),
}
# Functions that return logits with a margin at the label.
MARGINS = {name: logits for name, (logits, _) in _OF_MARGINS.items()}
# By the name of a margin alone: cross-entropy with that margin.
LOSSES: dict[str, Callable[..., Any]] = {
  **CLASSIFICATION_LOSSES,
  **{name: loss for name, (_, loss) in _OF_MARGINS.items()},
  "magface": magface,
}

# Margin-free logits of the angular margins, which take the weights, where these are not
# `cosine_logits`. MagFace is a loss and no margin for others: without its reward of the
# norm, gradient descent shrinks the norm and with it the margin.
_MARGIN_FREE: dict[Callable[..., Any], Callable[..., Array]] = {
  l_softmax_logits: linear_logits,
  sphereface_logits: norm_cosine_logits,
  subcenter_arcface_logits: subcenter_cosine_logits,
}

_INITIAL_STATES: dict[str, Callable[[int, int], Array]] = {
  "adaface": adaface_state,
  "center_loss": center_loss_state,
  "curricularface": curricularface_state,
  "mam_softmax_class_ema": mam_softmax_class_ema_state,
}


def _resolve(name: str | Callable[..., Any]) -> Callable[..., Any]:
  """The loss called `name`, a key of `LOSSES` or `"margin+loss"`, or a function."""
  if callable(name):
    _check_signature(name)
    return name
  if name in LOSSES:
    return LOSSES[name]

  margin, plus, loss = str(name).partition("+")
  if not plus:
    raise ValueError(
      f"unknown loss {name!r}{or_known(str(name), sorted(LOSSES))}, and margin+loss "
      "for one of them after a margin"
    )
  if margin not in MARGINS:
    raise ValueError(
      f"unknown margin {margin!r} in {name!r}{or_known(margin, MARGINS)}"
    )
  if loss not in CLASSIFICATION_LOSSES:
    raise ValueError(
      f"no loss {loss!r} can follow a margin, as in {name!r}"
      f"{or_known(loss, CLASSIFICATION_LOSSES)}"
    )

  return under_margin(MARGINS[margin], CLASSIFICATION_LOSSES[loss], name)


def _check_signature(function: Callable[..., Any]) -> None:
  """Checks that a function takes the inputs of a loss, and nothing else by position."""
  inputs = loss_inputs(function)
  if unknown := [name for name in inputs if name not in INPUTS]:
    raise ValueError(
      f"loss {name_of(function)}: unknown input {', '.join(unknown)}; a loss takes "
      f"some of {', '.join(INPUTS)} by these names, and its hyperparameters after a *"
    )
  if "labels" not in inputs:
    raise ValueError(
      f"loss {name_of(function)}: expected labels among its inputs, got "
      f"{', '.join(inputs) or 'none'}"
    )


def get_loss(name: str | Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
  """The loss called `name` with its hyperparameters bound.

  Args:
    name: a key of `LOSSES`, or two names with a plus sign, as in
      `"mam_softmax+sce_loss"`: a key of `MARGINS` and one of `CLASSIFICATION_LOSSES`.
      Or a function of some of `INPUTS`, with its hyperparameters keyword-only.
    **arguments: hyperparameters, the keyword-only arguments of that loss or of both.

  Returns:
    A function of the inputs that `loss_inputs` names, which returns `(N,)`, or, with
    `state` among them, `((N,), new_state)`. `call_loss` calls any of them.

  Raises:
    ValueError: for an unknown name or argument, or a missing one; the known ones are
      listed.
  """
  loss = _resolve(name)
  known = hyperparameters(loss)
  if unknown := sorted(set(arguments) - set(known)):
    raise ValueError(
      f"loss {name!r} takes no argument {', '.join(map(repr, unknown))}"
      f"{or_known(unknown[0], known)}"
    )

  missing = [k for k, v in known.items() if v is inspect.Parameter.empty]
  if missing := sorted(set(missing) - set(arguments)):
    raise ValueError(f"loss {name!r} needs the argument {', '.join(missing)}")

  return functools.partial(loss, **arguments)


def defaults_of(name: str | Callable[..., Any]) -> dict[str, Any]:
  """The hyperparameters of the loss called `name` and their defaults.

  Args:
    name: the loss's name, as for `get_loss`.

  Returns:
    Name to default; `inspect.Parameter.empty` for one that must be given.

  Raises:
    ValueError: for an unknown name.
  """
  return hyperparameters(_resolve(name))


def get_evaluation_logits(
  name: str | Callable[..., Any], **arguments: Any
) -> Callable[..., Array]:
  """The margin-free logits for evaluating a model that was trained with a loss.

  Args:
    name: the loss's name, as for `get_loss`. A function that takes no `logits` has the
      attribute `evaluation_logits`, a function of `(embeddings, weights)`.
    **arguments: its hyperparameters, as for `get_loss`.

  Returns:
    A function of `(embeddings, weights)` for angular margins, and of `(logits)`, which
    it returns, for all other losses. `select_inputs` picks them.

  Raises:
    ValueError: as `get_loss` does.
  """
  loss = get_loss(name, **arguments)
  if callable(name):
    if own := getattr(name, "evaluation_logits", None):
      return own
    if "logits" not in loss_inputs(loss):
      raise ValueError(
        f"loss {name_of(name)}: it takes no logits, so that its attribute "
        "evaluation_logits has to be the function (embeddings, weights) -> logits "
        "(N, K) by which the network is evaluated"
      )
    return _unchanged

  first = name.partition("+")[0]
  trained = MARGINS.get(first, LOSSES[first])
  if "weights" not in loss_inputs(trained):
    return _unchanged

  margin_free = _MARGIN_FREE.get(trained, cosine_logits)
  settings = hyperparameters(trained) | arguments
  return functools.partial(
    margin_free, **{k: settings[k] for k in hyperparameters(margin_free)}
  )


def _unchanged(logits: Array) -> Array:
  return logits


def init_state(name: str | Callable[..., Any], num_classes: int, dim: int) -> Any:
  """The initial state of the loss called `name`.

  Args:
    name: the loss's name, as for `get_loss`. A function that takes `state` has the
      attribute `init_state`, a function of `(num_classes, dim)`.
    num_classes: K.
    dim: D, the size of an embedding.

  Returns:
    An array, a pair of them where margin and loss both keep a state, or None.

  Raises:
    ValueError: for an unknown name.
  """
  loss = _resolve(name)
  if callable(name):
    if "state" not in loss_inputs(loss):
      return None
    initial = getattr(name, "init_state", None)
    if initial is None:
      raise ValueError(
        f"loss {name_of(name)}: it takes state, so that its attribute init_state has "
        "to be the function (num_classes, dim) -> initial state"
      )
    return initial(num_classes, dim)

  states = [
    _INITIAL_STATES[part](num_classes, dim)
    for part in name.split("+")
    if part in _INITIAL_STATES
  ]
  if not states:
    return None

  return states[0] if len(states) == 1 else tuple(states)
