"""Draws one figure of the thesis from finished runs.

  python -m experiments.figure 4.3 --workdir=runs/ce --workdir=runs/mam
  python -m experiments.figure 4.3 --help   # its runs, their training, its flags
  python -m experiments.figure --list       # all figures

`experiments.all_figures` trains the runs that are missing, and draws every figure.
Outputs, in --output: the images, and for each a text file with the runs, seeds,
commands and commits behind it.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.curvature import command as curvature_command
from emosynth_jax.analysis.loss_landscape import command as landscape_command
from emosynth_jax.utils import cli as command_cli
from experiments.lib import (
  figure_commands,
  figures,
  figures_of_networks,
  figures_of_planes,
  figures_of_runs,
  figures_of_samples,
  figures_of_toy_networks,
  thesis_figures,
)
from experiments.lib.thesis_figures import Figure


class Kind(NamedTuple):
  """Flags and function of one kind of figure.

  Attributes:
    define_flags: defines its flags.
    draw: takes their values and the path of the image.
  """

  define_flags: Callable[[], None]
  draw: Callable[[Any, pathlib.Path], None]


def _curves_and_confusions(args, path):
  figures_of_runs.draw_curves(args, path)
  figures_of_runs.draw_confusions(args, path)


# Keys: the kinds in `thesis_figures`.
KINDS = {
  "curves": Kind(figures.define_flags, figures_of_runs.draw_curves),
  "accuracies": Kind(
    figures.define_flags,
    functools.partial(figures_of_runs.draw_curves, panels=figures_of_runs.ACCURACIES),
  ),
  "confusions": Kind(figures.define_flags, figures_of_runs.draw_confusions),
  "curves and confusions": Kind(figures.define_flags, _curves_and_confusions),
  "saliency": Kind(
    functools.partial(figures.define_flags, images=256),
    figures_of_networks.draw_saliency,
  ),
  "embeddings": Kind(
    functools.partial(figures.define_flags, images=10_000, points=2000),
    figures_of_networks.draw_embeddings,
  ),
  "landscape": Kind(landscape_command.define_flags, figures_of_planes.draw_landscape),
  "curvature": Kind(curvature_command.define_flags, figures_of_planes.draw_curvature),
  "samples": Kind(figures_of_samples.define_flags, figures_of_samples.make_figure),
  "toy networks": Kind(
    figures_of_toy_networks.define_flags, figures_of_toy_networks.make_figure
  ),
}


def define_flags(figure: Figure) -> None:
  """Defines the flags of a figure, with its own defaults."""
  KINDS[figure.kind].define_flags()
  flags.DEFINE_string("output", "runs/figures", "Output folder of the images.")
  for name, value in figure.defaults.items():
    flags.FLAGS.set_default(name, value)


def draw(figure: Figure, args: Any) -> None:
  """Plots a figure into --output.

  Args:
    figure: of `thesis_figures.figures_of`.
    args: the flag values.
  """
  folder = pathlib.Path(args.output)
  folder.mkdir(parents=True, exist_ok=True)
  KINDS[figure.kind].draw(args, folder / f"{figure.stem}.png")


def choose(arguments: Sequence[str]) -> Figure:
  """Returns the figure whose number is the first argument.

  Args:
    arguments: the command line, without the program.

  Raises:
    ValueError: for a missing or unknown number.
  """
  if not arguments or arguments[0].startswith("-"):
    raise ValueError(
      "expected the number of a figure as the first argument, as in "
      "python -m experiments.figure 4.3; --list shows all"
    )
  (figure,) = thesis_figures.choose(thesis_figures.figures_of("small"), arguments[:1])
  return figure


def main() -> None:
  """Runs the command; invalid input exits with a one-line error."""
  arguments = sys.argv[1:]
  if arguments and arguments[0] in ("--list", "--help"):
    print(__doc__)
    print(figure_commands.format_list(), end="")
    return
  try:
    figure = choose(arguments)
  except ValueError as error:
    command_cli.fail(error)

  def define() -> None:
    before = set(flags.FLAGS)
    define_flags(figure)
    # absl's --help prints the main module's docstring, and the flags that it defines.
    command_cli.show_in_help(sorted(set(flags.FLAGS) - before))

  sys.modules["__main__"].__doc__ = figure_commands.help_of(figure)
  action = functools.partial(draw, figure)
  cli.run(define, action, argv=[sys.argv[0], *arguments[1:]])


if __name__ == "__main__":
  main()
