"""One network as a function of an image, in onnxruntime, JAX and PyTorch."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from emosynth_jax import bundle
from emosynth_jax.export import stablehlo, verify
from emosynth_jax.models import normalized_inputs

Answer = Callable[[np.ndarray], Any]


def hold_cores(threads: int) -> None:
  """Binds this process to a number of cores, before a runtime counts them.

  Args:
    threads: cores, at most `cpu_devices.cpu_cores`.

  Raises:
    ValueError: if the system does not support it.
  """
  if not hasattr(os, "sched_setaffinity"):
    if threads == os.cpu_count():
      return
    raise ValueError(
      f"--threads: expected {os.cpu_count()}, all cores, as this system does not "
      f"support CPU affinity; got {threads}"
    )
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, cores[:threads])


def build(name: str, network: bundle.Bundle, *, threads: int) -> Answer:
  """Loads the network in one runtime.

  Args:
    name: one of `RUNTIMES`.
    network: what to run.
    threads: threads of the runtime; JAX uses the cores of its process, see
      `hold_cores`.

  Returns:
    A function of a uint8 image `(1, H, W, C)` to logits.

  Raises:
    ModuleNotFoundError: if the runtime is not installed.
    ValueError: if the network is not available in PyTorch.
  """
  return RUNTIMES[name](network, threads)


def _onnx(network, threads, *, format):
  verify.check_packages()
  import onnxruntime

  from emosynth_jax.export import export

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  # Calibrated on noise, which does not affect the time.
  noise = np.random.default_rng(0).integers(0, 256, (64, *network.image_shape))
  images = noise.astype(np.uint8)
  content = export.export_network(network, format, calibration_images=images)
  session = onnxruntime.InferenceSession(content, options)
  return lambda image: session.run(["logits"], {"images": image})


def _jax(network, threads):
  del threads
  function = jax.jit(stablehlo.build_function(network))
  return lambda image: np.asarray(function(image)[0])


def _torch(network, threads, *, channels_last):
  import cv2
  import torch

  from benchmarks import cases, torch_cases, torch_programs

  name = network.config.model.name
  if name not in cases.NETWORKS:
    raise ValueError(f"{name} has no PyTorch version")
  if network.config.input.mean:
    raise ValueError("config.input.mean: PyTorch's version has no normalization")
  torch.set_num_threads(threads)
  described = torch_cases.describe_network(network.config.model, network.variables)
  program = torch_programs.Program(name, *described)
  form = "channels_last" if channels_last else "eager"
  model = torch_programs.build(program, form).eval()

  @torch.inference_mode()
  def run(image):
    if network.config.input.equalize == "always":
      image = np.stack([cv2.equalizeHist(x[..., 0]) for x in image])[..., None]
    inputs = torch.from_numpy(image).permute(0, 3, 1, 2)
    # Permuted, it has this layout already.
    inputs = inputs if channels_last else inputs.contiguous()
    inputs = inputs.float() * network.input_scale
    if network.config.input.standardize:
      inputs = torch.nn.functional.layer_norm(
        inputs, inputs.shape[1:], eps=normalized_inputs.NOISE
      )
    return model(inputs).numpy()

  return run


RUNTIMES: dict[str, Callable[..., Answer]] = {
  "onnxruntime, onnx": functools.partial(_onnx, format="onnx"),
  "onnxruntime, onnx_int8": functools.partial(_onnx, format="onnx_int8"),
  "JAX, jit": _jax,
  "PyTorch": functools.partial(_torch, channels_last=False),
  "PyTorch, channels-last": functools.partial(_torch, channels_last=True),
}
