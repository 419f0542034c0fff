"""The same cases in PyTorch: eager, in the channels-last layout, and compiled."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import cases
from benchmarks.cases import Case
from benchmarks.emosynthnet_torch import EmoSynthNet, from_flax

FORMS = ("eager", "channels_last", "compile")

# Of the logits, relative to the largest: two orders of summation in float32.
_TOLERANCE = 1e-4


def build(case: Case, form: str) -> torch.nn.Module:
  """The network with the weights that ours begins with.

  Args:
    case: the network and the batch.
    form: one of `FORMS`; "compile" has the channels-last layout, too.

  Returns:
    The network.
  """
  config = case.config()
  side = case.image_shape[0]
  model = EmoSynthNet(
    side,
    case.image_shape[2],
    case.num_classes,
    config.model.width,
    tuple(config.model.dense_features),
    config.model.dropout_rate,
  )
  missing, unexpected = model.load_state_dict(
    from_flax(cases.variables(case), side), strict=False
  )
  # Counters of batches, which no weights of ours stand for.
  if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
    raise ValueError(f"weights: {missing} are missing, {unexpected} too many")
  if form != "eager":
    model = model.to(memory_format=torch.channels_last)
  if form == "compile":
    model = torch.compile(model)
  return model


def _inputs(case, images, form):
  """uint8 images `(N, H, W, C)` as the network takes them."""
  x = images.permute(0, 3, 1, 2)
  if form == "eager":
    x = x.contiguous()
  return x.float() * case.config().input.scale


def training(
  case: Case, form: str, steps: int, *, device: str = "cpu", mixed: bool = False
) -> Callable[[], None]:
  """Steps of Adam on the mean cross-entropy, as `cases.training` takes them.

  Args:
    case: the network and the batch.
    form: one of `FORMS`.
    steps: steps of a call.
    device: where the network and all the images are.
    mixed: whether the network computes in bfloat16 where autocast has it so.

  Returns:
    A function that takes the steps and returns when they are done.
  """
  model = build(case, form).to(device).train()
  optimizer = torch.optim.Adam(
    model.parameters(), case.config().optimizer.learning_rate, fused=True
  )
  count = steps * case.batch
  images = torch.from_numpy(case.images(count)).to(device)
  labels = torch.from_numpy(case.labels(count)).long().to(device)

  def run():
    order = torch.randperm(count, device=device)
    for rows in order.split(case.batch):
      optimizer.zero_grad(set_to_none=True)
      inputs = _inputs(case, images[rows], form)
      with torch.autocast(device, torch.bfloat16, enabled=mixed):
        loss = F.cross_entropy(model(inputs), labels[rows])
      loss.backward()
      optimizer.step()
    if device == "cuda":
      torch.cuda.synchronize()

  return run


def inference(case: Case, form: str, calls: int) -> Callable[[], np.ndarray]:
  """Answers to images on the host, as `cases.inference` gives them."""
  model = build(case, form).eval()
  images = torch.from_numpy(case.images(case.batch))

  @torch.inference_mode()
  def run():
    for _ in range(calls):
      logits = model(_inputs(case, images, form)).numpy()
    return logits

  return run


def check_equal(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Compares logits of shared weights.

  Args:
    ours: `(N, K)`.
    theirs: `(N, K)`.

  Returns:
    The largest difference over the largest logit.

  Raises:
    ValueError: if that is more than rounding explains.
  """
  difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
  if not difference < _TOLERANCE:
    raise ValueError(
      f"logits: expected those of PyTorch to {_TOLERANCE}, got {difference:.1e}"
    )
  return difference
