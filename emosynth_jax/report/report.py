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
  """Writes the report specified by the flags.

  Args:
    given: the flags.

  Returns:
    The file.

  Raises:
    FileNotFoundError: if a run, its checkpoint or its data is missing.
    ValueError: for runs that can't be compared, data that is not the run's, or a flag
      without effect for several runs.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  if given.output:
    files.check_output(given.output)
  workdirs = run_files.expand_workdirs(given.workdir)
  if given.paired and len(workdirs) != 2:
    raise ValueError(f"--paired: expected two runs, got {len(workdirs)}")
  if len(workdirs) > 1:
    _refuse_idle_flags(given, len(workdirs))
  runs = [run_files.read_run(workdir) for workdir in workdirs]
  first = pathlib.Path(given.workdir[0])
  if len(runs) == 1:
    file = pathlib.Path(given.output or first / "report.html")
    html = _page_of_one(runs[0], given)
  else:
    file = pathlib.Path(given.output or first / "comparison.html")
    paired = None
    if given.paired:
      baseline, ours = (_answers(run, given) for run in runs)
      paired = paired_images.compare(ours, baseline)
    made_by = provenance.provenance()
    html = comparison_page.build(runs, made_by=made_by, paired=paired)
  files.write_atomically(file, html.encode())
  return file


def _answers(run: run_files.RunFiles, given: Any) -> predictions.Answers:
  return predictions.compute_answers(
    run.workdir,
    run.reported_split,
    data_dir=given.data_dir,
    batch_size=given.batch_size,
  )


def _refuse_idle_flags(given: Any, number: int) -> None:
  idle = [name for name, value in _OF_ONE_RUN.items() if getattr(given, name) != value]
  if given.paired:
    idle = [name for name in idle if name not in ("data_dir", "batch_size")]
  if idle:
    listed = ", ".join("--noimages" if n == "images" else f"--{n}" for n in idle)
    raise ValueError(
      f"{listed}: no effect on a page of {number} runs, which has no images, "
      "embeddings or audit and runs no network; omit it, or write one page per run"
    )


def _page_of_one(run: Any, given: Any) -> str:
  audit = None
  if given.audit:
    audit = run_files.read_audit(given.audit, run)
  elif (run.workdir / "audit.json").exists():
    audit = run_files.read_audit(run.workdir, run)

  looks = examples.Looks(
    num_mistakes=given.mistakes,
    num_embedded=given.embedded,
    layer=given.layer,
    batch_size=given.batch_size,
  )
  return run_page.build(
    run,
    audit=audit,
    answered=_answers(run, given) if given.images else None,
    looks=looks,
    made_by=provenance.provenance(),
  )
