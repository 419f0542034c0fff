"""The leaderboard of FER-2013 and FER+, from finished runs.

  python -m experiments.leaderboard --workdirs=runs/fer_vgg,runs/emosynthnet
  python -m experiments.leaderboard --workdirs=runs/a --output=leaderboard.md

A folder is a run's, or one with the seeds.json of a command with --seeds. The runs are
added to those of the JSON file beside the page, which is all that the page is made
from: their folders are not needed again. Runs that differ in their seed alone are one
line. Published claims and their caveats are in a separate table. The rules for entries
are on the page; "notes" of the JSON file are above its tables.
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
    "workdirs",
    [],
    "Folders of finished runs of FER-2013 or FER+ to add, separated by commas.",
  )
  flags.DEFINE_bool("time", True, "Time each network on one face.")
  flags.DEFINE_string(
    "output",
    "runs/leaderboard.md",
    "Markdown file to write; the runs are kept in the JSON file beside it.",
  )


def make_page(args: Any) -> None:
  """Adds the runs to those that are known, and writes the page."""
  output = pathlib.Path(args.output)
  path = output.with_suffix(".json")
  if path == output:
    raise ValueError(f"--output: expected a Markdown file, as page.md, got {output}")
  output.parent.mkdir(parents=True, exist_ok=True)
  files.check_output(output)
  known, notes = leaderboard.read_known(path)
  records = leaderboard.merge(known, leaderboard.read_runs(args.workdirs))
  if not records:
    raise ValueError(
      f"--workdirs: expected at least one folder of a finished run, as {path} has none"
    )
  entries = leaderboard.entries_of(records)
  times = [leaderboard.milliseconds(entry) for entry in entries] if args.time else []
  page = leaderboard.format_page(
    entries, literature.FER2013, provenance.provenance(), times, notes
  )
  files.write_report(path, {"notes": notes, "runs": records})
  files.write_atomically(output, page.encode())
  print(
    f"{output}: {len(records)} runs, {len(entries)} entries, "
    f"{len(literature.FER2013)} claims"
  )


if __name__ == "__main__":
  cli.run(define_flags, make_page)
