"""The command of a single figure: its flags, its help and its mistakes."""

import json
import pathlib
import sys

import commands
import pytest

from experiments import figure as command
from experiments.lib import figure_commands, thesis_figures

# Parses command lines, in a process that has no other command's flags: the values of
# those that each figure defines, as the line gives them and by default.
_PARSE = """
import json, sys
from absl import flags
from experiments import figure as command
found = []
for line in json.loads(sys.argv[1]):
  before = set(flags.FLAGS)
  command.define_flags(command.choose(line[2:]))
  own = sorted(set(flags.FLAGS) - before)
  defaults = {name: flags.FLAGS[name].default for name in own}
  flags.FLAGS(line[2:])
  found.append([{name: flags.FLAGS[name].value for name in own}, defaults])
  for name in own:
    delattr(flags.FLAGS, name)
print(json.dumps(found))
"""


def test_every_figure_takes_its_command():
  figures = [
    (figure, scale, [f"runs/{i}" for i in range(len(figure.rows))])
    for scale in ("full", "small")
    for figure in thesis_figures.figures_of(scale)
  ]
  lines = [
    figure_commands.command_of(figure, own, scale, pathlib.Path("out"), "there")
    for figure, scale, own in figures
  ]
  done = commands.run("-c", _PARSE, json.dumps(lines))
  assert done.returncode == 0, done.stderr

  for (figure, _, own), (values, defaults) in zip(
    figures, json.loads(done.stdout), strict=True
  ):
    assert values["output"] == "out"
    if not own:
      assert values["data_dir"] == "there"
    elif "compare" in values:
      assert [values["workdir"], *values["compare"]] == own
    else:
      assert values["workdir"] == own
    # Only t-SNE reads --points; figure 5.4 alone draws all images by default.
    tsne = "t-SNE of the embeddings" in figure.title
    points = {"5.4": 0}.get(figure.numbers[0], 2000) if tsne else None
    assert defaults.get("points") == points
    if figure.numbers == ("4.5",):
      assert defaults["grid"] == 21


def test_figures_are_chosen_by_any_of_their_numbers():
  figures = thesis_figures.figures_of("small")
  chosen = thesis_figures.choose(figures, ["3.9", "5.1"])
  assert [figure.stem for figure in chosen] == ["figure_3_8", "figure_5_1"]
  assert thesis_figures.choose(figures, []) == figures
  assert command.choose(["3.11", "--workdir=a"]).numbers == ("3.10", "3.11")
  with pytest.raises(ValueError, match=r"no figure '3\.3'; available: 3\.4, 3\.5"):
    thesis_figures.choose(figures, ["3.3"])


@pytest.mark.parametrize(
  ("arguments", "error"),
  [
    ([], "expected the number of a figure as the first argument"),
    (["--workdir=a", "4.3"], "expected the number of a figure as the first argument"),
    (["figure_4_3"], "no figure 'figure_4_3'; available: 3.4"),
  ],
)
def test_a_missing_or_unknown_number_is_one_line(arguments, error, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["figure", *arguments])
  with pytest.raises(SystemExit) as ended:
    command.main()
  assert ended.value.code == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f"error: {error}")


def test_every_figure_is_listed_and_has_help(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["figure", "--list"])
  command.main()
  listed = capsys.readouterr().out.rpartition("\n\n")[2].splitlines()
  for figure, line in zip(thesis_figures.figures_of("small"), listed, strict=True):
    assert line.split() == [*", ".join(figure.numbers).split(), *figure.title.split()]
    text = figure_commands.help_of(figure)
    assert f"  python -m experiments.figure {figure.numbers[0]}" in text
    assert text.count("=runs/tables-small/") == len(figure.rows)
    assert all(word in text for line in figure.training for word in line)
    assert " ".join(text.split()).endswith(figure.notes[-1])


@pytest.mark.parametrize(
  ("number", "listed", "note"),
  [
    ("4.5", "--compare", "The plane is that of figure 4.4."),
    pytest.param(
      *("5.1", "--images", "--workdir=runs/tables-small/fer2013-mam_sce-seed0"),
      marks=pytest.mark.slow,
    ),
  ],
)
def test_help_lists_flags_that_are_defined_elsewhere(number, listed, note):
  done = commands.run("-m", "experiments.figure", number, "--help")
  text, _, listing = done.stdout.partition("flags:")
  assert note in " ".join(text.split()), done.stderr
  for flag in ("--workdir", "--output", listed):
    assert flag in listing
