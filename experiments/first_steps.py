"""The first steps of EmoSynthNet's recipes on FER-2013, by width.

  python -m experiments.first_steps --data_dir=data/fer2013.csv

For each width and variant of configs/fer2013.py it takes some steps and records the
margin-free, unweighted cross-entropy of each batch, before the step: divergence at the
network's first dense layer, with 147,456 inputs at full width, is visible within a
dozen steps. Finished runs are read and not rerun. At full width a hundred steps take 15
minutes on two CPU cores.

Outputs: first_steps.md, first_steps.json and first_steps.png.
"""

import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags, logging
from matplotlib import ticker

from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import pixel_form
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import build
from emosynth_jax.training.programs import build_programs
from emosynth_jax.utils import cli, files, plotting, text_table
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance
from experiments.lib import comparison_rows

# Name of the config without a variant.
DEFAULT = "default"


def build_config(
  variants: str, width: float, data_dir: str
) -> ml_collections.ConfigDict:
  """Builds the config of a recipe at a width.

  Args:
    variants: of configs/fer2013.py, joined by "+", or `DEFAULT`.
    width: the network's, as a share of its full width.
    data_dir: data set directory.

  Returns:
    The config, checked.
  """
  names = [] if variants == DEFAULT else variants.split("+")
  row = comparison_rows.Row(label="", data="fer2013", variants=",".join(names))
  config = comparison_rows.build_config(row, 0, "full", data_dir)
  config.model.width = width
  return config


def first_cross_entropies(
  config: ml_collections.ConfigDict, datasets: Mapping[str, Dataset], num_steps: int
) -> list[float]:
  """Computes the cross-entropy of each of the first batches of a run.

  Args:
    config: the run's.
    datasets: its training and validation splits.
    num_steps: number of steps; at most those of an epoch.

  Returns:
    The batches' mean cross-entropy, without margin and class weights, in nats, up to
    the first non-finite step.

  Raises:
    ValueError: for more steps than an epoch has.
  """
  data = run_data.RunData(dict(datasets), {})
  placement = build_placement(config.mesh.model)
  run = build_programs(config, placement, lambda _: data)
  if num_steps > run.steps_per_epoch:
    raise ValueError(
      f"--steps: expected at most the epoch's {run.steps_per_epoch}, got {num_steps}"
    )
  state = run.place(build.create_state(run.experiment, config.seed))

  total, values = 0.0, []
  for _ in range(num_steps):
    state = run.take_steps(state, num_steps=1)
    totals = jax.device_get(state.totals)
    if totals["bad_step"] >= 0:
      break
    values.append(float(totals["cross_entropy"]) - total)
    total = float(totals["cross_entropy"])

  return values


def format_table(members: list[dict[str, Any]]) -> str:
  """Formats the table as Markdown, with each row's provenance."""
  lines = [
    "# The first steps of each recipe",
    "",
    "Mean cross-entropy of the training batches in nats, without margin and class",
    "weights; EmoSynthNet on FER-2013, Training, seed 0. ln 7 = 1.946 is that of equal",
    "probabilities. The second half of the steps shows whether a recipe learns.",
    "",
  ]
  columns = "width|variant|pixels|steps|first|largest|mean of the second half"
  rows = [[*columns.split("|"), "hardware", "commit"]]
  for member in members:
    values = member["cross_entropy"]
    second_half = values[member["num_steps"] // 2 :]
    mean = f"{np.mean(second_half):.3f}" if second_half else "not finite"
    first, largest = (
      (f"{values[0]:.3f}", f"{max(values):.3f}") if values else ("not finite",) * 2
    )
    steps = f"{len(values)} of {member['num_steps']}"
    rows.append(
      [
        *(f"{member['width']:g}", member["variant"], member["pixels"], steps),
        *(first, largest, mean, member["hardware"], member["commit"]),
      ]
    )
  lines += text_table.markdown(rows, left=(1, 2, 7, 8))
  return "\n".join(lines) + "\n"


def plot_steps(members: list[dict[str, Any]], path: pathlib.Path) -> None:
  """Plots the cross-entropy by step, one line per width and variant."""
  figure = plotting.new_figure(8, 4.5)
  axis = figure.add_subplot()
  for member in members:
    axis.plot(
      range(1, len(member["cross_entropy"]) + 1),
      member["cross_entropy"],
      label=f"{member['variant']}, width {member['width']:g}",
      linewidth=1,
    )
  axis.axhline(math.log(7), color="gray", linestyle=":", label="ln 7")
  axis.set(xlabel="step", ylabel="cross-entropy of the batch (nats)", yscale="log")
  # Plain numbers: the range is rarely a whole decade.
  for set_formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
    set_formatter(ticker.StrMethodFormatter("{x:g}"))
  axis.legend(frameon=False, fontsize=8)
  plotting.clean(axis)
  plotting.save(figure, path)


def run(args: Any) -> None:
  """Runs the missing steps and writes the table."""
  folder = pathlib.Path(args.workdir)
  widths = [float(width) for width in args.widths]
  folder.mkdir(parents=True, exist_ok=True)
  config = build_config(DEFAULT, 1.0, args.data_dir)
  datasets, members = run_data.load_data(config, ("train", "validation")), []
  pixels = pixel_form.main_form(datasets["train"].form_counts) or "unknown"

  for width in widths:
    for variant in args.variants:
      path = folder / f"{pixels}-{variant}-width{width:g}-{args.steps}steps.json"
      if not path.exists():
        config = build_config(variant, width, args.data_dir)
        logging.info("Width %g, %s: %d steps", width, variant, args.steps)
        member = {
          "width": width,
          "variant": variant,
          "num_steps": args.steps,
          "pixels": pixels,
        }
        member |= measure(config, datasets, args.steps)
        files.write_report(path, member)
      remedy = "delete it to measure again"
      members.append(read_json(path, {"cross_entropy": [float]}, remedy=remedy))

  table = format_table(members)
  files.write_atomically(folder / "first_steps.md", table.encode())
  plot_steps(members, folder / "first_steps.png")
  print(table)


def measure(
  config: ml_collections.ConfigDict, datasets: Mapping[str, Dataset], num_steps: int
) -> dict[str, Any]:
  """The steps' cross-entropy, and its provenance."""
  made_by = provenance.provenance()
  began = time.monotonic()
  return {
    "cross_entropy": first_cross_entropies(config, datasets, num_steps),
    "seconds": time.monotonic() - began,
    **{key: made_by[key] for key in ("hardware", "command", "commit")},
  }


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", "runs/first_steps", "Output folder.")
  flags.DEFINE_string("data_dir", "data", "Zip, CSV or folder of FER-2013.")
  flags.DEFINE_list(
    "widths", ["0.125", "0.25", "1"], "Width multipliers of EmoSynthNet."
  )
  flags.DEFINE_list(
    "variants",
    [DEFAULT, "ce", "thesis"],
    "Variants of configs/fer2013.py, for example default,ce,thesis+ce, where default "
    "is none.",
  )
  flags.DEFINE_integer(
    "steps", 100, "Number of steps of each run, at most one epoch.", 2
  )


if __name__ == "__main__":
  cli.run(define_flags, run)
