"""The functions that a config names, built-in ones and the user's own."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax import losses
from emosynth_jax.utils import own_code


def resolve_loss(
  settings: Mapping[str, Any],
) -> tuple[str | Callable[..., Any], dict[str, Any]]:
  """Looks up a loss, as a name or, for the user's own, as a function.

  Args:
    settings: as `config.loss`: the loss's name under "name", its hyperparameters, and
      "margin_fn" where it takes one. The last may be the user's function of logits; its
      own hyperparameters then stand beside it.

  Returns:
    What `losses.get_loss` takes.

  Raises:
    FileNotFoundError, ValueError: for own code that can't be loaded, or is no loss.
  """
  arguments = dict(settings)
  name = arguments.pop("name")
  first, *others = str(name).split("+")
  # Of two parts the first is a margin, which returns logits.
  parts = [_own_function(first) if others else _loss_part(first)]
  parts += [_loss_part(part) for part in others]
  if not any(map(callable, parts)):
    loss = name
  elif len(parts) == 1:
    loss = parts[0]
  else:
    loss = _under_margin(parts, name)

  if own_code.is_own(arguments.get("margin_fn")):
    arguments = _bind_margin(loss, arguments)
  return loss, arguments


def _own_function(name: str) -> str | Callable[..., Any]:
  """The user's function whose errors name its file; a built-in name is left alone."""
  if not own_code.is_own(name):
    return name
  function = own_code.load(name)
  if not inspect.isfunction(function):
    raise ValueError(f"{name}: expected a function, got {type(function).__name__}")
  return own_code.guard(function, name)


def _loss_part(name: str) -> str | Callable[..., Any]:
  """The user's loss, whose result is checked; a built-in name is left alone."""
  guarded = _own_function(name)
  if isinstance(guarded, str):
    return guarded

  @functools.wraps(guarded)
  def loss(*args: Any, **kwargs: Any) -> Any:
    result = guarded(*args, **kwargs)
    given = inspect.signature(guarded).bind(*args, **kwargs).arguments
    values = result[0] if "state" in given and isinstance(result, tuple) else result
    # A loss without labels is refused by `losses.get_loss`.
    expected = jnp.shape(given.get("labels", ()))[:1]
    if "labels" in given and jnp.shape(values) != expected:
      raise ValueError(
        f"{name}: expected one loss for each example, of shape {expected}, got shape "
        f"{jnp.shape(values)}; the training loop takes the mean"
      )
    return result

  return loss


def _under_margin(
  parts: list[str | Callable[..., Any]], name: str
) -> Callable[..., Any]:
  """The composition of a margin and a loss of which one at least is the user's."""
  if len(parts) > 2:
    raise ValueError(f"loss.name: expected margin+loss, got {name!r}")
  margin, loss = parts
  if isinstance(margin, str):
    if margin not in losses.MARGINS:
      raise ValueError(
        f"unknown margin {margin!r} in {name!r}; known: {', '.join(losses.MARGINS)}"
      )
    own = losses.get_evaluation_logits(margin)
    margin = losses.MARGINS[margin]
    if "logits" not in losses.loss_inputs(own):
      raise ValueError(
        f"loss.name: the angular margin in {name!r} can't stand over a loss of one's "
        "own; call its function inside of the loss"
      )

  if isinstance(loss, str):
    if loss not in losses.CLASSIFICATION_LOSSES:
      raise ValueError(
        f"no loss {loss!r} can follow a margin, as in {name!r}; known: "
        f"{', '.join(losses.CLASSIFICATION_LOSSES)}"
      )
    loss = losses.CLASSIFICATION_LOSSES[loss]

  composed = losses.under_margin(margin, loss, name)
  # What a margin of embeddings, or of a state, has to say beside its function.
  for attribute in ("evaluation_logits", "init_state"):
    if hasattr(margin, attribute):
      setattr(composed, attribute, getattr(margin, attribute))
  return composed


def _bind_margin(
  loss: str | Callable[..., Any], arguments: dict[str, Any]
) -> dict[str, Any]:
  """Replaces the name of a margin formula by the function, with its arguments bound."""
  name = arguments["margin_fn"]
  formula: Any = _own_function(name)
  own = margin_hyperparameters(formula, name)
  of_loss = losses.hyperparameters(losses.get_loss(loss))
  if both := sorted(set(own) & set(of_loss)):
    raise ValueError(
      f"{name}: its hyperparameter {both[0]} is also one of the loss; rename it"
    )

  bound = {key: arguments[key] for key in own if key in arguments}
  others = {key: value for key, value in arguments.items() if key not in bound}

  def margin_fn(logits: jax.Array) -> Any:
    margins = formula(logits, **bound)
    if jnp.shape(margins) != logits.shape[:1]:
      raise ValueError(
        f"{name}: expected one margin for each example, of shape {logits.shape[:1]} "
        f"for logits of shape {logits.shape}, got shape {jnp.shape(margins)}"
      )
    return margins

  return others | {"margin_fn": margin_fn}


def margin_hyperparameters(formula: Callable[..., Any], name: str) -> dict[str, Any]:
  """The hyperparameters of a margin formula and their defaults.

  Args:
    formula: a function of logits; further parameters with a default, or keyword-only,
      are its hyperparameters.
    name: its name in the settings, for messages.

  Returns:
    Name to default; `inspect.Parameter.empty` for one that must be given.

  Raises:
    ValueError: for a function of anything else.
  """
  parameters = list(inspect.signature(formula).parameters.values())
  logits, own = parameters[:1], parameters[1:]
  keyword_only = inspect.Parameter.KEYWORD_ONLY
  by_name = (keyword_only, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  is_margin = len(logits) == 1 and all(
    each.kind in by_name
    and (each.kind is keyword_only or each.default is not each.empty)
    for each in own
  )
  if not is_margin or logits[0].kind is keyword_only:
    raise ValueError(
      f"{name}: expected a function of logits (N, K), its hyperparameters with a "
      f"default or after a *; got {name.rpartition(':')[2]}{inspect.signature(formula)}"
    )

  return {each.name: each.default for each in own}


def resolve_model(name: str) -> str | Callable[..., nn.Module]:
  """Looks up a network: a built-in one stays a name, the user's becomes its class.

  Raises:
    FileNotFoundError, ValueError: for own code that can't be loaded, or is no network.
  """
  if not own_code.is_own(name):
    return name
  network = own_code.load(name)
  if not callable(network):
    raise ValueError(
      f"{name}: expected a class of flax.linen.Module, or a function that returns a "
      f"module, got {type(network).__name__}"
    )

  return network


def check_network(
  model: Any, name: str, image_shape: tuple[int, int, int], num_outputs: int
) -> None:
  """Checks the user's network by its shapes, without computing anything.

  Args:
    model: the module.
    name: its name in the settings, for messages.
    image_shape: `(height, width, channels)`.
    num_outputs: length of its logits.

  Raises:
    ValueError: if it can't be called as the training does, or returns something else
      than a network does; see `models.build_model`.
  """
  if not isinstance(model, nn.Module):
    raise ValueError(
      f"{name}: expected a flax.linen.Module, got {type(model).__name__}"
    )

  folders = []
  if own_code.has_file(name):
    folders = [own_code.root_of(own_code.parse_name(name)[0])]
  images = jnp.zeros((2, *image_shape), jnp.float32)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  try:
    result, variables = jax.eval_shape(
      lambda: model.init_with_output(keys, images, train=False)
    )
  except Exception as error:
    raise ValueError(f"{name}: {own_code.describe(error, folders)}") from error

  if not (isinstance(result, tuple) and len(result) == 2):
    raise ValueError(
      f"{name}: expected the network to return (logits, "
      '{"pre_logits": embeddings}), got ' + type(result).__name__
    )

  logits, inner = result
  if getattr(logits, "shape", None) != (2, num_outputs):
    raise ValueError(
      f"{name}: expected logits of shape (2, {num_outputs}) for 2 images, got "
      f"{getattr(logits, 'shape', type(logits).__name__)}"
    )

  embeddings = inner.get("pre_logits") if isinstance(inner, dict) else None
  kernel = variables["params"].get("logits", {}).get("kernel")
  if embeddings is None or kernel is None or embeddings.ndim != 2:
    raise ValueError(
      f'{name}: expected its last layer to be nn.Dense(num_classes, name="logits"), '
      'and its input of shape (N, D) beside the logits as {"pre_logits": ...}'
    )
  if kernel.shape != (embeddings.shape[-1], num_outputs):
    raise ValueError(
      f'{name}: expected the kernel of "logits" of shape '
      f"({embeddings.shape[-1]}, {num_outputs}), got {kernel.shape}"
    )
  if unknown := sorted(set(variables) - {"params", "batch_stats"}):
    raise ValueError(
      f"{name}: a network keeps params and batch_stats; got also {', '.join(unknown)}"
    )
