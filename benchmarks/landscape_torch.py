"""Landscapes and Hessian-vector products as a PyTorch loop, for `landscape`."""

from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import torch_cases, torch_programs
from benchmarks.landscape_problem import Problem


class InTorch:
  """The same tasks as a loop in Python over points and batches."""

  def __init__(self, problem: Problem, form: str):
    """Builds the network with the JAX network's weights.

    Args:
      problem: weights, directions, points and images.
      form: "eager" or "channels_last".
    """
    self._problem = problem
    self._program = torch_cases.describe(problem.case)
    self._model = torch_programs.build(self._program, form).eval()
    self._at_network = [p.detach().clone() for p in self._model.parameters()]
    self._directions = [
      self.parameters_of(jax.tree.map(lambda d, i=i: d[i], problem.directions))
      for i in range(2)
    ]
    self._batches = []
    for images, labels in zip(*problem.batches, strict=True):
      x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
      x = x * float(problem.constants["input_scale"])
      layout = torch.channels_last if form != "eager" else torch.contiguous_format
      self._batches.append(
        (x.contiguous(memory_format=layout), torch.from_numpy(labels).long())
      )

  def parameters_of(self, params: Any) -> list[Any]:
    """Converts a tree like the JAX parameters to the order of PyTorch's."""
    state = {**self._program.state, "params": params}
    model = torch_programs.build(self._program._replace(state=state), "eager")
    return [p.detach() for p in model.parameters()]

  def _move(self, point):
    with torch.no_grad():
      for p, own, *directions in zip(
        self._model.parameters(), self._at_network, *self._directions, strict=True
      ):
        p.copy_(own + float(point[0]) * directions[0] + float(point[1]) * directions[1])

  def _mean_loss(self, images, labels):
    return F.cross_entropy(self._model(images), labels)

  def landscape(self) -> np.ndarray:
    """The losses at the points."""
    losses = []
    for point in self._problem.points:
      self._move(point)
      with torch.no_grad():
        each = [float(self._mean_loss(*batch)) for batch in self._batches]
      losses.append(np.mean(each))
    return np.array(losses)

  def product(self, vector: list[Any]) -> list[Any]:
    """Hessian-vector product at the current weights."""
    parameters = list(self._model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for batch in self._batches:
      loss = self._mean_loss(*batch)
      slopes = torch.autograd.grad(loss, parameters, create_graph=True)
      slope = sum((s * v).sum() for s, v in zip(slopes, vector, strict=True))
      for t, x in zip(total, torch.autograd.grad(slope, parameters), strict=True):
        t += x / len(self._batches)
    return total

  def first_product(self, vector: Any) -> np.ndarray:
    """Norm of the product at the first point and its inner product with the vector.

    Neither depends on the order of the weights, which differs in PyTorch.
    """
    self._move(self._problem.points[0])
    own = self.parameters_of(vector)
    found = self.product(own)
    return np.array(
      [
        sum(float((x**2).sum()) for x in found) ** 0.5,
        sum(float((x * v).sum()) for x, v in zip(found, own, strict=True)),
      ]
    )

  def curvature(self, steps: int) -> None:
    """Computes a number of products at each point, without an eigenvalue solver."""
    for point in self._problem.points:
      self._move(point)
      vector = [torch.randn_like(p) for p in self._model.parameters()]
      for _ in range(steps):
        vector = self.product(vector)
        norm = sum((v**2).sum() for v in vector) ** 0.5
        vector = [v / norm for v in vector]
