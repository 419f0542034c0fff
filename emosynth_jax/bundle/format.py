"""File format of a bundle: a network's arrays, and all else of `Bundle` in a header."""

import json
import os
import pathlib
from typing import Any, NamedTuple

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from emosynth_jax.bundle import checks as bundle_checks
from emosynth_jax.config.stored import parse_config
from emosynth_jax.utils import errors, files
from emosynth_jax.utils.json_files import parse_json

FORMAT = "emosynth_jax.bundle/1"
DTYPES = ("float16", "float32")


class Bundle(NamedTuple):
  """A trained network with all that prediction needs.

  Attributes:
    config: the run's config.
    class_names: K names, in label order.
    image_shape: `(height, width, channels)` of the network's input.
    variables: "params" and "batch_stats", float32.
    input_scale: factor from pixels to the network's input.
    temperature: probabilities are softmax(logits / temperature).
    facts: JSON-serializable provenance: "calibration" (as in a workdir's
      calibration.json), "trained_by", and "rounding" in a file of float16.
  """

  config: Any
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  variables: dict[str, Any]
  input_scale: float
  temperature: float
  facts: dict[str, Any]

  def __repr__(self) -> str:
    """Names the network and its sizes, without the parameters."""
    leaves = flax.traverse_util.flatten_dict(self.variables["params"]).values()
    return (
      f"Bundle({self.config.model.name}, {sum(x.size for x in leaves):,} parameters, "
      f"images of {'x'.join(map(str, self.image_shape))}, "
      f"{len(self.class_names)} classes: {', '.join(self.class_names)})"
    )


def from_record(
  config: Any, variables: dict[str, Any], record: dict[str, Any]
) -> Bundle:
  """Builds a bundle whose other fields are in a record, such as a file's header.

  Args:
    config: the run's config.
    variables: "params" and "batch_stats".
    record: "class_names", "image_shape", "input_scale" and "temperature", and "facts"
      if there are any.

  Returns:
    The network.

  Raises:
    KeyError: if a field is missing.
    TypeError: if one has the wrong type.
    ValueError: for a temperature or an input scale that is not a number above 0, or
      without classes or pixels.
  """
  class_names = tuple(record["class_names"])
  if not class_names or not all(isinstance(name, str) for name in class_names):
    raise ValueError(
      f"class_names: expected a list of names, got {record['class_names']!r}"
    )

  return Bundle(
    config=config,
    class_names=class_names,
    image_shape=bundle_checks.read_shape(record),
    variables=variables,
    input_scale=bundle_checks.read_positive(record, "input_scale"),
    temperature=bundle_checks.read_positive(record, "temperature"),
    facts=record.get("facts", {}),
  )


def round_variables(bundle: Bundle, dtype: str) -> Bundle:
  """Rounds a network as writing it in `dtype` does.

  Args:
    bundle: the network.
    dtype: of `DTYPES`.

  Returns:
    The network with its parameters rounded, converted back to float32.

  Raises:
    ValueError: as `write_bundle`.
  """
  return bundle._replace(variables=_to_variables(_to_tensors(bundle.variables, dtype)))


def write_bundle(path: str | os.PathLike, bundle: Bundle, *, dtype: str) -> None:
  """Writes a network to a .safetensors file, atomically.

  Args:
    path: the file; its folder is made if missing.
    bundle: the network.
    dtype: of `DTYPES`, that of the parameters; running statistics stay float32.

  Raises:
    ValueError: for another dtype, or a parameter that float16 can't hold.
  """

  tensors = _to_tensors(bundle.variables, dtype)
  config = bundle.config.copy_and_resolve_references()
  # Folders of the training machine are not included.
  config.data.data_dir = "data"
  header = {
    "config": config.to_dict(),
    "class_names": bundle.class_names,
    "image_shape": bundle.image_shape,
    "input_scale": bundle.input_scale,
    "temperature": bundle.temperature,
    "facts": bundle.facts,
  }
  text = json.dumps(files.to_jsonable(header), sort_keys=True)
  content = safetensors.numpy.save(tensors, {"format": FORMAT, "header": text})
  files.write_atomically(path, content)


def _to_tensors(variables: dict[str, Any], dtype: str) -> dict[str, np.ndarray]:
  """Arrays of a file, by path."""
  errors.check_choice("dtype", dtype, DTYPES)
  arrays = flax.traverse_util.flatten_dict(variables, sep="/")
  tensors = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
  for name, tensor in tensors.items():
    if name.startswith("params/"):
      with np.errstate(over="ignore"):
        tensors[name] = tensor.astype(dtype)
      if not np.isfinite(tensors[name]).all():
        raise ValueError(f"{name}: float16 overflows; use float32")
  return tensors


def _to_variables(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
  arrays = {name: array.astype(np.float32) for name, array in tensors.items()}
  return {"batch_stats": {}} | flax.traverse_util.unflatten_dict(arrays, sep="/")


def read_bundle(path: str | os.PathLike) -> Bundle:
  """Reads a file of `write_bundle`.

  Args:
    path: the file.

  Returns:
    The network, its arrays in float32.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, not a bundle, of a newer format, or its arrays do not
      match the network in its config.
  """

  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"no bundle at {path}")

  try:
    with safetensors.safe_open(path, "np") as file:
      metadata = file.metadata() or {}
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
    raise ValueError(f"{path}: not a bundle, or damaged ({error})") from error

  if metadata.get("format") != FORMAT:
    raise ValueError(
      f"{path}: expected the format {FORMAT!r}, got {metadata.get('format')!r}; "
      "write bundles with python -m emosynth_jax.bundle"
    )

  try:
    header = parse_json(metadata["header"], "the header is damaged", {"config": dict})
    config = parse_config(header["config"])
    bundle_checks.check_names(tensors)
    bundle = from_record(config, _to_variables(tensors), header)
    bundle_checks.check_arrays(bundle)
  except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise ValueError(
      f"{path}: damaged, or written by another version ({_reason(error)}); recreate "
      "it from its run with python -m emosynth_jax.bundle"
    ) from error

  return bundle


def _reason(error: Exception) -> str:
  return f"{error} is missing" if isinstance(error, KeyError) else str(error)
