"""Whole training runs for `accelerator`, with time to a target accuracy."""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks import attempts
from emosynth_jax.workdir.metric_writer import read_records


class Run(NamedTuple):
  """A run of the project's training command.

  Attributes:
    config: value of --config, without the folder.
    target: target accuracy on validation images, or None.
    data_dir: where the data is, below --data_dir.
    settings: further settings of the config.
  """

  config: str
  target: float | None
  data_dir: str
  settings: tuple[str, ...] = ()


# Four times the recipe's batch, to fill an accelerator, at as many times its rate.
_LARGE = ("batch_size=256", "optimizer.learning_rate=0.04", "eval_batch_size=1024")
RUNS = {
  "mnist": Run("mnist.py:strong", 0.99, "tfds", (*_LARGE, "num_epochs=6")),
  "cifar10": Run("cifar10.py:strong", 0.94, "tfds", (*_LARGE, "num_epochs=40")),
  "fer2013": Run("fer2013.py:strong", None, "", (*_LARGE, "num_epochs=40")),
}
DRY_RUN = Run("synthetic_faces.py:fer_vgg,small", 0.0, "")


def whole_run(run: Run, data_dir: str, workdir: pathlib.Path, *, tiny: bool) -> str:
  """Trains by the project's command, and reports the time and the accuracy.

  Args:
    run: what to train.
    data_dir: see `Run`.
    workdir: the run's folder. An unfinished run in it is resumed, which is reported.
    tiny: whether to train one epoch of a handful of images.

  Returns:
    A sentence.

  Raises:
    FileExistsError: if there is a finished run in the folder.
    RuntimeError: if the command fails.
  """
  if (workdir / "report.json").exists():
    raise FileExistsError(
      f"{workdir} has a finished run, which would only be evaluated: use another "
      "--workdir"
    )
  resumed = (workdir / "metrics.jsonl").exists()
  command = [
    sys.executable,
    "-m",
    "emosynth_jax.main",
    f"--config={pathlib.Path(__file__).parents[1] / 'configs' / run.config}",
    f"--config.data.data_dir={os.path.join(data_dir, run.data_dir)}",
    f"--workdir={workdir}",
    "--config.model.dtype=bfloat16",
    *(f"--config.{setting}" for setting in run.settings),
  ]
  if tiny:
    command += [
      "--config.data.limit=64",
      "--config.num_epochs=1",
      "--config.batch_size=8",
      "--config.model.width=0.02",
    ]
  began = time.monotonic()
  if code := subprocess.run(command, check=False).returncode:
    raise RuntimeError(
      f"{' '.join(command[1:])}: {attempts.describe_end(code, '')}, see the output "
      "above"
    )
  wall = time.monotonic() - began
  report = json.loads((workdir / "report.json").read_text())
  accuracy = 100 * report["splits"]["test"]["accuracy"]
  return (
    f"{run.config}: {describe(workdir, run.target)}; the command"
    f"{', which resumed a run,' if resumed else ''} took {wall:.1f} s; "
    f"test split {accuracy:.2f} %"
  )


def describe(workdir: pathlib.Path, target: float | None) -> str:
  """Time to a target validation accuracy, and total time of a run.

  Args:
    workdir: the run's folder.
    target: an accuracy, or None.

  Returns:
    Text for a report.
  """
  elapsed, reached = 0.0, None
  records = zip(
    read_records(workdir / "metrics.jsonl"),
    read_records(workdir / "timing.jsonl"),
    strict=True,
  )
  for record, timing in records:
    elapsed += timing["seconds"]
    if reached is None and target is not None:
      if record.get("validation/accuracy", 0.0) >= target:
        reached = f"{100 * target:g} % on validation after {elapsed:.1f} s"
  whole = f"{elapsed:.1f} s of epochs (compilation and saves included)"
  if target is None:
    return whole
  return f"{reached or f'{100 * target:g} % not reached'}, {whole}"


def whole_runs(
  runs: Mapping[str, Run],
  data_dir: str,
  root: pathlib.Path,
  failures: list[str],
  *,
  tiny: bool,
) -> None:
  """Trains sequentially, and prints the time of each run, or why it failed."""
  for name, run in runs.items():
    with attempts.in_one_line(name, failures):
      text = whole_run(run, data_dir, root / name, tiny=tiny)
      print(text, flush=True)
