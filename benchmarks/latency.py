"""One image at a time: the exported network in onnxruntime, JAX, and PyTorch.

  python -m benchmarks.latency --source=BUNDLE_OR_WORKDIR

The same weights in all of them, in turns, from uint8 pixels to logits. PyTorch, which
is optional, takes EmoSynthNet and FerVGG alone.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import measure
from emosynth_jax import bundle, command_line, export, predict, results
from emosynth_jax.exporting import answers
from emosynth_jax.exporting import network as networks

_FORMATS = ("onnx", "onnx_int8")


def build_candidates(
  source: str, *, threads: int, images: np.ndarray | None
) -> tuple[dict[str, Callable[[np.ndarray], Any]], tuple[int, int, int]]:
  """The network as functions of a uint8 image `(1, H, W, C)`.

  Args:
    source: a bundle or a run's folder.
    threads: of onnxruntime and PyTorch; JAX takes what it finds.
    images: to calibrate 8 bits on; None for noise, of which the time doesn't depend.

  Returns:
    The functions by name, and the shape of an image.

  Raises:
    FileNotFoundError, ValueError: if there is no network, or a damaged one.
    ModuleNotFoundError: if a package of the extra `export` is missing.
  """
  answers.check_packages()
  import onnxruntime

  network = bundle.read_network(source)
  shape = network.image_shape
  if images is None:
    noise = np.random.default_rng(0).integers(0, 256, (64, *shape))
    images = noise.astype(np.uint8)
  candidates: dict[str, Callable[[np.ndarray], Any]] = {}
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  for format in _FORMATS:
    content = export.export_network(network, format, calibration_images=images)
    session = onnxruntime.InferenceSession(content, options)
    candidates[f"onnxruntime, {format}"] = functools.partial(_run_session, session)
  function = jax.jit(networks.build_function(network))
  candidates["JAX, jit"] = lambda x: np.asarray(function(x)[0])
  try:
    candidates["PyTorch"] = _torch(network, threads)
  except ModuleNotFoundError:
    print("PyTorch is not installed: left out")
  except ValueError as error:
    print(f"PyTorch left out: {error}")
  return candidates, shape


def _run_session(session: Any, image: np.ndarray) -> Any:
  return session.run(["logits"], {"images": image})


def _torch(network, threads):
  import torch

  build = {"emosynthnet": _emosynthnet, "fer_vgg": _fer_vgg}.get(
    network.config.model.name
  )
  if build is None:
    raise ValueError(f"there is no {network.config.model.name} of ours in it")
  torch.set_num_threads(threads)
  model = build(network).eval()

  @torch.inference_mode()
  def run(image):
    inputs = torch.from_numpy(image).permute(0, 3, 1, 2).float() * network.input_scale
    return model(inputs).numpy()

  return run


def _fer_vgg(network):
  from benchmarks import fer_vgg_torch

  return fer_vgg_torch.FerVGG(network.variables)


def _emosynthnet(network):
  from benchmarks import emosynthnet_torch

  arguments = dict(network.config.model)
  height, _, channels = network.image_shape
  model = emosynthnet_torch.EmoSynthNet(
    height,
    channels,
    len(network.class_names),
    width=arguments["width"],
    dense_features=tuple(arguments["dense_features"]),
  )
  state = emosynthnet_torch.from_flax(network.variables, height)
  missing, unknown = model.load_state_dict(state, strict=False)
  # PyTorch also counts batches, for which Flax has nothing.
  if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
    raise ValueError(f"other layers: {missing}, {unknown}")
  return model


def main(argv: list[str]) -> None:
  """Prints the table; a mistake in its input ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  given = flags.FLAGS
  with command_line.mistakes_in_one_line(given.traceback, NotImplementedError):
    source = given.source or str(predict.PRETRAINED)
    measure_all(source, threads=given.threads, rounds=given.rounds)


def measure_all(source: str, *, threads: int, rounds: int) -> None:
  """Prints the table.

  Args:
    source: a bundle or a run's folder.
    threads: of onnxruntime and PyTorch.
    rounds: timed calls of each.

  Raises:
    FileNotFoundError, ValueError, ModuleNotFoundError: as `build_candidates`.
  """
  candidates, shape = build_candidates(source, threads=threads, images=None)
  image = np.random.default_rng(1).integers(0, 256, (1, *shape)).astype(np.uint8)
  first, outputs = {}, {}
  for name, run in candidates.items():
    began = time.perf_counter()
    outputs[name] = np.reshape(np.asarray(run(image)), -1)
    first[name] = time.perf_counter() - began
    for _ in range(20):
      run(image)
  seconds = measure.alternate(
    {name: functools.partial(run, image) for name, run in candidates.items()},
    rounds,
  )
  reference = seconds["onnxruntime, onnx"]
  print(f"{results.provenance()['hardware']}; {threads} threads")
  print(f"one image {shape}, {rounds} rounds in turns; logits against JAX's")
  rows = []
  for name, taken in seconds.items():
    cuts = statistics.quantiles(taken, n=10)
    difference = np.abs(outputs[name] - outputs["JAX, jit"]).max()
    rows.append(
      [
        name,
        f"{1e3 * statistics.median(taken):.2f}",
        f"{1e3 * min(taken):.2f}",
        f"{1e3 * cuts[8]:.2f}",
        f"{measure.ratio(reference, taken):.2f}",
        f"{1e3 * first[name]:.0f}",
        f"{difference:.1e}",
      ]
    )
  header = ["", "median ms", "least", "90 %", "ratio", "first call", "difference"]
  print(measure.format_rows(header, rows))


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string(
    "source", None, "A bundle or a run's folder; by default the package's network."
  )
  flags.DEFINE_integer("rounds", 300, "Timed calls of each.", 10)
  flags.DEFINE_integer("threads", 2, "Of onnxruntime and PyTorch.", 1)
  command_line.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)


if __name__ == "__main__":
  run()
