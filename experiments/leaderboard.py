"""The leaderboard of FER-2013 and FER+, from finished runs.

  python -m experiments.leaderboard --workdirs=runs/fer_vgg,runs/emosynthnet
  python -m experiments.leaderboard --workdirs=runs/a --output=leaderboard.md

A folder is a run's, or one with the seeds.json of a command with --seeds. Runs that
differ in their seed alone are one line. Published claims, with their doubts, stand in a
table of their own. The rules for entries are on the page.
"""

import pathlib
from typing import Any

from absl import flags

from emosynth_jax.utils import cli, files
from emosynth_jax.workdir import provenance
from experiments.lib import leaderboard, literature


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_list(
    "workdirs", [], "Folders of finished runs of FER-2013 or FER+, separated by commas."
  )
  flags.DEFINE_bool("time", True, "Whether each network is timed on one face.")
  flags.DEFINE_string("output", "runs/leaderboard.md", "Markdown file to write.")


def make_page(given: Any) -> None:
  """Reads the runs and writes the page."""
  if not given.workdirs:
    raise ValueError("--workdirs: expected at least one folder of a finished run")
  entries = leaderboard.read_entries(given.workdirs)
  times = [leaderboard.milliseconds(entry) for entry in entries] if given.time else []
  page = leaderboard.format_page(
    entries, literature.FER2013, provenance.provenance(), times
  )
  output = pathlib.Path(given.output)
  files.write_atomically(output, page.encode())
  print(f"{output}: {len(entries)} entries, {len(literature.FER2013)} claims")


if __name__ == "__main__":
  cli.run(define_flags, make_page)
