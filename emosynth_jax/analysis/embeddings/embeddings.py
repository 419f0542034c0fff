"""Embeddings (penultimate features) of images, and their 2D projections.

  compute_embeddings  the penultimate features of a whole split, in one program
  project             their places in a plane, by t-SNE or by principal components
  faithfulness        how well such a projection preserves the embeddings

The command is `python -m emosynth_jax.analysis.embeddings`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial.distance
import scipy.stats
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from emosynth_jax.analysis.gradcam import jaxpr_interpreter
from emosynth_jax.models.network_inputs import network_inputs
from emosynth_jax.parallel import batched_map
from emosynth_jax.utils import errors

METHODS = ("tsne", "pca")
_PERPLEXITY = 30.0
_NEIGHBORS = 10


def compute_embeddings(
  apply_fn: jaxpr_interpreter.ApplyFn,
  variables: Any,
  input_scale: Any,
  images: np.ndarray,
  *,
  preprocess: Callable[[jax.Array], jax.Array] | None = None,
  batch_size: int = 256,
  report: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes embeddings and margin-free logits of a whole split, batch by batch.

  One compiled program, with BatchNorm's running statistics and without dropout: no
  image's embedding depends on the others.

  Args:
    apply_fn: `(variables, inputs) -> (logits, layers)` with the embedding among the
      layers as "pre_logits"; `gradcam_network.apply_fn_of(experiment, modules=False)`
      makes it of a run, `grad_cam.flax_apply_fn(model)` of a network.
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(M, H, W, C)`.
    preprocess: `Experiment.preprocess`; None for none.
    batch_size: images at a time.
    report: called periodically with the number of images done.

  Returns:
    float32 embeddings `(M, D)` and logits `(M, K)`.

  Raises:
    ValueError: if there is no image, or the network has no embedding.
  """
  if not len(images):
    raise ValueError(f"images: expected at least one, got shape {images.shape}")

  def one_batch(variables, input_scale, batch):
    inputs = network_inputs(batch, input_scale, preprocess=preprocess)
    logits, layers = apply_fn(variables, inputs)
    if "pre_logits" not in layers:
      raise ValueError(
        f"apply_fn: expected a layer 'pre_logits', got {', '.join(layers) or 'none'}"
      )
    found = layers["pre_logits"], logits
    return tuple(x.astype(jnp.float32) for x in found)

  batch_size = min(batch_size, len(images))

  @jax.jit
  def program(members, variables, input_scale):
    return batched_map.over_batches(
      lambda batch: one_batch(variables, input_scale, batch),
      (members,),
      batch_size=batch_size,
    )

  return batched_map.run_in_chunks(
    program,
    images,
    (variables, input_scale),
    # Several batches per call, with periodic progress reports.
    chunk=min(8 * batch_size, -(-len(images) // batch_size) * batch_size),
    report=report,
  )


def project(
  embeddings: np.ndarray,
  method: str = "tsne",
  seed: int = 0,
  *,
  perplexity: float | None = None,
) -> np.ndarray:
  """Projects the embeddings to a plane.

  "pca" are the first two principal components, a linear map: distances in the plane
  are at most those of the embeddings. "tsne" places the points so that the
  probabilities of being neighbors agree with those of the embeddings (Barnes-Hut,
  started from the principal components). It preserves neighborhoods; distances between
  clusters, their sizes and their densities mean nothing, and a cluster in the plot does
  not prove one in the embeddings. `faithfulness` measures this.

  Args:
    embeddings: floating `(N, D)`, N >= 3 and D >= 2.
    method: one of `METHODS`.
    seed: of the noise in t-SNE's initialization, a hundredth of its scale; on one
      machine, the same seed and embeddings give the same points.
    perplexity: of t-SNE, roughly the effective number of neighbors, less than N; by
      default 30, or (N - 1) / 3 where that is less.

  Returns:
    float32 `(N, 2)`.

  Raises:
    TypeError: if the embeddings are not floating.
    ValueError: for another shape or method, embeddings that are not finite, or a
      perplexity out of range.

  References:
    van der Maaten and Hinton, `Visualizing Data using t-SNE
    <https://www.jmlr.org/papers/v9/vandermaaten08a.html>`_, 2008;
    van der Maaten, `Accelerating t-SNE using Tree-Based Algorithms
    <https://jmlr.org/papers/v15/vandermaaten14a.html>`_, 2014;
    Wattenberg et al., `How to Use t-SNE Effectively
    <https://distill.pub/2016/misread-tsne>`_, 2016
  """
  errors.check_choice("method", method, METHODS)
  embeddings = check_embeddings(embeddings)
  total, dim = embeddings.shape
  if total < 3 or dim < 2:
    raise ValueError(
      f"embeddings: expected (N, D) with N >= 3 and D >= 2, got {embeddings.shape}"
    )

  perplexity = check_perplexity(perplexity, total)
  if not np.ptp(embeddings, axis=0).any():
    return np.zeros((total, 2), np.float32)

  points = PCA(2, svd_solver="full").fit_transform(embeddings)
  if method == "tsne":
    # The initial scale of van der Maaten, independent of the embeddings', with 1 % of
    # noise, so that another seed shows the effect of the random initialization.
    noise = np.random.Generator(np.random.PCG64(seed)).normal(size=points.shape)
    start = 1e-4 * (points / points[:, 0].std() + 0.01 * noise)
    tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    # With one thread sums have one order; with more, they synchronize at each of a
    # thousand steps, which takes a hundred times longer on a busy machine.
    with threadpool_limits(1):
      points = tsne.fit_transform(embeddings.astype(np.float32))

  return points.astype(np.float32)


def check_perplexity(perplexity: float | None, total: int) -> float:
  """Determines the perplexity of `project`, before the embeddings are computed.

  Args:
    perplexity: the requested one, or None.
    total: points of the plane.

  Returns:
    The requested one; by default 30, or (total - 1) / 3 where that is less.

  Raises:
    ValueError: for too few points, or a perplexity out of range.
  """
  if total < 3:
    raise ValueError(
      f"points: expected at least 3 to place, got {total}: see --images and --points"
    )
  if perplexity is None:
    return min(_PERPLEXITY, (total - 1) / 3)
  if not 0 < perplexity < total:
    raise ValueError(
      f"perplexity: expected a number in (0, {total}), for {total} points; got "
      f"{perplexity}"
    )

  return perplexity


def faithfulness(
  embeddings: np.ndarray, points: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
  """Measures how faithfully a projection shows the embeddings.

  - "trustworthiness": 1 if the 10 nearest neighbors of every point in the plane are
    its nearest in the embeddings too; lower if points are near that are not among the
    nearest embeddings, by their rank. About 0.5 for a random plane.
  - "center_distances": Spearman's rank correlation between the distances of the class
    means in the plane and those in the embeddings, over all pairs of classes: whether
    clusters far apart in the plot are far apart. NaN for fewer than three classes.

  Args:
    embeddings: floating `(N, D)`.
    points: floating `(N, 2)`, of `project`.
    labels: int `(N,)`.

  Returns:
    The two metrics.

  Raises:
    TypeError: if the arrays are of another type.
    ValueError: if their lengths differ, or there are fewer than three points.

  References:
    Venna and Kaski, "Neighborhood preservation in nonlinear projection methods: an
    experimental study", ICANN 2001
  """
  embeddings, points = check_embeddings(embeddings), check_embeddings(points)
  labels = check_labels(labels, len(embeddings))
  if len(points) != len(embeddings) or len(points) < 3:
    raise ValueError(
      f"points: expected ({len(embeddings)}, 2), at least 3; got {points.shape}"
    )

  # It is defined for less than half as many neighbors as points.
  neighbors = min(_NEIGHBORS, (len(points) - 1) // 2)
  classes = np.unique(labels)
  correlation = float("nan")
  if len(classes) > 2:
    distances = [
      scipy.spatial.distance.pdist(
        np.stack([x[labels == k].mean(axis=0) for k in classes])
      )
      for x in (embeddings, points)
    ]
    # Constant distances have no rank correlation.
    if all(np.ptp(d) > 0 for d in distances):
      correlation = float(scipy.stats.spearmanr(*distances).statistic)

  return {
    "trustworthiness": float(
      trustworthiness(embeddings, points, n_neighbors=neighbors)
    ),
    "center_distances": correlation,
  }


def check_embeddings(embeddings: Any) -> np.ndarray:
  """Converts embeddings to float64 `(N, D)` and checks that they are finite."""
  array = np.asarray(embeddings)
  if not np.issubdtype(array.dtype, np.floating):
    raise TypeError(f"embeddings: expected floating, got {array.dtype}")
  if array.ndim != 2:
    raise ValueError(f"embeddings: expected (N, D), got shape {array.shape}")
  if bad := int((~np.isfinite(array)).any(axis=1).sum()):
    raise ValueError(
      f"embeddings: expected finite values, got {bad} rows with NaN or infinity"
    )
  return array.astype(np.float64)


def check_labels(labels: Any, total: int) -> np.ndarray:
  """The labels as integers `(N,)`."""
  array = np.asarray(labels)
  if not np.issubdtype(array.dtype, np.integer):
    raise TypeError(f"labels: expected integers, got {array.dtype}")
  if array.shape != (total,):
    raise ValueError(f"labels: expected shape ({total},), got {array.shape}")
  return array
