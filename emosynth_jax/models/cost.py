"""Cost of a network: parameters, multiply-adds and depth, counted in its program."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

_LAYERS = ("conv_general_dilated", "dot_general")


class Cost(NamedTuple):
  """Counts of one network for one image.

  Attributes:
    parameters: number of trainable parameters; BatchNorm's statistics are not included.
    multiply_adds: of all convolutions and matrix products, those with padding
      included, as torchvision counts them (XLA's own count leaves padding out: 1.06
      for 1.35 G of EmoSynthNet at 32x32x3). Elementwise operations (BatchNorm,
      activations, pooling) are not counted.
    depth: layers with a kernel on the longest path from the image to the logits:
      ResNet50 has 50, since its shortcuts' convolutions lie on shorter ones.
  """

  parameters: int
  multiply_adds: int
  depth: int


class _Origin(NamedTuple):
  """Origin of an array of the program.

  Attributes:
    depth: number of layers between the image and the array; -1 if it does not depend on
      the image.
    has_parameters: whether it depends on parameters.
  """

  depth: int = -1
  has_parameters: bool = False

  def merge(self, other: "_Origin") -> "_Origin":
    return _Origin(
      max(self.depth, other.depth), self.has_parameters or other.has_parameters
    )


def count(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
  """Counts the cost of a network for one image, in evaluation.

  Nothing is computed: the counts follow from the traced program's shapes.

  Args:
    model: a network with the interface of `build_model`.
    image_shape: `(height, width, channels)`.

  Returns:
    The counts.

  Raises:
    ValueError: if the program contains a loop, whose cost is not known from shapes.
  """
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  variables = jax.eval_shape(
    lambda images: model.init(jax.random.key(0), images, train=False), images
  )
  program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False)[0])(
    variables, images
  ).jaxpr
  inputs = [_Origin(has_parameters=True)] * (len(program.invars) - 1) + [_Origin(0)]
  (logits,), multiply_adds = _walk(program, inputs)
  parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
  return Cost(parameters, multiply_adds, logits.depth)


def _walk(program, inputs):
  """The origin of each of a program's outputs, and its multiply-adds."""
  origins = dict(zip(program.invars, inputs, strict=True))
  total = 0
  default_forms = {}  # Index of the default among platform-dependent forms.

  def origin(variable):
    # A literal cannot be a key: it has a value and no name.
    is_literal = hasattr(variable, "val")
    return _Origin() if is_literal else origins.get(variable, _Origin())

  for equation in program.eqns:
    name = equation.primitive.name
    if name == "platform_index":
      platforms = equation.params["platforms"]
      default_forms[equation.outvars[0]] = platforms.index(None)

    operands = [origin(variable) for variable in equation.invars]
    if name == "cond" and equation.invars[0] in default_forms:
      # Single convolutions, which gives the commonly reported count.
      form = default_forms[equation.invars[0]]
      parts = [equation.params["branches"][form].jaxpr]
    else:
      parts = list(_parts(equation))

    if parts:
      if name == "cond":
        operands = operands[1:]
      walked = [_walk(part, operands) for part in parts]
      total += max(multiply_adds for _, multiply_adds in walked)
      results = [_merge(each) for each in zip(*(o for o, _ in walked), strict=True)]
    else:
      result = _merge(operands)
      if name in _LAYERS and result.depth >= 0:
        total += _multiply_adds(equation)
        kernel = min(operands)  # The operand that does not depend on the image, if any.
        if kernel.depth < 0 and kernel.has_parameters:
          result = result._replace(depth=result.depth + 1)
      results = [result] * len(equation.outvars)

    origins.update(zip(equation.outvars, results, strict=True))

  return [origin(variable) for variable in program.outvars], total


def _parts(equation):
  """Programs inside an equation: the called function, or a conditional's branches."""
  name = equation.primitive.name
  for value in equation.params.values():
    for part in value if isinstance(value, tuple | list) else [value]:
      if hasattr(part, "eqns"):
        if name in ("scan", "while"):
          raise ValueError(f"model: expected a network without loops, got a {name}")
        yield getattr(part, "jaxpr", part)


def _merge(origins):
  merged = _Origin()
  for each in origins:
    merged = merged.merge(each)
  return merged


def _multiply_adds(equation):
  left, right = (variable.aval for variable in equation.invars)
  size = equation.outvars[0].aval.size
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    return size * math.prod(left.shape[axis] for axis in contracted)
  outputs = right.shape[equation.params["dimension_numbers"].rhs_spec[0]]
  return size * right.size // outputs
