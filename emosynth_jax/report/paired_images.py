"""Two networks on the same images: McNemar's test and a paired bootstrap."""

from typing import Any

import numpy as np

from emosynth_jax.metrics import statistics
from emosynth_jax.report.predictions import Answers


def compare(ours: Answers, baseline: Answers) -> dict[str, Any]:
  """Tests the difference of two networks' accuracies over the images of a split.

  Args:
    ours: predictions on the split.
    baseline: the other network's, on the same images.

  Returns:
    "num_images", "ours" and "baseline" (accuracies), "only_ours" and "only_baseline"
    (images that only one classifies correctly), "difference", "low", "high" (95 %
    percentile interval of the bootstrap) and "p_value" (McNemar's, exact).

  Raises:
    ValueError: if the images or the labels of the two are not the same.
  """
  first, second = ours.network.dataset, baseline.network.dataset
  same_images = first.images.shape == second.images.shape and np.array_equal(
    np.asarray(first.images), np.asarray(second.images)
  )
  if not same_images or not np.array_equal(ours.labels, baseline.labels):
    raise ValueError("--paired: the two runs have other images or labels in the split")
  if first.class_names != second.class_names:
    raise ValueError("--paired: the two runs have other classes")

  right = [each.predicted == each.labels for each in (ours, baseline)]
  test = statistics.mcnemar(*right)
  interval = statistics.paired_bootstrap(*right)
  return {
    "num_images": len(ours.labels),
    "ours": float(right[0].mean()),
    "baseline": float(right[1].mean()),
    "difference": interval["mean"],
    "low": interval["low"],
    "high": interval["high"],
    **test,
  }
