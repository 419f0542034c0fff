"""Example images of a report: errors, Grad-CAM, the embedding."""

from typing import Any, NamedTuple

import numpy as np
from absl import logging

from emosynth_jax.analysis.embeddings import embeddings, separation
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.report import charts, data_uri, predictions

# Separation metrics in the order of the table: label and number format.
_SEPARATION = {
  "silhouette": ("silhouette", "{:.3f}"),
  "silhouette_macro": ("silhouette, mean of the classes", "{:.3f}"),
  "intra_inter_ratio": ("distance within / between classes", "{:.3f}"),
  "fisher_ratio": ("variance between / within classes", "{:.3f}"),
  "angle_to_own": ("angle to own class mean", "{:.1f}°"),
  "angle_to_other": ("angle to nearest other class mean", "{:.1f}°"),
  "angular_margin": ("angular margin", "{:.1f}°"),
  "center_angle": ("angle between class means", "{:.1f}°"),
}
# The defaults of emosynth_jax.analysis.embeddings, so that both report the same numbers
# of a run.
_MOST_MEASURED = 10_000
_FAITHFULNESS = {
  "trustworthiness": "projection: trustworthiness",
  "center_distances": "projection: rank correlation of class distances",
}


class ExampleOptions(NamedTuple):
  """Number of example images of each kind."""

  num_mistakes: int = 12
  num_hardest: int = 2
  num_embedded: int = 2000
  layer: str | None = None
  batch_size: int = 256


def images(answered: predictions.Answers, options: ExampleOptions) -> dict[str, Any]:
  """Most confident errors, hardest images and Grad-CAM, for the templates."""
  dataset = answered.network.dataset
  examples = predictions.drawn_examples(answered)
  rows = [row for pair in examples for row in pair if row is not None]
  logging.info("Grad-CAM of %s images.", f"{len(rows):,}")
  cam = predictions.grad_cam(
    answered, rows, layer=options.layer, batch_size=min(options.batch_size, 32)
  )
  maps = dict(zip(rows, cam.maps, strict=True))

  def described(row, *, with_map=False):
    pixels = dataset.images[row]
    image = predictions.describe_image(answered, row) | {
      "uri": data_uri.data_uri(pixels),
      "width": pixels.shape[1],
      "height": pixels.shape[0],
    }
    if with_map:
      gray = pixels.astype(np.float64).mean(-1) / 255
      image["map_uri"] = data_uri.data_uri(gradcam_plots.overlay(gray, maps[row]))
      image["has_map"] = bool(maps[row].max() > 0)
    return image

  def in_pair(row):
    return None if row is None else described(row, with_map=True)

  names = [dataset.class_names[k] for k in np.unique(answered.labels)]
  hardest = predictions.hardest_of_each_class(answered, options.num_hardest)
  return {
    "num_wrong": int((answered.predicted != answered.labels).sum()),
    "mistakes": [
      described(row)
      for row in predictions.confident_mistakes(answered, options.num_mistakes)
    ],
    "hardest": [described(row) for row in hardest],
    "layer": cam.layer,
    "layer_shape": " x ".join(map(str, cam.shape)),
    "examples": [
      {"name": name, "pair": [in_pair(row) for row in pair]}
      for name, pair in zip(names, examples, strict=True)
    ],
  }


def embedding(answered: predictions.Answers, options: ExampleOptions) -> dict[str, Any]:
  """The embedding's plot and metrics; "refused" if they cannot be computed."""
  dataset = answered.network.dataset
  rows = draw_rows(len(dataset), _MOST_MEASURED)
  features, labels = answered.embeddings[rows], answered.labels[rows]
  drawn = draw_rows(len(rows), options.num_embedded, seed=1)
  logging.info("t-SNE of %s images.", f"{len(drawn):,}")

  try:
    numbers = separation.separation(features, labels)
    points = embeddings.project(features[drawn])
    faithful = embeddings.faithfulness(features[drawn], points, labels[drawn])
  except ValueError as error:
    return {"refused": str(error)}

  whole, panels = charts.embedding(
    points,
    labels[drawn],
    dataset.class_names,
    f"t-SNE of {len(drawn):,} images by class; each class alone below",
  )
  by_label = dict(
    zip(numbers["per_class"]["label"], numbers["per_class"]["silhouette"], strict=True)
  )
  rows_of_numbers = [
    (label, _written(numbers[key], form)) for key, (label, form) in _SEPARATION.items()
  ]
  rows_of_numbers += [
    (label, _written(faithful[key], "{:.2f}")) for key, label in _FAITHFULNESS.items()
  ]

  return {
    "refused": None,
    "dim": features.shape[1],
    "num_images": len(rows),
    "sampled": len(rows) < len(dataset),
    "num_drawn": len(drawn),
    "whole": whole,
    "numbers": rows_of_numbers,
    "panels": [
      (name, panel, by_label.get(k))
      for k, (name, panel) in enumerate(zip(dataset.class_names, panels, strict=True))
    ],
  }


def _written(value: float, form: str) -> str:
  return form.format(value).replace("-", "\u2212") if np.isfinite(value) else "\u2013"
