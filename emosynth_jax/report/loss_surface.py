"""Loss landscape plots that other commands wrote to a run's workdir."""

from collections.abc import Mapping
from typing import Any

from emosynth_jax.report import data_uri
from emosynth_jax.report.run_files import RunFiles, other_network
from emosynth_jax.utils.json_files import read_json

# The plots of each record, by title.
_PLOTS = {
  "loss_landscape": {
    "Loss landscape, contour": "loss_landscape_contour.png",
    "Loss landscape, surface": "loss_landscape_surface.png",
  },
  "loss_line": {"Loss along one direction": "loss_line.png"},
  "curvature": {"Spectrum of the Hessian": "curvature.png"},
  "curvature_map": {"|λmin / λmax| over the landscape": "curvature_map.png"},
}


def stored_plots(
  run: RunFiles, variables_crc32: int | None = None
) -> tuple[list[dict[str, Any]], list[str], set[str]]:
  """Collects the plots that belong to the reported network.

  Args:
    run: the run.
    variables_crc32: `digests.checksum` of the best checkpoint's variables, if the
      network was loaded.

  Returns:
    The plots ("title", "uri", "width", "height" and "note"), sentences on omitted ones
    with reasons, and the names of the records of this network, as "curvature".

  Raises:
    ValueError: if a file is damaged.
  """
  found, left_out, stored = [], [], set()
  for name, files in _PLOTS.items():
    present = {title: run.workdir / file for title, file in files.items()}
    present = {title: file for title, file in present.items() if file.is_file()}
    settings = _settings(run, name)
    if settings is None:
      continue
    if reason := _other(run, name, settings, variables_crc32):
      left_out.append(f"{name}.json is {reason}: skipped.")
      continue
    stored.add(name)
    if not present:
      command = "curvature" if name.startswith("curvature") else "loss_landscape"
      left_out.append(
        f"{name}.json has no plot: rerun emosynth_jax.analysis.{command} with the "
        "same flags to draw it."
      )
      continue
    note = _note(settings)
    found += [
      {"title": title, "note": note, **data_uri.png_file(file)}
      for title, file in present.items()
    ]

  return found, left_out, stored


_NEEDED = (
  "best_epoch",
  "model",
  "training_loss",
  "training_seed",
  "num_images",
  "official_split",
  "split",
  "batch_norm",
  "seed",
)


def _settings(run: RunFiles, name: str) -> dict[str, Any] | None:
  """A record's settings; None if there is no record."""
  path = run.workdir / f"{name}.json"
  if not path.is_file():
    return None
  settings = read_json(path, {"settings": dict})["settings"]
  if missing := [key for key in _NEEDED if key not in settings]:
    raise ValueError(f"{path} is damaged (without {', '.join(missing)})")
  return settings


def _other(
  run: RunFiles, name: str, settings: Mapping[str, Any], variables_crc32: int | None
) -> str:
  """Describes the network of a record, if it is not the reported one."""
  if reason := other_network(run, settings, variables_crc32):
    return reason
  if name == "loss_landscape" and settings.get("dimensions", 2) != 2:
    return "of a line; the plots of a plane in this folder may be of another network"
  return ""


def _note(settings: Mapping[str, Any]) -> str:
  split = settings["official_split"] or settings["split"]
  return (
    f"of {settings['num_images']:,} images of {split}, "
    f"BatchNorm {settings['batch_norm']}, seed {settings['seed']}"
  )
