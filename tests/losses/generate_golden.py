"""Writes golden/*.json: losses and gradients by torch and pytorch-metric-learning.

  pip install -e '.[oracle]'
  python tests/losses/generate_golden.py

Inputs are rounded to float32, the oracles run in float64, and gradients are those of
the sum of the losses. The tests read the files alone. test_golden.py calls the loss
that each case names and passes its arguments, which are in this project's terms.
"""

import json
import pathlib

import numpy as np
import pytorch_metric_learning
import torch
from pytorch_metric_learning import losses, reducers

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Class, its arguments, and the same loss in our terms.
ANNEALING_OFF = {"lam_min": 0.0, "lam_max": 0.0}
METRIC_LEARNING = [
  (losses.CosFaceLoss, {"margin": 0.35, "scale": 64.0}, "cosface", {"scale": 64.0}),
  (
    losses.CosFaceLoss,
    {"margin": 0.1, "scale": 8.0},
    "cosface",
    {"margin": 0.1, "scale": 8.0},
  ),
  (
    losses.CosFaceLoss,
    {"margin": 0.4, "scale": 16.0},
    "double_am_softmax",
    {"margin": 0.2, "scale": 16.0},
  ),
  # ArcFaceLoss takes its margin in degrees.
  (losses.ArcFaceLoss, {"margin": np.degrees(0.5), "scale": 64.0}, "arcface", {}),
  (
    losses.ArcFaceLoss,
    {"margin": np.degrees(1.2), "scale": 8.0},
    "arcface",
    {"margin": 1.2, "scale": 8.0},
  ),
  *(
    (
      losses.SphereFaceLoss,
      {"margin": m, "scale": 1},
      "sphereface",
      {"margin": m, **ANNEALING_OFF},
    )
    for m in (2, 3, 4)
  ),
  *(
    (
      losses.LargeMarginSoftmaxLoss,
      {"margin": m, "scale": 1},
      "l_softmax",
      {"margin": m, **ANNEALING_OFF},
    )
    for m in (2, 4)
  ),
]
SUB_CENTERS = [
  ({"margin": np.degrees(0.5), "scale": 64.0, "sub_centers": 3}, {"sub_centers": 3}),
  (
    {"margin": np.degrees(1.2), "scale": 8.0, "sub_centers": 2},
    {"sub_centers": 2, "scale": 8.0, "margin": 1.2},
  ),
]
COUNTS = np.array([50, 7, 400, 1, 90, 3, 3300])


def numbers(tensor):
  return json.loads(json.dumps(np.asarray(tensor).tolist()), parse_float=rounded)


def rounded(text):
  return float(f"{float(text):.9g}")


def batches():
  """A random batch, and cosines of exactly +-1 (no gradients: PML's are not finite)."""
  rng = np.random.default_rng(0)
  yield {
    "embeddings": (2 * rng.normal(size=(5, 4))).astype(np.float32),
    "weights": rng.normal(size=(4, 7)).astype(np.float32),
    "labels": rng.integers(7, size=5),
    "gradients": True,
  }
  axes = np.eye(4, dtype=np.float32)
  others = rng.normal(size=(4, 3)).astype(np.float32)
  yield {
    "embeddings": np.array([[2], [-3], [0.5], [-1], [4]], np.float32)
    * axes[[0, 0, 1, 2, 3]],
    "weights": np.concatenate([axes, others], axis=1),
    "labels": np.array([0, 0, 1, 2, 5]),
    "gradients": False,
  }


def metric_learning_case(cls, oracle_arguments, name, arguments, batch):
  embeddings = torch.tensor(
    batch["embeddings"], dtype=torch.float64, requires_grad=True
  )
  d, columns = batch["weights"].shape
  loss = cls(
    num_classes=columns // oracle_arguments.get("sub_centers", 1),
    embedding_size=d,
    reducer=reducers.DoNothingReducer(),
    **oracle_arguments,
  )
  loss.W.data = torch.tensor(batch["weights"], dtype=torch.float64)
  values = loss(embeddings, torch.tensor(batch["labels"]))["loss"]["losses"]
  said = ", ".join(f"{name}={value:.6g}" for name, value in oracle_arguments.items())
  case = {
    "loss": name,
    "arguments": arguments,
    "oracle": f"{cls.__name__}({said})",
    "inputs": {n: numbers(batch[n]) for n in ("embeddings", "weights", "labels")},
    "losses": numbers(values.detach()),
  }
  if batch["gradients"]:
    values.sum().backward()
    case["gradients"] = {
      "embeddings": numbers(embeddings.grad),
      "weights": numbers(loss.W.grad),
    }
  return case


def sub_center_cases():
  """Columns of a class adjacent, as PML has them."""
  for seed, (oracle_arguments, arguments) in enumerate(SUB_CENTERS):
    rng = np.random.default_rng(seed)
    batch = {
      "embeddings": (2 * rng.normal(size=(5, 4))).astype(np.float32),
      "weights": rng.normal(size=(4, 7 * arguments["sub_centers"])).astype(np.float32),
      "labels": rng.integers(7, size=5),
      "gradients": True,
    }
    yield metric_learning_case(
      losses.SubCenterArcFaceLoss,
      oracle_arguments,
      "subcenter_arcface",
      arguments,
      batch,
    )


def contrastive_cases():
  """Eight examples of four labels, of which one is there once. Logits count nothing."""
  rng = np.random.default_rng(2)
  x = (2 * rng.normal(size=(8, 4))).astype(np.float32)
  z = rng.normal(size=(8, 7)).astype(np.float32)
  labels = np.array([0, 3, 3, 5, 0, 3, 6, 5])
  for temperature in (0.1, 0.5):
    embeddings = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    loss = losses.SupConLoss(
      temperature=temperature, reducer=reducers.DoNothingReducer()
    )
    values = loss(embeddings, torch.tensor(labels))["loss"]["losses"]
    values.sum().backward()
    yield {
      "loss": "supervised_contrastive",
      "arguments": {"ce_weight": 0.0, "temperature": temperature},
      "oracle": f"SupConLoss(temperature={temperature})",
      "inputs": {
        "logits": numbers(z),
        "embeddings": numbers(x),
        "labels": numbers(labels),
      },
      "losses": numbers(values.detach()),
      "gradients": {"embeddings": numbers(embeddings.grad)},
    }


def one_hot(labels, k):
  return torch.nn.functional.one_hot(labels, k).double()


def softmax_mse(logits, labels):
  p = torch.softmax(logits, dim=1)
  loss = torch.nn.MSELoss(reduction="none")(p, one_hot(labels, logits.shape[1]))
  return loss.mean(dim=1)


def sigmoid_sum(logits, labels):
  targets = one_hot(labels, logits.shape[1])
  return torch.nn.BCEWithLogitsLoss(reduction="none")(logits, targets).sum(dim=1)


CLASSIFICATION = [
  ("MSELoss of softmax", softmax_mse, "mse", {}),
  ("BCEWithLogitsLoss, summed", sigmoid_sum, "binary_cross_entropy", {}),
  (
    "CrossEntropyLoss",
    torch.nn.CrossEntropyLoss(reduction="none"),
    "cross_entropy",
    {},
  ),
  (
    "CrossEntropyLoss(label_smoothing=0.1)",
    torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
    "label_smoothing",
    {},
  ),
]


def adjusted(tau):
  def loss(logits, labels):
    log_prior = torch.tensor(np.log(COUNTS / COUNTS.sum()))
    return torch.nn.functional.cross_entropy(
      logits + tau * log_prior, labels, reduction="none"
    )

  return loss


def class_balanced(beta):
  """With the weights as LDAM-DRW's published training code computes them."""
  effective_num = 1.0 - np.power(beta, COUNTS)
  weights = (1.0 - beta) / effective_num
  weights = torch.tensor(weights / np.sum(weights) * len(COUNTS))
  return torch.nn.CrossEntropyLoss(weight=weights, reduction="none")


CLASS_COUNTS = [
  ("CrossEntropyLoss of z + log prior", adjusted(1.0), "balanced_softmax", {}),
  (
    "CrossEntropyLoss of z + 1.5 log prior",
    adjusted(1.5),
    "logit_adjustment",
    {"tau": 1.5},
  ),
  *(
    (
      f"CrossEntropyLoss(weight=effective number, {beta})",
      class_balanced(beta),
      "deferred_reweighting",
      {"reweight_step": 0, "beta": beta},
    )
    for beta in (0.9, 0.9999)
  ),
]


def class_count_cases():
  for case in classification_cases(CLASS_COUNTS):
    case["inputs"]["class_counts"] = numbers(COUNTS)
    yield case


def classification_cases(table):
  for seed, scale in enumerate([3.0, 1e4]):
    rng = np.random.default_rng(seed)
    z = (scale * rng.normal(size=(5, 7))).astype(np.float32)
    labels = rng.integers(7, size=5)
    for oracle, function, name, arguments in table:
      logits = torch.tensor(z, dtype=torch.float64, requires_grad=True)
      values = function(logits, torch.tensor(labels))
      values.sum().backward()
      yield {
        "loss": name,
        "arguments": arguments,
        "oracle": oracle,
        "inputs": {"logits": numbers(z), "labels": numbers(labels)},
        "losses": numbers(values.detach()),
        "gradients": {"logits": numbers(logits.grad)},
      }


def write(name, source, cases):
  lines = ",\n".join(json.dumps(case) for case in cases)
  (GOLDEN / name).write_text(
    f'{{"source": {json.dumps(source)}, "cases": [\n{lines}\n]}}\n'
  )


def main():
  torch_version = f"torch {torch.__version__.split('+')[0]}"
  write(
    "torch.json",
    torch_version,
    [*classification_cases(CLASSIFICATION), *class_count_cases()],
  )
  write(
    "pytorch_metric_learning.json",
    f"pytorch-metric-learning {pytorch_metric_learning.__version__}, {torch_version}",
    [
      *(
        metric_learning_case(*entry, batch)
        for batch in batches()
        for entry in METRIC_LEARNING
      ),
      *sub_center_cases(),
      *contrastive_cases(),
    ],
  )


if __name__ == "__main__":
  main()
