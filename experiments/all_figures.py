"""Reproduces all figures of the thesis: trains the missing runs and plots them.

  python -m experiments.all_figures                                   # a GPU
  python -m experiments.all_figures --scale=small --face_epochs=6     # two CPU cores
  python -m experiments.all_figures --scale=small --only=3.5,5.3

Runs are shared with the tables: what a table has trained is not trained again. A figure
whose data set is missing is listed as not run, with instructions; a failed figure is
reported in one line, and the others continue. Rerun the command to resume; images are
redrawn.

Outputs, in --output: the images, for each a text file with its runs, commands and
commits, and index.html, a self-contained page of all figures, rewritten after each
figure.
"""

import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax.config import renamed
from emosynth_jax.utils import cli, files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.utils.stop_signal import StopSignal
from emosynth_jax.workdir import provenance
from experiments.lib import (
  comparison,
  comparison_rows,
  face_tables,
  figure_commands,
  figures_page,
  thesis_figures,
)
from experiments.lib.comparison_rows import Row
from experiments.lib.thesis_figures import Figure

DRAWN, NOT_RUN, FAILED = "drawn", "not run", "failed"


def make_figure(
  figure: Figure,
  workdir: pathlib.Path,
  output: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
) -> dict[str, Any]:
  """Trains the missing runs of a figure and plots it.

  Args:
    figure: of `thesis_figures.figures_of`.
    workdir: folder of the runs.
    output: folder of the images.
    seeds: number of seeds per run, from 0, for figures of several seeds.
    scale: as `comparison_rows.build_config` takes it.
    data_dir: data set directory, with TFDS data sets in its tfds/; None for the
      configs' own.

  Returns:
    "state", `DRAWN`, `NOT_RUN` or `FAILED`; "reason" if it was not plotted, else
    "command", "plots" and "seconds" (of plotting).
  """
  count = seeds if figure.every_seed else 1
  workdirs = []
  try:
    needed = figure.rows or [Row(figure.title, figure.data)]
    for row in needed:
      where = data_dir_of(row, data_dir)
      arguments: dict[str, Any] = {"seeds": count, "scale": scale, "data_dir": where}
      if figure.rows:
        done = comparison.run_rows([row], workdir, **arguments, options=None)
        finished = len(done.get(row.label, ())) == count
      else:
        finished = False
      if not finished and (missing := face_tables.missing_data(row, scale, where)):
        return {"state": NOT_RUN, "reason": missing}
      if figure.rows:
        comparison.run_rows([row], workdir, **arguments)
        workdirs += [
          comparison_rows.run_folder(workdir, row, seed) for seed in range(count)
        ]
  # Includes non-finite losses, damaged checkpoints and lack of memory.
  except (ValueError, OSError, RuntimeError) as error:
    return {"state": FAILED, "reason": str(error) or repr(error)}
  command = figure_commands.command_of(figure, workdirs, scale, output, where)
  return draw(figure, command, output)


def data_dir_of(row: Row, data_dir: str | None) -> str | None:
  """Directory of a row's data set below a folder with the configs' layout."""
  if data_dir is None:
    return None
  usual = comparison_rows.build_config(row, 0, "small", None).data.data_dir
  return str(pathlib.Path(data_dir) / pathlib.Path(usual).relative_to("data"))


def draw(
  figure: Figure, command: Sequence[str], output: pathlib.Path
) -> dict[str, Any]:
  """Plots a figure in a subprocess; see `make_figure`."""
  output.mkdir(parents=True, exist_ok=True)
  before = _plots(figure, output)
  began = time.monotonic()
  # The subprocess shares stdout and stderr, which have its error message.
  with (
    subprocess.Popen([sys.executable, *command]) as process,
    StopSignal(ends_process=True) as stop,
  ):

    def end_child() -> None:
      process.kill()
      process.wait()

    stop.at_once = end_child
    code = process.wait()
  shown = shlex.join(["python", *command])
  if code:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return {"state": FAILED, "reason": f"{shown} ended with {how}", "command": shown}
  after = _plots(figure, output)
  return {
    "state": DRAWN,
    "command": shown,
    # Without images of other runs, left by an earlier command.
    "plots": sorted(n for n, when in after.items() if before.get(n) != when),
    "seconds": round(time.monotonic() - began, 1),
  }


def _plots(figure, output):
  # As in figure_3_5.png, figure_3_6-mnist-....png, figure_4_4_contour.png.
  paths = output.glob(f"{figure.stem}[-._]*")
  return {p.name: p.stat().st_mtime_ns for p in paths if p.suffix == ".png"}


def make_all(args: Any) -> list[dict[str, Any]]:
  """Reproduces the figures selected by the flags.

  Returns:
    A record for each, as `make_figure`.

  Raises:
    ValueError: see `thesis_figures.choose`; for a damaged figures.json.
  """
  figures = thesis_figures.figures_of(args.scale, args.face_epochs)
  chosen = thesis_figures.choose(figures, args.only)
  workdir = comparison.workdir_of(args)
  output = pathlib.Path(args.output or workdir / "figures")
  output.mkdir(parents=True, exist_ok=True)
  records = read_records(output)
  own = []
  for i, figure in enumerate(chosen, start=1):
    logging.info("%d of %d: %s.", i, len(chosen), figure.name)
    record = make_figure(figure, workdir, output, **comparison.selection_of(args))
    if record["state"] != DRAWN:
      logging.warning("%s: %s: %s", figure.name, record["state"], record["reason"])
    own.append({"figure": figure.name} | record)
    records[figure.stem] = record
    files.write_report(output / "figures.json", records)
    page = figures_page.build(figures, records, output, provenance.provenance())
    files.write_atomically(output / "index.html", page.encode())
  logging.info("Wrote the figures and index.html to %s.", output)
  return own


def read_records(output: pathlib.Path) -> dict[str, Mapping[str, Any]]:
  """Reads figures.json of a folder: the records of its figures, by their stems.

  Raises:
    ValueError: if the file is damaged.
  """
  path = output / "figures.json"
  if not path.exists():
    return {}
  stored = read_json(path, remedy="delete it to regenerate the figures")
  return renamed.with_new_names(stored)


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_list("only", [], "Figure numbers, for example 3.5,5.3; by default all.")
  comparison.define_scale()
  cli.define_seeds(1, "Seeds of curves and embeddings.")
  flags.DEFINE_integer(
    "face_epochs",
    0,
    "Maximum number of epochs on the face data sets; 0 for the scale's default.",
    0,
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Data set directory, with TFDS data sets in its tfds/. By default data.",
  )
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the runs, shared with the tables. By default runs/tables-SCALE.",
  )
  flags.DEFINE_string(
    "output", None, "Output folder of the images. By default figures in the workdir."
  )


def report(args: Any) -> None:
  """Reproduces the figures; exits with exit code 1 if one failed."""
  records = make_all(args)
  for record in records:
    reason = record.get("reason") or ", ".join(record["plots"])
    print(f"{record['figure']}: {record['state']}: {reason}")
  if failed := [r["figure"] for r in records if r["state"] == FAILED]:
    cli.fail(f"{len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
  cli.run(define_flags, report)
