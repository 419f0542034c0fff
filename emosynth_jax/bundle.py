"""A trained network in one small file, with all that a prediction needs.

  python -m emosynth_jax.bundle --workdir=RUN --output=FILE.safetensors

The file holds the arrays (parameters in float16 unless --dtype=float32) and, in its
header, the config, the class names, an image's shape, the temperature that calibrates
the probabilities, and where all of it comes from. The temperature is fitted on the
run's validation split, and on it the command says what the rounding costs.
"""

import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from emosynth_jax import command_line

FORMAT = "emosynth_jax.bundle/1"
DTYPES = ("float16", "float32")
# Images at a time where a whole split is evaluated.
SPLIT_BATCH = 256


class Bundle(NamedTuple):
  """A network as predictions take it.

  Attributes:
    config: the run's config.
    class_names: K names, in label order.
    image_shape: `(height, width, channels)` of what the network takes.
    variables: "params" and "batch_stats", float32.
    input_scale: factor from pixels to the network's input.
    temperature: probabilities are softmax(logits / temperature).
    facts: what JSON can hold of where this comes from: "calibration" (as in a
      workdir's calibration.json), "trained_by", and "rounding" in a file of float16.
  """

  config: Any
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  variables: dict[str, Any]
  input_scale: float
  temperature: float
  facts: dict[str, Any]


def from_record(
  config: Any, variables: dict[str, Any], record: dict[str, Any]
) -> Bundle:
  """A network whose other fields stand in a record, as in a file's header.

  Raises:
    KeyError, TypeError, ValueError: if one is missing, or none that can be.
  """
  height, width, channels = record["image_shape"]
  return Bundle(
    config=config,
    class_names=tuple(record["class_names"]),
    image_shape=(int(height), int(width), int(channels)),
    variables=variables,
    input_scale=float(record["input_scale"]),
    temperature=float(record["temperature"]),
    facts=record.get("facts", {}),
  )


def compile_logits(
  bundle: Bundle, *, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
  """A network's evaluation logits, by one compiled program for any number of images.

  They are `evaluate_step.image_logits`, by which a run is judged. Images go through in
  batches of one size, the last one filled up with zeros.

  Args:
    bundle: the network.
    batch_size: images at a time.

  Returns:
    Images, uint8 `(M, height, width, channels)`, to logits, float32 `(M, K)`.
  """
  import jax
  import jax.numpy as jnp

  from emosynth_jax import evaluate_step
  from emosynth_jax import experiment as experiments

  experiment = experiments.build_experiment(
    bundle.config,
    image_shape=bundle.image_shape,
    num_classes=len(bundle.class_names),
  )
  program = jax.jit(
    functools.partial(
      evaluate_step.image_logits,
      model=experiment.model,
      evaluation_logits=experiment.evaluation_logits,
    )
  )
  variables = jax.tree.map(jnp.asarray, bundle.variables)
  input_scale = jnp.float32(bundle.input_scale)

  def compute_logits(images: np.ndarray) -> np.ndarray:
    parts = [np.zeros((0, len(bundle.class_names)), np.float32)]
    for start in range(0, len(images), batch_size):
      part = images[start : start + batch_size]
      batch = np.zeros((batch_size, *bundle.image_shape), np.uint8)
      batch[: len(part)] = part
      parts.append(np.asarray(program(variables, input_scale, batch))[: len(part)])
    return np.concatenate(parts)

  return compute_logits


def write_bundle(path: str | os.PathLike, bundle: Bundle, *, dtype: str) -> None:
  """Writes a network to a .safetensors file, in one move.

  Args:
    path: the file; its folder is made if missing.
    bundle: the network.
    dtype: of `DTYPES`, that of the parameters; running statistics stay float32.

  Raises:
    ValueError: for another dtype, or a parameter that float16 can't hold.
  """
  import flax.traverse_util
  import safetensors.numpy

  from emosynth_jax import results

  if dtype not in DTYPES:
    raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}; got {dtype!r}")
  arrays = flax.traverse_util.flatten_dict(bundle.variables, sep="/")
  tensors = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
  for name, tensor in tensors.items():
    if name.startswith("params/"):
      with np.errstate(over="ignore"):
        tensors[name] = tensor.astype(dtype)
      if not np.isfinite(tensors[name]).all():
        raise ValueError(f"{name}: float16 can't hold its numbers; use float32")
  config = bundle.config.copy_and_resolve_references()
  # A folder of the machine that trained says nothing to others.
  config.data.data_dir = "data"
  header = {
    "config": config.to_dict(),
    "class_names": bundle.class_names,
    "image_shape": bundle.image_shape,
    "input_scale": bundle.input_scale,
    "temperature": bundle.temperature,
    "facts": bundle.facts,
  }
  text = json.dumps(results.to_jsonable(header), sort_keys=True)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = safetensors.numpy.save(tensors, {"format": FORMAT, "header": text})
  results.write_atomically(path, content)


def read_bundle(path: str | os.PathLike) -> Bundle:
  """Reads a file of `write_bundle`.

  Args:
    path: the file.

  Returns:
    The network, its arrays in float32.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or no bundle, or of a later format.
  """
  import flax.traverse_util
  import safetensors
  import safetensors.numpy

  from emosynth_jax.analysis import trained_run

  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"no bundle at {path}")
  try:
    with safetensors.safe_open(path, "np") as file:
      metadata = file.metadata() or {}
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(f"{path}: this is no bundle, or damaged ({error})") from error
  if metadata.get("format") != FORMAT:
    raise ValueError(
      f"{path}: expected the format {FORMAT!r}, got {metadata.get('format')!r}; "
      "python -m emosynth_jax.bundle writes it"
    )
  try:
    header = json.loads(metadata["header"])
    config = trained_run.parse_config(header["config"])
    variables = flax.traverse_util.unflatten_dict(
      {name: array.astype(np.float32) for name, array in tensors.items()}, sep="/"
    )
    return from_record(config, {"batch_stats": {}} | variables, header)
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path}: of another version, or damaged ({error})") from error


def read_network(source: str | os.PathLike, *, data_dir: str | None = None) -> Bundle:
  """A network from a bundle file or a run's workdir, whichever `source` is."""
  from emosynth_jax import calibrated_run

  if pathlib.Path(source).is_dir():
    return calibrated_run.read_workdir(source, data_dir=data_dir)
  if pathlib.Path(source).suffix == ".safetensors":
    return read_bundle(source)
  raise FileNotFoundError(
    "expected the folder of a trained run or a .safetensors bundle, got "
    f"{str(source)!r}"
  )


def measure_rounding(bundle: Bundle, rounded: Bundle, dataset: Any) -> dict[str, Any]:
  """What a network's rounding does to its answers on a data set.

  Args:
    bundle: the network.
    rounded: the same from a file of float16.
    dataset: a `Dataset` that is not the test split.

  Returns:
    The split, both accuracies, how many predictions change, and the largest change of a
    calibrated probability.
  """
  from scipy import special

  logits, others = (
    compile_logits(each, batch_size=SPLIT_BATCH)(dataset.images)
    for each in (bundle, rounded)
  )
  changes = special.softmax(logits / bundle.temperature, -1) - special.softmax(
    others / bundle.temperature, -1
  )
  return {
    "split": dataset.official_split or dataset.split,
    "num_examples": len(dataset),
    "accuracy_float32": float((logits.argmax(-1) == dataset.labels).mean()),
    "accuracy_float16": float((others.argmax(-1) == dataset.labels).mean()),
    "changed_predictions": int((logits.argmax(-1) != others.argmax(-1)).sum()),
    "max_abs_change_of_a_probability": float(np.abs(changes).max()),
  }


def make(workdir: str, output: str, *, dtype: str, data_dir: str | None) -> None:
  """Writes a run's bundle and says what it is worth."""
  from emosynth_jax import calibrated_run
  from emosynth_jax import experiment as experiments

  if pathlib.Path(output).suffix != ".safetensors":
    raise ValueError(f"--output: expected a name that ends in .safetensors: {output!r}")
  bundle = calibrated_run.read_workdir(workdir, data_dir=data_dir)
  write_bundle(output, bundle, dtype=dtype)
  if dtype == "float16":
    if data_dir is not None:
      bundle.config.data.data_dir = data_dir
    dataset = experiments.load_data(bundle.config, ("validation",))["validation"]
    rounding = measure_rounding(bundle, read_bundle(output), dataset)
    bundle.facts["rounding"] = rounding
    write_bundle(output, bundle, dtype=dtype)
    print("float16 on the validation split:", json.dumps(rounding, indent=2))
  size = pathlib.Path(output).stat().st_size
  print(f"{output}: {size / 2**20:.2f} MiB, temperature {bundle.temperature:.3f}")


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  command_line.use_compilation_cache()
  given = flags.FLAGS
  with command_line.mistakes_in_one_line(given.traceback):
    make(given.workdir, given.output, dtype=given.dtype, data_dir=given.data_dir)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
  flags.DEFINE_string("output", None, "File, NAME.safetensors.", required=True)
  flags.DEFINE_enum("dtype", "float16", list(DTYPES), "Type of the parameters.")
  command_line.define_data_dir()
  command_line.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)


if __name__ == "__main__":
  run()
