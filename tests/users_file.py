# mypy: warn-unused-ignores
"""A user's file, whose types mypy checks; nothing runs it.

An `assert_type` fails where mypy sees Any, and a `type: ignore` where it sees no error.
"""

import os
from collections.abc import Callable
from typing import Any, assert_type

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import emosynth_jax as ej


def my_loss(
  logits: jax.Array, labels: jax.Array, *, sharpness: float = 2.0
) -> jax.Array:
  loss = ej.losses.cross_entropy(sharpness * logits, labels)
  assert_type(loss, jax.Array)
  return loss


class MyNetwork(nn.Module):
  num_classes: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    x = images.mean((1, 2))
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}


def my_data(data_dir: str, split: str) -> ej.data.Dataset:
  images = np.zeros((14, 8, 8, 1), np.uint8)
  labels = np.arange(14, dtype=np.int32) % 2
  data = ej.data.Dataset(images, labels, ("a", "b"), split, ("",) * 14)
  assert_type(data.class_names, tuple[str, ...])
  return data


def losses_and_models(logits: jax.Array, labels: jax.Array) -> None:
  assert_type(ej.losses.mam_softmax, Callable[..., jax.Array])
  assert_type(ej.models.MODELS, dict[str, type[nn.Module]])
  assert_type(ej.models.build_model("resnet18", num_classes=7), nn.Module)
  assert_type(ej.models.EmoSynthNet(num_classes=7).width, float)


def training(workdir: str | os.PathLike[str]) -> None:
  run = ej.train(
    "synthetic_faces:small", workdir, loss=my_loss, model=MyNetwork, datasets=my_data
  )
  assert_type(run, ej.Run)
  assert_type(ej.load(workdir), ej.Run)
  assert_type(run.history, list[dict[str, Any]])
  assert_type(run.report, dict[str, Any] | None)
  assert_type(run.network.class_names, tuple[str, ...])
  assert isinstance(run.logits(np.zeros((1, 8, 8, 1), np.uint8)), np.ndarray)


def predicting() -> None:
  predictor = ej.Predictor("runs/mine", faces="none")
  assert_type(predictor("face.png"), list[ej.Prediction])
  assert_type(predictor(["a.png", "b.png"]), list[list[ej.Prediction]])
  assert_type(predictor.predict(["a.png"]), list[list[ej.Prediction]])
  assert_type(predictor("face.png")[0].probabilities, dict[str, float])


def mistakes(run: ej.Run, logits: jax.Array) -> None:
  ej.train("synthetic_faces:small", 3)  # type: ignore[arg-type]
  ej.train("synthetic_faces:small", "runs/mine", los=my_loss)  # type: ignore[call-arg]
  ej.losses.cross_entropy(logits)  # type: ignore[call-arg]
  print(ej.losses.cross_entrpy)  # type: ignore[attr-defined]
  ej.models.EmoSynthNet(num_classes="7")  # type: ignore[arg-type]
  print(run.reports)  # type: ignore[attr-defined]
  ej.Predictor(batchsize=8)  # type: ignore[call-arg]
