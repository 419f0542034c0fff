"""HTML page of all figures of the thesis: images, their runs, and missing figures."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from emosynth_jax.report import data_uri, render
from experiments.lib.thesis_figures import Figure


def build(
  figures: Sequence[Figure],
  records: Mapping[str, Mapping[str, Any]],
  folder: pathlib.Path,
  made_by: Mapping[str, Any],
) -> str:
  """Renders the page, with embedded images.

  Args:
    figures: all figures.
    records: by stem, of `all_figures.make_figure`; a figure without one
      was not requested.
    folder: of the images and their text files.
    made_by: of `provenance.provenance`.

  Returns:
    The HTML.

  Raises:
    ValueError: if an image is damaged.
  """
  parts = [_part(figure, records.get(figure.stem, {}), folder) for figure in figures]
  drawn = [part for part in parts if part["plots"]]
  others = [part for part in parts if not part["plots"]]
  sections = [(part["id"], part["short"]) for part in drawn]
  return render.render(
    "figures.html",
    {
      "kind": "emosynth_jax",
      "title": "Figures of the thesis, redrawn",
      "sections": [*sections, *([("others", "Missing figures")] if others else [])],
      "drawn": drawn,
      "others": others,
      "made_by": made_by,
    },
  )


def _part(figure, record, folder):
  # A file may have been removed since.
  shown = [path for name in record.get("plots", ()) if (path := folder / name).exists()]
  # The text of one image, and that of all images of the figure.
  texts = [path.with_suffix(".txt") for path in shown]
  texts = dict.fromkeys([*texts, folder / f"{figure.stem}.txt"] if shown else [])
  state = record.get("state", "not requested")
  if record.get("plots") and not shown:
    state = "plotted, but its images are missing"
  return {
    "id": figure.stem,
    "short": ", ".join(figure.numbers),
    "name": figure.name,
    "title": figure.title,
    "state": state,
    "reason": record.get("reason", ""),
    "command": record.get("command", ""),
    "seconds": record.get("seconds"),
    "plots": [data_uri.png_file(path) for path in shown],
    "texts": [(path.name, path.read_text().strip()) for path in texts if path.exists()],
  }
