"""Comparison of an exported file's outputs with the network's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import export

_BATCH = 256

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def check_packages() -> None:
  """Checks that the packages for ONNX are installed.

  Raises:
    ModuleNotFoundError: if one is missing; the message says what to install.
  """
  try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"{error.name} is not installed: pip install -e '.[export]' in the checkout"
    ) from error


def read_answer(content: bytes, format: str) -> Answer:
  """Loads a file's content as a function.

  Args:
    content: of `export.export_network`.
    format: its format.

  Returns:
    A function of images, uint8 `(N, height, width, channels)`, to logits and
    probabilities `(N, K)`.

  Raises:
    ModuleNotFoundError: if a package of the extra `export` is missing.
  """
  if format == "stablehlo":
    # Jitted, so that batches of one size share a program.
    run: Any = jax.jit(export.deserialize(bytearray(content)).call)
  else:
    check_packages()
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    run = lambda images: session.run(None, {"images": images})  # noqa: E731

  def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, probabilities = run(images)
    return np.asarray(logits), np.asarray(probabilities)

  return answer


def compare(
  expected: Answer, answer: Answer, images: np.ndarray, labels: np.ndarray | None
) -> dict[str, Any]:
  """Compares two functions' outputs on the same images.

  Args:
    expected: the network's.
    answer: the file's.
    images: uint8 `(M, height, width, channels)`.
    labels: `(M,)`, or None.

  Returns:
    "num_images", "max_abs_difference" of a logit and of a probability,
    "changed_predictions", and with labels both accuracies.

  Raises:
    ValueError: for outputs that are not finite.
  """
  both = []
  for function in (expected, answer):
    parts = [
      function(images[start : start + _BATCH])
      for start in range(0, len(images), _BATCH)
    ]
    both.append([np.concatenate(part) for part in zip(*parts, strict=True)])

  (logits, probabilities), (others, other_probabilities) = both
  for whose, arrays in zip(("the network's", "the file's"), both, strict=True):
    if not all(np.isfinite(array).all() for array in arrays):
      raise ValueError(
        f"some of {whose} outputs on {len(images)} images are not finite"
      )

  predicted, other = logits.argmax(-1), others.argmax(-1)
  found = {
    "num_images": len(images),
    "max_abs_difference": {
      "logit": float(np.abs(logits - others).max()),
      "probability": float(np.abs(probabilities - other_probabilities).max()),
    },
    "changed_predictions": int((predicted != other).sum()),
  }
  if labels is not None:
    found["accuracy"] = float((predicted == labels).mean())
    found["accuracy_of_file"] = float((other == labels).mean())

  return found


def describe(found: Mapping[str, Any]) -> str:
  """Formats what `compare` returns as one line."""
  largest = found["max_abs_difference"]
  parts = [
    f"{found['num_images']:,} images",
    f"differences up to {largest['logit']:.1e} of a logit and "
    f"{largest['probability']:.1e} of a probability",
    f"{found['changed_predictions']:,} predictions changed",
  ]
  if "accuracy" in found:
    parts.append(
      f"accuracy {100 * found['accuracy']:.2f} %, "
      f"of the file {100 * found['accuracy_of_file']:.2f} %"
    )
  return "; ".join(parts)
