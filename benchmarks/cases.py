"""Benchmark cases: a network with the project's training step and evaluation."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.config import variants
from emosynth_jax.models import cost
from emosynth_jax.parallel.mesh import build_placement, on_mesh
from emosynth_jax.training import build, eval_step
from emosynth_jax.training.train_step import StepSetup, compile_train_steps

# The image shape and number of classes of the configs that are timed. "tiny" is for a
# dry run, with another network that compiles quickly.
DATA_SETS: dict[str, tuple[tuple[int, int, int], int]] = {
  "cifar10": ((32, 32, 3), 10),
  "fer2013": ((48, 48, 1), 7),
  "tiny": ((32, 32, 1), 3),
}
WIDTHS = ("full", "small", "tiny")
# Those with a PyTorch version.
NETWORKS = ("emosynthnet", "fer_resnet", "fer_vgg")


class Case(NamedTuple):
  """A network of a config, and a batch.

  Attributes:
    data: one of `DATA_SETS`; the images are random, of its shape.
    width: one of `WIDTHS`: the config as it is, its variant `small`, or a dry run's; or
      a number, the small variant's with this factor on the channels.
    batch: images of a step.
    network: one of `NETWORKS`.
  """

  data: str
  width: str
  batch: int
  network: str = "emosynthnet"

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)`."""
    return DATA_SETS[self.data][0]

  @property
  def num_classes(self) -> int:
    """K."""
    return DATA_SETS[self.data][1]

  def __str__(self) -> str:
    sides = "x".join(map(str, self.image_shape))
    width = f"x{self.width}" if is_factor(self.width) else self.width
    name = "" if self.network == "emosynthnet" else f"{self.network} "
    return f"{sides} {name}{width}, batch {self.batch}"

  def config(self) -> Any:
    """The project's config, with PyTorch's plain Adam on cross-entropy."""
    config = self._config()
    variants.update(
      config,
      {
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "adam", "weight_decay": 0.0, "base_fan_in": 0},
        "ema_decay": 0.0,
      },
    )
    return config

  def _config(self) -> Any:
    name = "synthetic_faces" if self.data == "tiny" else self.data
    module = importlib.import_module(f"configs.{name}")
    if self.width != "tiny":
      names = [] if self.network == "emosynthnet" else [self.network]
      names += [] if self.width == "full" else ["small"]
      config = module.get_config(",".join(names) or None)
      if is_factor(self.width):
        config.model.width = float(self.width)
      return config
    config = module.get_config("fer_vgg,small")
    config.model.width, config.model.dense_features = 1 / 64, (4,)
    return config

  def images(self, count: int) -> np.ndarray:
    """Random images, uint8 `(count, height, width, channels)`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *self.image_shape), np.uint8)

  def labels(self, count: int) -> np.ndarray:
    """Random labels, int32 `(count,)`."""
    return np.random.default_rng(1).integers(0, self.num_classes, count, np.int32)


def is_factor(width: str) -> bool:
  """Returns whether a width is a factor on the channels, in (0, 1]."""
  try:
    return 0 < float(width) <= 1
  except ValueError:
    return False


def build_experiment(case: Case, dtype: str = "float32") -> build.Experiment:
  """The functions of the case's config, its network computing in a type."""
  config = case.config()
  config.model.dtype = dtype
  return build.build_experiment(
    config, image_shape=case.image_shape, num_classes=case.num_classes
  )


@functools.cache
def variables(case: Case) -> Any:
  """The network's initial variables of a run."""
  state = build.create_state(build_experiment(case), seed=0)
  return state.variables


@functools.cache
def multiply_adds(case: Case) -> int:
  """Multiply-adds of one image, forward, padding included; see `cost.Cost`."""
  return cost.count(build_experiment(case).model, case.image_shape).multiply_adds


def _devices(batch):
  """All devices, or one where they can't share the batch evenly."""
  devices = jax.devices()
  return devices[:1] if batch % len(devices) else devices


def training(
  case: Case,
  steps: int,
  *,
  augmented: bool = False,
  dtype: str = "float32",
  mixed: bool = False,
) -> Callable[[], None]:
  """Compiles the training step, as in a run of the config on all devices.

  Args:
    case: the network and the batch.
    steps: steps of a call, one scan of as many batches as there are images.
    augmented: whether the config's augmentation is on.
    dtype: type of the network's computation.
    mixed: whether products are of numbers in bfloat16, `config.matmul_precision`.

  Returns:
    A function that takes the steps and returns when they are done.
  """
  experiment = build_experiment(case, dtype)
  state = build.create_state(experiment, seed=0)
  own = {} if augmented else {"augment": lambda key, x: x.astype(jnp.float32)}
  class_weights = np.ones(case.num_classes, np.float32)
  setup = StepSetup.of(
    experiment,
    class_weights=class_weights,
    mixup=None,
    matmul_precision="bfloat16" if mixed else "default",
    **own,
  )
  placement = build_placement(devices=_devices(case.batch))
  shardings = placement.state(build.state_shapes(experiment))
  take_steps = compile_train_steps(
    setup, batch_size=case.batch, placement=placement, shardings=shardings
  )
  count = steps * case.batch
  arrays = placement.put_split(case.images(count), case.labels(count))
  state = placement.put(state, shardings)

  def take():
    nonlocal state
    state = take_steps(state, *arrays, num_steps=steps)
    jax.block_until_ready(state)

  return take


def inference(
  case: Case, calls: int, *, dtype: str = "float32"
) -> Callable[[], np.ndarray]:
  """Compiles the evaluation of images on the host, to logits there, on all devices.

  Args:
    case: the network and the batch.
    calls: number of evaluations per call.
    dtype: type of the network's computation.

  Returns:
    A function that returns the logits `(batch, K)`.
  """
  experiment = build_experiment(case, dtype)
  known, scale = variables(case), jnp.float32(case.config().input.scale)
  placement = build_placement(devices=_devices(case.batch))
  program = jax.jit(on_mesh(placement, eval_step.logits_of(experiment)))
  images, known = case.images(case.batch), placement.put(known)

  def run():
    for _ in range(calls):
      logits = np.asarray(program(known, scale, placement.put_images(images)))
    return logits

  return run
