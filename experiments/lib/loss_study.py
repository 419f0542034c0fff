"""The study of losses on few classes: which runs it has, and how they are trained.

docs/notes/loss_study.md is the protocol, written before the first run.
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from emosynth_jax import losses
from emosynth_jax.config import defaults, recipes
from emosynth_jax.data.datasets import fer2013

# Learning rates of which each loss gets its own.
RATES = (2e-3, 8e-3, 3.2e-2)
# Seeds that no later stage uses.
RATE_SEED = 100
SCREEN_SEEDS = (101, 102)
# Of Training, so that the rates take hours instead of a day.
RATE_IMAGES = 9000
BATCH_SIZE = 64
FULL_EPOCHS = 20
EPOCHS = {
  "rates": 4,
  "screen": 10,
  **dict.fromkeys(("strength", "full", "fer_plus", "cifar10"), FULL_EPOCHS),
}
# Accuracy on PublicTest that cross-entropy has to reach at full length.
STRENGTH = 0.6


class Comparison(NamedTuple):
  """Data on which losses are compared at full length."""

  recipe: Callable[[str], ml_collections.ConfigDict]
  train_images: int
  num_classes: int
  fewest_seeds: int
  most_seeds: int


# By stage; all others have the data of "full".
COMPARISONS = {
  "full": Comparison(recipes.fer2013, fer2013.COUNTS["Training"], 7, 5, 12),
  "fer_plus": Comparison(recipes.fer_plus, 25060, 8, 3, 3),
  "cifar10": Comparison(recipes.cifar10, 45000, 10, 3, 3),
}
# Losses that are compared at full length, whatever the screening finds.
BASELINE = "cross_entropy"
FIXED = (BASELINE, "mam_softmax", "sce_loss", "mam_softmax+sce_loss")
# Losses whose networks' sharpness is measured.
MEASURED_SHARPNESS = (BASELINE, "mam_softmax", "mam_softmax+sce_loss")
# Losses of the screening that are compared with these.
NUM_CHOSEN = 5
# Loss -> why it is not in the study.
EXCLUDED = {
  "supervised_contrastive": "it trains no last layer, and needs two views of an image",
  "real_world_weight_cross_entropy": "with its default weights it is cross_entropy",
  "logit_adjustment": "with its default tau it is balanced_softmax",
  "reverse_cross_entropy": "it is a multiple of mean_absolute_error, and the steps of "
  "Adam do not depend on the scale",
}
# Angular margins with what docs/results/ablations.md found for seven classes.
SMALL_SCALE = {
  "arcface_scale8": {"name": "arcface", "scale": 8.0, "margin": 0.1},
  "cosface_scale8": {"name": "cosface", "scale": 8.0, "margin": 0.1},
  "dynamic_am_softmax_scale8": {
    "name": "dynamic_am_softmax",
    "scale": 8.0,
    "margin": 0.2,
  },
}


class Run(NamedTuple):
  """One training of the study."""

  loss: str
  stage: str
  rate: float
  seed: int

  @property
  def folder(self) -> pathlib.Path:
    """Its folder, relative to the study's."""
    return pathlib.Path(self.stage, self.loss, f"rate{self.rate:g}-seed{self.seed}")


def arguments(num_steps: int) -> dict[str, dict[str, Any]]:
  """The losses of the study, by name, with the arguments that have no default.

  Args:
    num_steps: steps of the whole training.

  Returns:
    Every loss of the library once, without its aliases and those of `EXCLUDED`, the
    thesis's joint loss, and `SMALL_SCALE`, of which "name" is the loss.
  """
  # The default of SphereFace and L-Softmax, at full length.
  full_steps = FULL_EPOCHS * (COMPARISONS["full"].train_images // BATCH_SIZE)
  lam_decay = 0.1 * full_steps / num_steps
  required: dict[str, dict[str, Any]] = {
    "l_softmax": {"lam_decay": lam_decay},
    "sphereface": {"lam_decay": lam_decay},
    "deferred_reweighting": {"reweight_step": num_steps * 4 // 5},
    "mixed_cross_entropy": {"total_steps": num_steps},
    "small_loss_cross_entropy": {"noise_rate": 0.2, "warmup_steps": num_steps // 4},
    "subcenter_arcface": {"sub_centers": 3},
  }
  names: dict[Any, str] = {}
  for name, loss in losses.LOSSES.items():
    # The first name of a function is its own.
    names.setdefault(loss, name)
  names = {loss: getattr(loss, "__name__", name) for loss, name in names.items()}
  found = {name: required.get(name, {}) for name in names.values()}
  for name in EXCLUDED:
    del found[name]
  return dict(sorted({**found, "mam_softmax+sce_loss": {}, **SMALL_SCALE}.items()))


def build_config(
  run: Run,
  *,
  data_dir: str,
  width: float = 0.125,
  epochs: int | None = None,
  limit: int = 0,
) -> ml_collections.ConfigDict:
  """Builds the config of a run.

  Args:
    run: the run.
    data_dir: fer2013.csv or its folder, of original pixels; for the stages fer_plus
      and cifar10 that data set's.
    width: of FerVGG.
    epochs: instead of the stage's; for a rehearsal.
    limit: images a split; 0 for all.

  Returns:
    A checked config.
  """
  data = COMPARISONS.get(run.stage, COMPARISONS["full"])
  config = data.recipe("fer_vgg,small,ce")
  config.model.width = width
  config.num_epochs = epochs or EPOCHS[run.stage]
  config.batch_size = BATCH_SIZE
  config.seed = run.seed
  config.optimizer.learning_rate = run.rate
  config.data.data_dir = data_dir
  config.data.limit = limit
  config.evaluate_deduplicated = run.stage == "full"
  if run.stage not in COMPARISONS:
    # What is chosen is chosen without PrivateTest,
    config.data.test_split = ""
  if run.stage == "rates":
    # and a rate without PublicTest: these images are held out of Training.
    config.data.options.protocol = "thesis_28709_7178"
    config.data.limit = limit or RATE_IMAGES

  images = min(config.data.limit or data.train_images, data.train_images)
  steps = config.num_epochs * (images // BATCH_SIZE)
  config.loss = ml_collections.ConfigDict(
    {"name": run.loss, **arguments(steps)[run.loss]}
  )
  defaults.check_config(config)
  return config


def rate_runs() -> list[Run]:
  """The runs by which each loss gets its learning rate."""
  return [
    Run(loss, "rates", rate, RATE_SEED) for loss in arguments(1) for rate in RATES
  ]


def choose_rates(results: Mapping[Run, Mapping[str, Any]]) -> dict[str, float]:
  """Chooses each loss's rate: the highest accuracy on the held-out training images.

  Args:
    results: of `rate_runs`, see `loss_study_records.read_result`.

  Returns:
    Loss to rate, of equals the lowest; without a loss whose runs all diverged.
  """
  best: dict[str, tuple[float, float]] = {}
  for run, result in results.items():
    if result["state"] == "finished":
      found = (result["validation"]["accuracy"], -run.rate)
      best[run.loss] = max(best.get(run.loss, (-1.0, 0.0)), found)
  return {loss: -negative for loss, (_, negative) in best.items()}


def strength_run(rates: Mapping[str, float]) -> Run:
  """Cross-entropy at full length, before the screening: is it strong enough?"""
  return Run(BASELINE, "strength", rates[BASELINE], RATE_SEED)


def screen_runs(rates: Mapping[str, float]) -> list[Run]:
  """The runs of the screening, one seed after the other."""
  return [
    Run(loss, "screen", rate, seed)
    for seed in SCREEN_SEEDS
    for loss, rate in rates.items()
  ]


def choose_losses(results: Mapping[Run, Mapping[str, Any]]) -> list[str]:
  """Chooses the losses for full length: the best mean accuracy on PublicTest.

  Args:
    results: of `screen_runs`.

  Returns:
    The losses of `FIXED`, and the best of the others of which no run diverged.
  """
  by_loss: dict[str, list[float]] = {}
  for run, result in results.items():
    finished = result["state"] == "finished"
    accuracy = result["validation"]["accuracy"] if finished else -math.inf
    by_loss.setdefault(run.loss, []).append(accuracy)
  means = {
    loss: sum(values) / len(values)
    for loss, values in by_loss.items()
    if min(values) > -math.inf
  }
  others = [loss for loss in means if loss not in FIXED]
  best = sorted(others, key=lambda loss: -means[loss])[:NUM_CHOSEN]
  return [*FIXED, *best]


def full_runs(
  chosen: Sequence[str], rates: Mapping[str, float], seeds: int, stage: str = "full"
) -> list[Run]:
  """The runs of a stage of `COMPARISONS`, one seed after the other."""
  return [
    Run(loss, stage, rates[loss], seed)
    for seed in range(seeds)
    for loss in chosen
    if loss in rates
  ]
