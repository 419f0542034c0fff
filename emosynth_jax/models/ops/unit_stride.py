"""Stride-1 convolutions, SAME and transposed, each in its fastest form on a CPU."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from emosynth_jax.models.ops import winograd

Array = jax.Array

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def fast_on_cpu(
  fast: Callable[..., Array],
  plain: Callable[..., Array],
  fast_gradients: Callable[..., tuple[Array, ...]] | None = None,
) -> Callable[..., Array]:
  """A function that is `fast` on CPUs and `plain` elsewhere, each with its gradient.

  The choice is made when a program is lowered for its platform, so that a program for a
  GPU holds the plain form alone. The gradient rule is for reverse mode; second
  derivatives are taken by reverse over reverse.

  Args:
    fast: of arrays, computing the same as `plain`.
    plain: the form that XLA compiles well for a GPU or TPU.
    fast_gradients: of the arrays and the cotangent, the gradients of `fast`; None for
      those that JAX derives.

  Returns:
    The function of the same arrays.
  """

  @jax.custom_vjp
  def function(*arrays):
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)

  # Without a gradient rule, the choice would keep the residuals of both forms.
  def forward(*arrays):
    return function(*arrays), arrays

  def backward(arrays, cotangent):
    def gradients(form):
      return lambda *operands: jax.vjp(form, *operands[:-1])[1](operands[-1])

    return lax.platform_dependent(
      *arrays,
      cotangent,
      cpu=fast_gradients or gradients(fast),
      default=gradients(plain),
    )

  function.defvjp(forward, backward)
  return function


def check_kernel(kernel: Array) -> None:
  """Checks that a kernel is square with an odd side."""
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
    raise ValueError(f"kernel: expected an odd square, got {kernel.shape[:2]}")


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
  if size != 3 or min(inputs_shape[1:3]) < 2:
    return None
  return _Form(2, 4096) if _pays(inputs_shape, min(channels, features), 3) else None


def _has_few_channels(inputs_shape, kernel_shape) -> bool:
  """Returns whether `few_channels` is faster on a CPU than XLA's convolution.

  Measured with 3x3 kernels on two cores: a training step of FerVGG at an eighth of its
  width, which has 8 and 16 channels at sides of 48 and 24, in 0.78 of the time; at a
  quarter, with 16 at both ends, no gain (docs/notes/forms_tried.md). A batch that is
  no multiple of 8 may have no small parts, and would take much memory as one.
  """
  size, _, channels, features = kernel_shape
  n, height, width, _ = inputs_shape
  if size != 3 or min(height, width) < 24 or n * height * width < 16384 or n % 8:
    return False
  if channels <= 3:
    return features <= 8
  return min(channels, features) >= 8 and channels + features <= 24


def _kernel_gradient_form(inputs_shape, features, size) -> _Form | None:
  """The form of the kernel's gradient on a CPU; None for XLA's convolution.

  Measured as above: 3x3 with 192 channels at side 16, 480 against 150 (400 with tile
  2); 256 at 8, 460 against 230; 64 at 32, 200 against 80; 5x5 with 96 at 16, 290
  against 200.
  """
  _, height, width, channels = inputs_shape
  if size not in (3, 5) or not _pays(inputs_shape, min(channels, features), size):
    return None
  fits = size == 3 and min(height, width) >= 8 and height % 4 == width % 4 == 0
  return _Form(4 if fits else 2, 2048)


def _pays(inputs_shape, channels, size) -> bool:
  """Returns whether channels and pixels suffice for a Winograd form.

  With 32 to 47 channels, 3x3 and sides up to 48 only, where it was measured, and on
  many pixels, since it takes longer to compile (docs/notes/forms_tried.md).
  """
  n, height, width, _ = inputs_shape
  if channels >= 48:
    return n * height * width >= 1024
  small = max(height, width) <= 48 and n * height * width >= 16384
  return channels >= 32 and size == 3 and small


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

  Under `jax.default_matmul_precision("bfloat16")` Winograd's products for the value and
  the inputs' gradient are of factors rounded to bfloat16, which some CPUs multiply
  faster; all sums, and the kernel's gradient, stay in float32.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H, W, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  check_kernel(kernel)
  fast = _fast_form(inputs, kernel.shape)
  if fast is None:
    return plain(inputs, kernel)
  return lax.platform_dependent(inputs, kernel, cpu=fast, default=plain)


def _fast_form(inputs, kernel_shape) -> Callable[[Array, Array], Array] | None:
  """The form of the value on a CPU; None for XLA's convolution."""
  if not _is_exact(inputs):
    return None
  if _has_few_channels(inputs.shape, kernel_shape):
    return few_channels
  form = _value_form(inputs.shape, kernel_shape)
  if form is None:
    return None
  products = _product_type(inputs)
  return functools.partial(winograd.convolve, products=products, **form._asdict())


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
    inputs, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS
  )


def _product_type(array):
  """The type to which factors of Winograd's products are rounded (see `conv2d`)."""
  rounds = jax.config.jax_default_matmul_precision == "bfloat16"
  return jnp.bfloat16 if rounds and array.dtype == jnp.float32 else array.dtype


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
  if _is_exact(cotangent) and _has_few_channels(cotangent.shape, swapped):
    return few_channels(cotangent, _mirrored(kernel))
  form = _value_form(cotangent.shape, swapped)
  if form is not None and _is_exact(cotangent):
    return winograd.convolve(
      cotangent,
      kernel,
      adjoint=True,
      products=_product_type(cotangent),
      **form._asdict(),
    )
  return plain(cotangent, _mirrored(kernel))


def _mirrored(kernel):
  """The kernel of the convolution that is the adjoint."""
  return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


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
    dimension_numbers=DIMENSIONS,
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


def few_channels(inputs: Array, kernel: Array) -> Array:
  """Stride-1 SAME convolution as one product of gathered pixels with the kernel.

  Of up to three channels all pixels under the kernel are gathered. Of more, those under
  one of its rows are, the product has the outputs of all k rows, and these are added
  at their positions: k times fewer copies, k times wider products.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H, W, F)`.
  """
  of_part = _by_pixels if kernel.shape[2] <= 3 else _by_rows
  return winograd.map_parts(
    lambda part: of_part(part, kernel),
    inputs,
    pixels=9216,  # Four images of 48x48 at a time.
    features=kernel.shape[3],
  )


def _by_pixels(inputs, kernel):
  size, _, channels, features = kernel.shape
  height, width = inputs.shape[1:3]
  padded = _pad(inputs, size)
  taps = [
    padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)
  ]
  return jnp.concatenate(taps, -1) @ kernel.reshape(size * size * channels, features)


def _by_rows(inputs, kernel):
  size, _, channels, features = kernel.shape
  height, width = inputs.shape[1:3]
  padded = _pad(inputs, size)
  gathered = jnp.concatenate([padded[:, :, j : j + width] for j in range(size)], -1)
  weights = kernel.transpose(1, 2, 0, 3).reshape(size * channels, size * features)
  products = gathered @ weights
  return sum(
    products[:, i : i + height, :, i * features : (i + 1) * features]
    for i in range(size)
  )


def _pad(inputs, size):
  margin = size // 2
  return jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def upsample_nearest(inputs: Array) -> Array:
  """Nearest-neighbor upsampling by 2.

  Args:
    inputs: `(N, H, W, C)`.

  Returns:
    `(N, 2 H, 2 W, C)`.
  """
  n, height, width, channels = inputs.shape
  repeated = jnp.broadcast_to(
    inputs[:, :, None, :, None, :], (n, height, 2, width, 2, channels)
  )
  return repeated.reshape(n, 2 * height, 2 * width, channels)


def conv_transpose_valid(inputs: Array, kernel: Array) -> Array:
  """Stride-1 transposed convolution without padding: the side grows by k - 1.

  Equal to `lax.conv_transpose(inputs, kernel, (1, 1), "VALID")`. That one pads by
  k - 1 within the convolution, which XLA runs on a slow path on CPU: 17 s of a 20 s
  step of the full network. On a CPU each pixel is multiplied by the whole kernel in one
  product, and the k k results are added at their positions: no padding is multiplied.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H + k - 1, W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  check_kernel(kernel)
  return _valid(inputs, kernel)


def conv_transpose_upsampled(inputs: Array, kernel: Array) -> Array:
  """Transposed convolution of the upsampled input, computed on the small input.

  Equal to `conv_transpose_valid(upsample_nearest(inputs), kernel)`. The four copies of
  a pixel have the same products with the kernel. On a CPU these are computed once, and
  each is added to the outputs of all four: 9 H W products of C with F channels for a
  3x3 kernel instead of 9 (2 H + 2) (2 W + 2), which is 1/6 at H = W = 4.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, 2 H + k - 1, 2 W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  check_kernel(kernel)
  return _upsampled(inputs, kernel)


def flat_product_upsampled(inputs: Array, kernel: Array) -> Array:
  """Dense layer on the flattened upsampled input, computed on the small input.

  Equal to `upsample_nearest(inputs).reshape(N, -1) @ kernel`. On a CPU the rows of the
  kernel that multiply copies of one value are summed first, so that the product has 1/4
  of the multiply-adds.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(4 H W C, F)` of the same type.

  Returns:
    `(N, F)`.
  """
  return _flat(inputs, kernel)


def _plain_valid(inputs, kernel):
  margin = kernel.shape[0] - 1
  return lax.conv_general_dilated(
    inputs,
    kernel,
    (1, 1),
    [(margin, margin)] * 2,
    dimension_numbers=DIMENSIONS,
  )


def _scattered_products(inputs, kernel, scale):
  """The transposed convolution of the inputs, each pixel repeated `scale` times."""
  size, _, channels, features = kernel.shape
  weights = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
  products = (inputs @ weights).reshape(*inputs.shape[:3], size, size, features)
  margin = (size - 1) // scale
  for axis in (1, 2):
    # The row taps are on axis 3 first, then the column taps.
    length = inputs.shape[axis] + margin
    padding = [(0, 0)] * products.ndim
    padding[axis] = (margin, margin)
    padded = jnp.pad(products, padding)

    # Output scale * a + phase takes tap t of the pixel a + (t - size + 1 + phase) //
    # scale of the inputs.
    phases = [
      sum(
        lax.index_in_dim(
          lax.slice_in_dim(padded, start, start + length, axis=axis),
          tap,
          axis=3,
          keepdims=False,
        )
        for tap in range(size)
        for start in [margin + (tap - size + 1 + phase) // scale]
      )
      for phase in range(scale)
    ]
    stacked = jnp.stack(phases, axis=axis + 1)
    shape = (*stacked.shape[:axis], scale * length, *stacked.shape[axis + 2 :])
    products = stacked.reshape(shape)

  return products


def _folded_product(inputs, kernel):
  n, height, width, channels = inputs.shape
  blocks = kernel.reshape(height, 2, width, 2, channels, kernel.shape[1])
  folded = blocks.sum((1, 3)).reshape(-1, kernel.shape[1])
  return inputs.reshape(n, -1) @ folded


_valid = fast_on_cpu(
  lambda inputs, kernel: _scattered_products(inputs, kernel, 1), _plain_valid
)
_upsampled = fast_on_cpu(
  lambda inputs, kernel: _scattered_products(inputs, kernel, 2),
  lambda inputs, kernel: _plain_valid(upsample_nearest(inputs), kernel),
)
_flat = fast_on_cpu(
  _folded_product,
  lambda inputs, kernel: upsample_nearest(inputs).reshape(inputs.shape[0], -1) @ kernel,
)
