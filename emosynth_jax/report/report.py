"""Builds the report of a run, or of several."""

import pathlib
from typing import Any

from emosynth_jax.report import (
  comparison_page,
  examples,
  paired_images,
  predictions,
  run_files,
  run_page,
)
from emosynth_jax.utils import files
from emosynth_jax.workdir import provenance

# Flags without effect for several runs, for which no network is run, with defaults.
ONE_RUN_DEFAULTS = {
  "audit": None,
  "images": True,
  "mistakes": 12,
  "embedded": 2000,
  "layer": None,
  "batch_size": 256,
  "data_dir": None,
}


def write_page(args: Any) -> pathlib.Path:
  """Writes the report specified by the flags.

  Args:
    args: the flags.

  Returns:
    The file.

  Raises:
    FileNotFoundError: if a run, its checkpoint or its data is missing.
    ValueError: for runs that can't be compared, data that is not the run's, or a flag
      without effect for several runs.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  if args.output:
    files.check_output(args.output)
  workdirs = run_files.expand_workdirs(args.workdir)
  if args.paired and len(workdirs) != 2:
    raise ValueError(f"--paired: expected two runs, got {len(workdirs)}")
  if len(workdirs) > 1:
    _refuse_idle_flags(args, len(workdirs))
  runs = [run_files.read_run(workdir) for workdir in workdirs]
  first = pathlib.Path(args.workdir[0])
  if len(runs) == 1:
    file = pathlib.Path(args.output or first / "report.html")
    html = _page_of_one(runs[0], args)
  else:
    file = pathlib.Path(args.output or first / "comparison.html")
    paired = None
    if args.paired:
      baseline, ours = (_answers(run, args) for run in runs)
      paired = paired_images.compare(ours, baseline)
    made_by = provenance.provenance()
    html = comparison_page.build(runs, made_by=made_by, paired=paired)
  files.write_atomically(file, html.encode())
  return file


def _answers(run: run_files.RunFiles, args: Any) -> predictions.Answers:
  return predictions.compute_answers(
    run.workdir,
    run.reported_split,
    data_dir=args.data_dir,
    batch_size=args.batch_size,
  )


def _refuse_idle_flags(args: Any, number: int) -> None:
  idle = [
    name for name, value in ONE_RUN_DEFAULTS.items() if getattr(args, name) != value
  ]
  if args.paired:
    idle = [name for name in idle if name not in ("data_dir", "batch_size")]
  if idle:
    listed = ", ".join("--noimages" if n == "images" else f"--{n}" for n in idle)
    raise ValueError(
      f"{listed}: no effect on a page of {number} runs, which has no images, "
      "embeddings or audit and runs no network; omit it, or write one page per run"
    )


def _page_of_one(run: Any, args: Any) -> str:
  audit = None
  if args.audit:
    audit = run_files.read_audit(args.audit, run)
  elif (run.workdir / "audit.json").exists():
    audit = run_files.read_audit(run.workdir, run)

  options = examples.ExampleOptions(
    num_mistakes=args.mistakes,
    num_embedded=args.embedded,
    layer=args.layer,
    batch_size=args.batch_size,
  )
  return run_page.build(
    run,
    audit=audit,
    answered=_answers(run, args) if args.images else None,
    options=options,
    made_by=provenance.provenance(),
  )
