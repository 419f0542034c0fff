"""Command lines and help of the thesis's figures."""

import pathlib
import shlex
import textwrap
from collections.abc import Sequence

from experiments.lib import comparison_rows, thesis_figures
from experiments.lib.thesis_figures import Figure


def command_of(
  figure: Figure,
  workdirs: Sequence[pathlib.Path],
  scale: str,
  output: pathlib.Path | None = None,
  data_dir: str | None = None,
) -> list[str]:
  """Returns the command line that plots a figure, without the interpreter.

  Args:
    figure: of `thesis_figures.figures_of`.
    workdirs: of its runs, in the order of its rows.
    scale: "full" or "small".
    output: folder of the images; None for the default.
    data_dir: data set directory of a figure without rows; None for the
      default.
  """
  own = [f"--workdir={each}" for each in workdirs]
  # Commands of a plane compare one run with others.
  if figure.kind in ("landscape", "curvature"):
    own[1:] = [f"--compare={','.join(map(str, workdirs[1:]))}"]
  if data_dir and not figure.rows:
    own.append(f"--data_dir={data_dir}")
  if output:
    own.append(f"--output={output}")
  own += figure.small if scale == "small" else figure.full
  return ["-m", "experiments.figure", figure.numbers[0], *own]


def help_of(figure: Figure) -> str:
  """Returns the help of a figure: title, commands, and notes.

  Args:
    figure: of `thesis_figures.figures_of` in the small scale.
  """
  folder = pathlib.Path("runs/tables-small")
  workdirs = [comparison_rows.run_folder(folder, row, 0) for row in figure.rows]
  number = figure.numbers[0]
  blocks = [f"{figure.name.capitalize()}: {figure.title}."]

  blocks += ["To plot it:", _shell(command_of(figure, workdirs, "small"))]
  if figure.rows:
    both = ["-m", "experiments.all_figures", "--scale=small", f"--only={number}"]
    blocks += ["To train its missing runs and plot it:", _shell(both)]
  if figure.training:
    blocks += ["To train its runs one by one:", *map(_shell, figure.training)]

  blocks += [textwrap.fill(note, 80) for note in figure.notes]
  return "\n\n".join(blocks) + "\n"


def _shell(command: Sequence[str]) -> str:
  """Formats a command line for a shell, with a line per flag if it is long."""
  words = ["python", *map(shlex.quote, command)]
  line = "  " + " ".join(words)
  if len(line) <= 80:
    return line
  first = next(i for i, word in enumerate(words) if word.startswith("--"))
  return "  " + " \\\n      ".join([" ".join(words[:first]), *words[first:]])


def format_list() -> str:
  """Returns a line for each figure with its numbers and title."""
  lines = [
    f"  {', '.join(f.numbers):<12}{f.title}" for f in thesis_figures.figures_of("full")
  ]
  return "\n".join(lines) + "\n"
