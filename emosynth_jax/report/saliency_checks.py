"""Tables of the saliency map checks that other commands wrote to a workdir.

The sanity check is of `emosynth_jax.analysis.gradcam --sanity_check`, the deletion of
`emosynth_jax.analysis.deletion`.
"""

from collections.abc import Mapping
from typing import Any

from emosynth_jax.config import renamed
from emosynth_jax.report.run_files import RunFiles, other_network
from emosynth_jax.utils.json_files import read_json

SANITY_FILE, DELETION_FILE = "gradcam.json", "deletion.json"


def map_checks(run: RunFiles, variables_crc32: int | None = None) -> dict[str, Any]:
  """Collects the checks that belong to the reported network.

  Args:
    run: the run.
    variables_crc32: of the best checkpoint, if it was read: `digests.checksum` of
      the variables that it is evaluated with.

  Returns:
    "sanity" and "deletion", each None or a table for the templates, and "left_out",
    sentences on omitted checks with reasons.

  Raises:
    ValueError: if a file is damaged.
  """
  found: dict[str, Any] = {"left_out": []}
  for name, file, table in (
    ("sanity", SANITY_FILE, _sanity),
    ("deletion", DELETION_FILE, _deletion),
  ):
    found[name] = None
    path = run.workdir / file
    if not path.is_file():
      continue
    record = renamed.with_new_names(read_json(path))
    try:
      if reason := other_network(run, record, variables_crc32):
        found["left_out"].append(f"{file} is {reason}: skipped.")
      else:
        found[name] = table(record)
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(
        f"{path} is damaged ({type(error).__name__}: {error})"
      ) from error

  return found


def _sanity(record: Mapping[str, Any]) -> dict[str, Any] | None:
  """Rank correlations by layer; None if the check was not run."""
  checked = record["sanity_check"]
  if not checked:
    return None

  height, width, _ = record["layer_shape"]
  margin = record["margin"]
  return {
    "of": _images(record | record["sanity_check_of"]),
    "layer": record["layer"],
    "size": f"{height - 2 * margin} x {width - 2 * margin}",
    "rows": [
      (layer, _correlation(kinds["grad_cam"]), _correlation(kinds["guided_backprop"]))
      for layer, kinds in checked.items()
    ],
  }


def _deletion(record: Mapping[str, Any]) -> dict[str, Any]:
  """Drops of the predicted class's probability by map."""
  return {
    "of": _images(record),
    "share": f"{100 * record['share']:g}",
    "rows": [
      (
        name,
        *(float(row[key]) for key in ("highest", "lowest", "difference")),
        float(row["standard_error"]),
      )
      for name, row in record["probability_drop"].items()
    ],
  }


def _images(record: Mapping[str, Any]) -> str:
  split = record["official_split"] or record["split"]
  return f"{record['num_images']:,} images of {split}"


def _correlation(value: float | None) -> float | None:
  return None if value is None else float(value)
