"""The stride-1 SAME convolution, in the fastest form for its shape on a CPU."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from emosynth_jax.models.ops import winograd

Array = jax.Array

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class _Form(NamedTuple):
  """A Winograd form: its tile, and the number of pixels processed at a time."""

  tile: int
  pixels: int


def _value_form(inputs_shape, kernel_shape) -> _Form | None:
  """The form of the value on a CPU; None for XLA's convolution.

  Measured on two cores, batch 64, in GFLOP/s of the plain form's operation count: 3x3
  with 192 channels at side 16, 530 against XLA's 230; 256 at 8, 650 against 190 to 350;
  64 at 32, 270 against 220. XLA is faster for few channels (the cost of a channel's
  transform does not depend on their number) and for 5x5 (330 against 290).
  """
  size, _, channels, features = kernel_shape
  n, height, width, _ = inputs_shape
  enough = n * height * width >= 1024 and min(height, width) >= 2
  if size == 3 and min(channels, features) >= 48 and enough:
    return _Form(2, 4096)
  return None


def _kernel_gradient_form(inputs_shape, features, size) -> _Form | None:
  """The form of the kernel's gradient on a CPU; None for XLA's convolution.

  Measured as above: 3x3 with 192 channels at side 16, 480 against 150 (400 with tile
  2); 256 at 8, 460 against 230; 64 at 32, 200 against 80; 5x5 with 96 at 16, 290
  against 200.
  """
  n, height, width, channels = inputs_shape
  if min(channels, features) < 48 or n * height * width < 1024 or size not in (3, 5):
    return None
  fits = size == 3 and min(height, width) >= 8 and height % 4 == width % 4 == 0
  return _Form(4 if fits else 2, 2048)


@jax.custom_vjp
def conv2d(inputs: Array, kernel: Array) -> Array:
  """Stride-1 SAME convolution, whose gradient is fast inside loops on a CPU too.

  On a CPU the form follows the shape: `winograd` for many channels, XLA's convolution
  otherwise. XLA's CPU compiler rewrites a convolution to the form of its fast code only
  outside of loops. The forward pass has that form already, the kernel's gradient as
  derived by JAX does not: in a `lax.scan` it ran 25 to 90 times slower (both gradients,
  batch 64, two cores; 5x5 with 12 channels at side 24, 3x3 with 32 channels at side
  12). Therefore the gradient's form is chosen here on CPUs; elsewhere it is JAX's.

  Since the gradient rule is for reverse mode, second derivatives are taken by reverse
  over reverse, and are convolutions of these forms as well: the Hessian's product of
  two layers in a loop took 1/14 of the CPU time of JAX's rule (batch 16, 3x3, 4 -> 16
  -> 16 channels at side 24; less than half outside of loops).

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H, W, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
    raise ValueError(f"kernel: expected an odd square, got {kernel.shape[:2]}")
  form = _value_form(inputs.shape, kernel.shape)
  if form is None or not _is_exact(inputs):
    return plain(inputs, kernel)
  fast = functools.partial(winograd.convolve, **form._asdict())
  return lax.platform_dependent(inputs, kernel, cpu=fast, default=plain)


def _conv2d_forward(inputs, kernel):
  return conv2d(inputs, kernel), (inputs, kernel)


def _conv2d_backward(residuals, cotangent):
  return lax.platform_dependent(
    *residuals, cotangent, cpu=_gradients_on_cpu, default=_gradients_by_jax
  )


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def plain(inputs: Array, kernel: Array) -> Array:
  """`conv2d` as XLA computes it."""
  return lax.conv_general_dilated(
    inputs, kernel, (1, 1), "SAME", dimension_numbers=_DIMENSIONS
  )


def _is_exact(array):
  """Returns whether the dtype has sufficient precision for a transform."""
  return array.dtype in (jnp.float32, jnp.float64)


def _gradients_by_jax(inputs, kernel, cotangent):
  return jax.vjp(plain, inputs, kernel)[1](cotangent)


def _gradients_on_cpu(inputs, kernel, cotangent):
  """Both gradients in forms that XLA's CPU compiler does not need to rewrite."""
  return _adjoint(cotangent, kernel), _kernel_gradient(
    kernel.shape[0], inputs, cotangent
  )


@jax.custom_vjp
def _adjoint(cotangent, kernel):
  """Input gradient on a CPU: the convolution with the mirrored kernel."""
  swapped = (*kernel.shape[:2], *kernel.shape[:1:-1])
  form = _value_form(cotangent.shape, swapped)
  if form is not None and _is_exact(cotangent):
    return winograd.convolve(cotangent, kernel, adjoint=True, **form._asdict())
  return plain(cotangent, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _adjoint_forward(cotangent, kernel):
  return _adjoint(cotangent, kernel), (cotangent, kernel)


def _adjoint_backward(residuals, inputs):
  """For second derivatives: <A(c, k), x> = <c, conv2d(x, k)> is linear in each."""
  cotangent, kernel = residuals
  return conv2d(inputs, kernel), _kernel_gradient(kernel.shape[0], inputs, cotangent)


_adjoint.defvjp(_adjoint_forward, _adjoint_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(size, inputs, cotangent):
  """The kernel's gradient on a CPU: the inputs correlated with the cotangent.

  Without a form of `winograd`, over the examples and pixels: the channels take the role
  of the batch, and the batch that of the channels.
  """
  form = _kernel_gradient_form(inputs.shape, cotangent.shape[3], size)
  if form is not None and _is_exact(inputs):
    return winograd.kernel_gradient(inputs, cotangent, size=size, **form._asdict())
  return plain_kernel_gradient(size, inputs, cotangent)


def plain_kernel_gradient(size: int, inputs: Array, cotangent: Array) -> Array:
  """Gradient of `conv2d` with respect to its kernel, in XLA's fast form on a CPU.

  Args:
    size: k.
    inputs: `(N, H, W, C)`.
    cotangent: `(N, H, W, F)`, of the outputs.

  Returns:
    `(k, k, C, F)`.
  """
  margin = size // 2
  gradient = lax.conv_general_dilated(
    inputs.transpose(3, 1, 2, 0),
    cotangent.transpose(1, 2, 0, 3),
    (1, 1),
    [(margin, margin)] * 2,
    dimension_numbers=_DIMENSIONS,
  )
  return gradient.transpose(1, 2, 0, 3)


def _kernel_gradient_forward(size, inputs, cotangent):
  return _kernel_gradient(size, inputs, cotangent), (inputs, cotangent)


def _kernel_gradient_backward(size, residuals, kernel):
  """For second derivatives: <K(x, c), k> = <conv2d(x, k), c> is linear in each."""
  del size
  inputs, cotangent = residuals
  return _adjoint(cotangent, kernel), conv2d(inputs, kernel)


_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)
