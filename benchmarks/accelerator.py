"""EmoSynthNet on one GPU or TPU: checked, timed and set beside torch.compile.

  python -m benchmarks.accelerator --data_dir=data
  python -m benchmarks.accelerator --dry_run     # a tiny network on whatever is there

It has not been run on one: its throughput part alone, as --dry_run, on a CPU.

Whole epochs as one scan in bfloat16, under a guard that refuses any transfer between
host and device inside of an epoch: images a second, the share of the device's rate,
the ratio to PyTorch (torch.compile, autocast to bfloat16, channels-last), where torch
is installed with CUDA. Then whole runs of `emosynth_jax.main`: how long until 99 % on
MNIST's and 94 % on CIFAR-10's validation images, and FER-2013 to its end, each with
the test split's accuracy by the epoch that validation chose.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from absl import app, flags, logging

from emosynth_jax import command_line

# Dense bfloat16 FLOP/s by the makers' data sheets, by a part of JAX's device_kind.
PEAKS = {
  "H200": 989e12,
  "H100": 989e12,
  "A100": 312e12,
  "L40S": 362e12,
  "L4": 121e12,
  "TPU v6": 918e12,
  "TPU v5p": 459e12,
  "TPU v5 lite": 197e12,
  "TPU v4": 275e12,
}


class Run(NamedTuple):
  """A run of the project's training command.

  Attributes:
    config: what --config is, without the folder.
    target: accuracy on validation images whose time is wanted; None for none.
    data_dir: where the data is, below --data_dir.
  """

  config: str
  target: float | None
  data_dir: str


RUNS = (
  Run("mnist.py:strong", 0.99, "tfds"),
  Run("cifar10.py:strong", 0.94, "tfds"),
  Run("fer2013.py:strong", None, ""),
)
_DRY_RUN = Run("synthetic_faces.py:fer_vgg,small", 0.0, "")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_bool("dry_run", False, "Tiny sizes, on any device, in a minute.")
  flags.DEFINE_string("data_dir", "data", "Folder of fer2013.zip and tfds/.")
  flags.DEFINE_integer("batch", 512, "Images of a step.", 1)
  flags.DEFINE_integer("steps", 50, "Steps of an epoch.", 1)
  flags.DEFINE_integer("epochs", 5, "Timed epochs.", 1)
  flags.DEFINE_list("parts", ["throughput", "runs"], "Of throughput and runs.")


def peak(device_kind: str) -> float | None:
  """The data sheet's bfloat16 FLOP/s of a device, or None if it is not known here."""
  return next((rate for part, rate in PEAKS.items() if part in device_kind), None)


def throughput(data: str, width: str, batch: int, steps: int, epochs: int) -> list[str]:
  """A table's row: images/s, share of peak, and PyTorch's."""
  import jax

  from benchmarks import cases, measure

  case = cases.Case(data, width, batch)
  run = cases.training(case, steps, dtype="bfloat16")
  run()  # Compiles.
  with jax.transfer_guard("disallow"):
    seconds = measure.alternate({"": run}, epochs)[""]
  ours = batch * steps / statistics.median(seconds)
  operations = 6 * cases.multiply_adds(case) * ours
  known = peak(jax.devices()[0].device_kind)
  row = [str(case), f"{ours:.0f}", f"{operations / 1e12:.3g}"]
  row.append(f"{100 * operations / known:.1f} %" if known else "unknown")
  theirs = _torch_throughput(case, steps, epochs)
  row += [f"{theirs:.0f}", f"{ours / theirs:.2f}"] if theirs else ["not run", ""]
  return row


def _torch_throughput(case, steps, epochs):
  from benchmarks import measure

  try:
    import torch
  except ImportError:
    logging.warning("torch is not installed: pip install -e '.[benchmark]'")
    return None
  if not torch.cuda.is_available():
    logging.warning("torch sees no CUDA device")
    return None
  from benchmarks import torch_cases

  run = torch_cases.training(case, "compile", steps, device="cuda", mixed=True)
  run()
  seconds = measure.alternate({"": run}, epochs)[""]
  return case.batch * steps / statistics.median(seconds)


def whole_run(run: Run, data_dir: str, workdir: pathlib.Path, *, tiny: bool) -> str:
  """Trains by the project's command, and tells the time and the accuracy.

  Args:
    run: what to train.
    data_dir: see `Run`.
    workdir: the run's folder.
    tiny: whether to train one epoch of a handful of images.

  Returns:
    A sentence.

  Raises:
    RuntimeError: if the command fails.
  """
  command = [
    sys.executable,
    "-m",
    "emosynth_jax.main",
    f"--config={pathlib.Path(__file__).parents[1] / 'configs' / run.config}",
    f"--config.data.data_dir={os.path.join(data_dir, run.data_dir)}",
    f"--workdir={workdir}",
    "--config.model.dtype=bfloat16",
  ]
  if tiny:
    command += [
      "--config.data.limit=64",
      "--config.num_epochs=1",
      "--config.batch_size=8",
      "--config.model.width=0.02",
    ]
  if subprocess.run(command, check=False).returncode:
    raise RuntimeError(f"{' '.join(command[1:])} failed")
  report = json.loads((workdir / "report.json").read_text())
  accuracy = 100 * report["splits"]["test"]["accuracy"]
  return f"{run.config}: {describe(workdir, run.target)}; test split {accuracy:.2f} %"


def describe(workdir: pathlib.Path, target: float | None) -> str:
  """When a run's validation accuracy came to a target, and when the run ended.

  Args:
    workdir: the run's folder.
    target: an accuracy, or None.

  Returns:
    Words for a report.
  """
  from emosynth_jax.metric_writer import read_records

  elapsed, reached = 0.0, None
  records = zip(
    read_records(workdir / "metrics.jsonl"),
    read_records(workdir / "timing.jsonl"),
    strict=True,
  )
  for record, timing in records:
    elapsed += timing["seconds"]
    if reached is None and target is not None:
      if record["validation/accuracy"] >= target:
        reached = f"{100 * target:g} % on validation after {elapsed:.1f} s"
  whole = f"whole run {elapsed:.1f} s of epochs, compilation included"
  if target is None:
    return whole
  return f"{reached or f'{100 * target:g} % not reached'}, {whole}"


def main(argv: list[str]) -> None:
  """Prints the table and the runs."""
  del argv
  command_line.start_logging()
  values = flags.FLAGS
  if unknown := sorted(set(values.parts) - {"throughput", "runs"}):
    command_line.fail(f"--parts: expected throughput or runs, got {unknown[0]!r}")
  import jax

  from benchmarks import measure
  from emosynth_jax import results

  if jax.default_backend() == "cpu" and not values.dry_run:
    command_line.fail(
      "JAX sees no accelerator: install JAX for it (pip install 'jax[cuda13]'), or try "
      "the script with --dry_run"
    )
  where = results.provenance()
  print(f"{where['hardware']}\n{where['date']}, commit {where['commit']}")
  if "throughput" in values.parts:
    if values.dry_run:
      rows = [throughput("tiny", "tiny", 4, 2, 2)]
    else:
      sizes = values.batch, values.steps, values.epochs
      rows = [throughput(data, "full", *sizes) for data in ("cifar10", "fer2013")]
    header = ["bfloat16", "images/s", "TFLOP/s", "of peak", "torch", "ours to it"]
    print(measure.format_rows(header, rows))
  if "runs" in values.parts:
    for run in (_DRY_RUN,) if values.dry_run else RUNS:
      with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        print(whole_run(run, values.data_dir, workdir, tiny=values.dry_run))


if __name__ == "__main__":
  define_flags()
  app.run(main)
