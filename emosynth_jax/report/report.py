"""One HTML page of a trained run, or of several side by side.

  python -m emosynth_jax.report --workdir=runs/ce
  python -m emosynth_jax.report --workdir=runs/ce --audit=runs/fer2013-audit
  python -m emosynth_jax.report --workdir=runs/ce --workdir=runs/mam

The page is one file that needs nothing else, on a screen, a phone or paper. Figures are
those of report.json; the network is run again for what the report does not hold: the
hardest images, Grad-CAM and the embedding, of the split reported. A folder with a
seeds.json stands for its seeds. Of several runs figures are set against the first's,
pair by pair of a seed, and no network is run. docs/reports.md has more.
"""

import pathlib
from typing import Any

from absl import app, flags, logging

from emosynth_jax import command_line

# What a page of several runs takes no notice of, with its default: it runs no network.
_OF_ONE_RUN = {
  "audit": None,
  "images": True,
  "mistakes": 12,
  "embedded": 2000,
  "layer": None,
  "batch_size": 256,
  "data_dir": None,
}


def write_page(given: Any) -> pathlib.Path:
  """Writes the page that the flags ask for.

  Args:
    given: the flags.

  Returns:
    The file.

  Raises:
    FileNotFoundError: if a run, its checkpoint or its data is missing.
    ValueError: for runs that can't be compared, data that is not the run's, or a flag
      that is of no effect on a page of several runs.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  from emosynth_jax import results
  from emosynth_jax.reporting import comparison_page, run_files

  workdirs = run_files.expand_workdirs(given.workdir)
  if len(workdirs) > 1:
    _refuse_idle_flags(given, len(workdirs))
  runs = [run_files.read_run(workdir) for workdir in workdirs]
  first = pathlib.Path(given.workdir[0])
  if len(runs) == 1:
    file = pathlib.Path(given.output or first / "report.html")
    html = _page_of_one(runs[0], given)
  else:
    file = pathlib.Path(given.output or first / "comparison.html")
    html = comparison_page.build(runs, made_by=results.provenance())
  file.parent.mkdir(parents=True, exist_ok=True)
  results.write_atomically(file, html.encode())
  return file


def _refuse_idle_flags(given: Any, number: int) -> None:
  idle = [name for name, value in _OF_ONE_RUN.items() if getattr(given, name) != value]
  if idle:
    listed = ", ".join("--noimages" if n == "images" else f"--{n}" for n in idle)
    raise ValueError(
      f"{listed}: of no effect on the page of {number} runs, which has no images, "
      "embeddings or audit and runs no network; leave it out, or make each run's own "
      "page"
    )


def _page_of_one(run: Any, given: Any) -> str:
  from emosynth_jax import results
  from emosynth_jax.reporting import answers, image_part, run_files, run_page

  audit = None
  if given.audit:
    audit = run_files.read_audit(given.audit, run)
  elif (run.workdir / "audit.json").exists():
    audit = run_files.read_audit(run.workdir, run)
  answered = None
  if given.images:
    answered = answers.compute_answers(
      run.workdir,
      run.reported_split,
      data_dir=given.data_dir,
      batch_size=given.batch_size,
    )
  looks = image_part.Looks(
    num_mistakes=given.mistakes,
    num_embedded=given.embedded,
    layer=given.layer,
    batch_size=given.batch_size,
  )
  return run_page.build(
    run,
    audit=audit,
    answered=answered,
    looks=looks,
    made_by=results.provenance(),
  )


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  command_line.use_compilation_cache()
  with command_line.mistakes_in_one_line(flags.FLAGS.traceback):
    file = write_page(flags.FLAGS)
  logging.info("The page is %s, %.1f MB.", file, file.stat().st_size / 1e6)
  print(file)


def define_flags() -> None:
  """The flags of this command."""
  from emosynth_jax.analysis import saliency_run

  flags.DEFINE_multi_string(
    "workdir",
    None,
    "Folder of a trained run, or of several seeds of one. Given several times, the "
    "page compares them.",
    required=True,
  )
  flags.DEFINE_string(
    "output",
    None,
    "The HTML file. By default report.html, or comparison.html, in the first workdir.",
  )
  flags.DEFINE_string(
    "audit",
    None,
    "Folder where emosynth_jax.audit audited the data set. By default the workdir, if "
    "there is an audit.json in it.",
  )
  flags.DEFINE_bool(
    "images",
    True,
    "Run the network for the hardest images, Grad-CAM and the embedding. --noimages "
    "needs neither checkpoint nor data.",
  )
  flags.DEFINE_integer(
    "mistakes",
    _OF_ONE_RUN["mistakes"],
    "How many of the most confident mistakes. This flag and those below, like --audit "
    "and --noimages, are of one run, and refused for several.",
    0,
  )
  flags.DEFINE_integer(
    "embedded",
    _OF_ONE_RUN["embedded"],
    "How many images the embedding's picture shows; 0 for all.",
    0,
  )
  flags.DEFINE_string("layer", None, saliency_run.LAYER_HELP)
  flags.DEFINE_integer("batch_size", _OF_ONE_RUN["batch_size"], "Images at a time.", 1)
  command_line.define_data_dir()
  command_line.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)


if __name__ == "__main__":
  run()
