"""Batch invariance: a network's output for an image must not depend on others."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# Tolerance of logit differences, relative to the largest logit: the order of summation
# depends on the batch size.
RELATIVE_TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
# Small enough for the images to make several batches.
_MAX_BATCH = 64


class BatchDependenceError(ValueError):
  """The evaluation of an image depends on its batch."""


def check_batch_invariance(
  compute_logits: Callable[[np.ndarray], Any],
  images: np.ndarray,
  labels: np.ndarray,
  *,
  batch_size: int,
  dtype: str = "float32",
  max_images: int = 512,
  max_single: int = 64,
) -> dict[str, Any]:
  """Compares the logits of images in several orders, and one image at a time.

  The images are taken evenly from the split, and evaluated in the split's order,
  shuffled, sorted by class, and some of them alone. From four images on there are at
  least four batches, as a single one would hold the same images in every order.

  Args:
    compute_logits: images `(B, H, W, C)` to logits `(B, K)`.
    images: of a split, `(N, H, W, C)`, N at least 1; as `compute_logits` takes them.
      Only those used are read.
    labels: int `(N,)`.
    batch_size: maximum batch size; at most 64 is used.
    dtype: dtype of the network's layers, a key of `RELATIVE_TOLERANCES`.
    max_images: number of images to use.
    max_single: number of them to evaluate one at a time.

  Returns:
    A dictionary: ``passed``, ``num_images``, ``batch_size``,
    ``num_images_one_at_a_time``, ``max_abs_difference_of_logits`` (by order:
    ``shuffled``, ``sorted_by_class``, ``one_at_a_time``), ``max_abs_logit``,
    ``tolerance`` (of the differences) and ``changed_predictions`` (how many images
    another order gives another class).
  """
  batch_size = max(1, min(batch_size, _MAX_BATCH, len(images) // 4))
  num_images = min(len(images), max_images) // batch_size * batch_size
  # Evenly spaced, as files are often sorted by class.
  rows = np.arange(num_images) * len(images) // num_images
  images, labels = np.asarray(images[rows]), np.asarray(labels)[rows]

  def in_order(order: np.ndarray, size: int) -> np.ndarray:
    parts = [
      np.asarray(compute_logits(images[order[start : start + size]]), np.float64)
      for start in range(0, len(order), size)
    ]
    return np.concatenate(parts)

  num_single = min(num_images, max_single)
  orders = {
    "shuffled": np.random.Generator(np.random.PCG64(0)).permutation(num_images),
    "sorted_by_class": np.argsort(labels, kind="stable"),
    "one_at_a_time": np.arange(num_single) * num_images // num_single,
  }

  # A GPU's reduced-precision products have rounding errors of 1e-3, and the kernel may
  # depend on the shape.
  with jax.default_matmul_precision("highest"):
    expected = in_order(np.arange(num_images), batch_size)
    others = {
      name: in_order(order, 1 if name == "one_at_a_time" else batch_size)
      for name, order in orders.items()
    }

  differences = {
    name: float(np.abs(others[name] - expected[order]).max())
    for name, order in orders.items()
  }
  changed = {
    int(i)
    for name, order in orders.items()
    for i in order[others[name].argmax(axis=1) != expected[order].argmax(axis=1)]
  }
  max_abs_logit = float(np.abs(expected).max())
  tolerance = RELATIVE_TOLERANCES[dtype] * max_abs_logit
  return {
    # A NaN does not count as agreement.
    "passed": all(difference <= tolerance for difference in differences.values()),
    "num_images": num_images,
    "batch_size": batch_size,
    "num_images_one_at_a_time": num_single,
    "max_abs_difference_of_logits": differences,
    "max_abs_logit": max_abs_logit,
    "tolerance": tolerance,
    "changed_predictions": len(changed),
  }


def describe(result: dict[str, Any]) -> str:
  """Formats the result of `check_batch_invariance` in one line, for reports."""
  differences = result["max_abs_difference_of_logits"]
  found = ", ".join(
    f"{difference:.1e} {name.replace('_', ' ')}"
    for name, difference in differences.items()
  )
  return (
    f"{'holds' if result['passed'] else 'FAILS'}: logits of {result['num_images']} "
    f"images differ by {found}; tolerance {result['tolerance']:.1e}"
  )


def require(result: dict[str, Any], where: str) -> None:
  """Raises an error if the check has not passed.

  Args:
    result: of `check_batch_invariance`.
    where: what is affected, for the message.

  Raises:
    BatchDependenceError: if it has not passed.
  """
  if result["passed"]:
    return
  raise BatchDependenceError(
    "an image's logits depend on the other images of its batch, so the metrics in "
    f"{where} are invalid. Batch invariance {describe(result)}; "
    f"{result['changed_predictions']} predictions change. Usual causes are a "
    "BatchNorm that uses its batch's statistics (use_running_average must be True "
    "where train is False), active dropout, or an operation over the batch axis"
  )
