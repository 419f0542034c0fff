"""Shapes of a network's variables and outputs, without computing any."""

import jax
import jax.numpy as jnp


def of(model, shape):
  """The variables, the logits and the inner arrays of images of a shape."""
  (logits, out), variables = jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), jnp.zeros(shape), train=False)
  )
  return variables, logits, out
