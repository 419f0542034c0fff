"""Pictures of the loss surface that other commands left in a run's workdir."""

import json
from collections.abc import Sequence
from typing import Any

from emosynth_jax.reporting import pictures
from emosynth_jax.reporting.run_files import RunFiles

# Of each record, its pictures by title.
_PICTURES = {
  "loss_landscape": {
    "Loss landscape, contour": "loss_landscape_contour.png",
    "Loss landscape, surface": "loss_landscape_surface.png",
  },
  "curvature": {"Spectrum of the Hessian": "curvature.png"},
  "curvature_map": {"|λmin / λmax| over the landscape": "curvature_map.png"},
}


def stored_pictures(run: RunFiles) -> tuple[list[dict[str, Any]], list[str]]:
  """The pictures that are of the network reported.

  Args:
    run: the run.

  Returns:
    The pictures ("title", "uri", "width", "height" and "note": of what), and what was
    left out and why, in sentences.

  Raises:
    ValueError: if a file is damaged.
  """
  found, left_out = [], []
  for name, files in _PICTURES.items():
    path = run.workdir / f"{name}.json"
    present = {title: run.workdir / file for title, file in files.items()}
    present = {title: file for title, file in present.items() if file.is_file()}
    if not path.is_file() or not present:
      continue
    try:
      settings = json.loads(path.read_text())["settings"]
      epoch, note = settings["best_epoch"], _note(settings)
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"{path} is damaged ({error})") from error
    if epoch != run.report["best_epoch"]:
      left_out.append(
        f"{name}.json is of epoch {epoch}, the report of epoch "
        f"{run.report['best_epoch']}: left out."
      )
      continue
    found += [
      {"title": title, "note": note, **pictures.png_file(file)}
      for title, file in present.items()
    ]
  return found, left_out


def names(found: Sequence[dict[str, Any]]) -> set[str]:
  """The titles of pictures."""
  return {picture["title"] for picture in found}


def _note(settings: dict[str, Any]) -> str:
  split = settings["official_split"] or settings["split"]
  return (
    f"of {settings['num_images']} images of {split}, "
    f"BatchNorm {settings['batch_norm']}, seed {settings['seed']}"
  )
