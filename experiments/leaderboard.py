"""The leaderboard of FER-2013, from finished runs.

  python -m experiments.leaderboard --workdirs=runs/fer_vgg,runs/emosynthnet
  python -m experiments.leaderboard --workdirs=runs/a --output=leaderboard.md

A folder is a run's, or one with the seeds.json of a command with --seeds. Runs that
differ in their seed alone are one line. Published claims, with their doubts, stand in a
table of their own. The rules for entries are on the page.
"""

import pathlib

from absl import app, flags

from emosynth_jax.utils import cli, files
from emosynth_jax.workdir import provenance
from experiments.lib import leaderboard, literature

_WORKDIRS = flags.DEFINE_list(
  "workdirs", [], "Folders of finished runs of FER-2013, separated by commas."
)
_OUTPUT = flags.DEFINE_string(
  "output", "runs/leaderboard.md", "Markdown file to write."
)
_TRACEBACK = flags.DEFINE_bool(
  "traceback", False, "Show where in the code an error about the input came from."
)


def main(argv: list[str]) -> None:
  """Reads the runs and writes the page."""
  cli.expect_flags_only(argv)
  cli.start_logging()
  with cli.mistakes_in_one_line(_TRACEBACK.value):
    if not _WORKDIRS.value:
      raise ValueError("--workdirs: expected at least one folder of a finished run")
    entries = leaderboard.read_entries(_WORKDIRS.value)
    page = leaderboard.format_page(entries, literature.FER2013, provenance.provenance())
    output = pathlib.Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output, page.encode())
    print(f"{output}: {len(entries)} entries, {len(literature.FER2013)} claims")


if __name__ == "__main__":
  app.run(main)
