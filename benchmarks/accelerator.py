"""Benchmark of EmoSynthNet on one GPU or TPU, with torch.compile as reference.

  python -m benchmarks.accelerator --data_dir=data
  python -m benchmarks.accelerator --parts=mnist --workdir=runs/accelerator
  python -m benchmarks.accelerator --dry_run     # a tiny network on any device

Whole epochs as one scan in bfloat16, with transfers between host and device disallowed
within an epoch: images per second, the share of the device's peak, the ratio to PyTorch
(torch.compile, autocast to bfloat16, channels-last), if torch is installed with CUDA.
Before timing, PyTorch's logits with shared weights are compared with the JAX network's
on the CPU, eager and in float32, and those of the compiled program with these. Then
whole runs of `emosynth_jax.main`: time to 99 % on MNIST's and 94 % on CIFAR-10's
validation images, and a complete run on FER-2013, each with the test accuracy at the
epoch selected on validation. A part that fails is reported in one line, the rest
continues, and the exit code is 1.
"""

import functools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax
from absl import flags, logging

from benchmarks import accelerator_runs, attempts, cases, measure
from emosynth_jax.utils import cli, errors, text_table
from emosynth_jax.workdir import provenance

# Of logits in bfloat16, relative to the largest in float32: eight bits through fifteen
# layers.
_TOLERANCE = 0.1

# Dense bfloat16 FLOP/s by the vendors' data sheets, by a part of JAX's device_kind.
PEAKS = {
  "H200": 989e12,
  "H100 PCIe": 756e12,
  "H100 NVL": 835e12,
  "H100": 989e12,
  "A100": 312e12,
  "L40S": 362e12,
  "L40": 181e12,
  "L4": 121e12,
  "TPU v6": 918e12,
  "TPU v5p": 459e12,
  "TPU v5 lite": 197e12,
  "TPU v4": 275e12,
}


_PARTS = ("throughput", *accelerator_runs.RUNS)
_SHAPES = ("cifar10", "fer2013")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_bool("dry_run", False, "Dry run: tiny sizes, on any device, in minutes.")
  flags.DEFINE_string(
    "data_dir", "data", "Data set directory, with fer2013.zip and tfds/."
  )
  flags.DEFINE_integer("batch", 512, "Batch size in images.", 1)
  flags.DEFINE_integer("steps", 50, "Number of steps per epoch.", 1)
  flags.DEFINE_integer("epochs", 5, "Number of timed epochs.", 1)
  flags.DEFINE_string(
    "only", None, "Internal: the half of a row that this subprocess measures."
  )
  flags.DEFINE_list("parts", list(_PARTS), f"Of {', '.join(_PARTS)}.")
  flags.DEFINE_list(
    "data", list(_SHAPES), "Data sets whose image shapes are benchmarked."
  )
  flags.DEFINE_string(
    "workdir", None, "Folder for the runs. By default they are not kept."
  )


def peak(device_kind: str) -> float | None:
  """The data sheet's bfloat16 FLOP/s of a device, or None if it is not known here."""
  found = (rate for part, rate in PEAKS.items() if re.search(rf"{part}\b", device_kind))
  return next(found, None)


def measure_jax(case: Any, steps: int, epochs: int) -> dict[str, Any]:
  """JAX's half of a row, on the device: images per second and the device's name.

  Raises:
    ValueError: if the logits in bfloat16 differ from those in float32 by more than
      rounding.
  """
  few = case._replace(batch=8)
  exact = cases.inference(few, 1)()
  rounded = cases.inference(few, 1, dtype="bfloat16")()
  measure.check_close(f"{case}: JAX in bfloat16", rounded, exact, _TOLERANCE)
  run = cases.training(case, steps, dtype="bfloat16")
  run()  # Compiles.
  with jax.transfer_guard("disallow"):
    seconds = measure.alternate({"": run}, epochs)[""]
  return {
    "hardware": provenance.provenance()["hardware"],
    "device_kind": jax.devices()[0].device_kind,
    "images": case.batch * steps / statistics.median(seconds),
  }


def measure_torch(
  case: Any, steps: int, epochs: int, *, form: str = "compile", dry_run: bool = False
) -> dict[str, Any]:
  """PyTorch's half: images per second, or the reason in "not_run".

  JAX, which provides the weights, uses only the CPU here.

  Args:
    case: the network and the batch.
    steps: steps of an epoch.
    epochs: timed epochs.
    form: of `torch_cases.FORMS`.
    dry_run: whether to use the CPU if there is no CUDA device.

  Raises:
    ValueError: if the logits in bfloat16 differ from those in float32 on the CPU by
      more than rounding.
  """
  import torch

  from benchmarks import torch_cases, torch_programs

  if not torch.cuda.is_available() and not dry_run:
    return {"not_run": "torch sees no CUDA device"}
  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True
  program = torch_cases.describe(case)
  model = torch_programs.build(program, form).to(device)
  exact = torch_cases.inference(case, "eager", 1)()
  # The batch that is timed: another shape would be compiled separately.
  images, _ = torch_cases.tensors(case, case.batch)
  mixed = torch_programs.inference(
    program, model, images, form, 1, device=device, mixed=True
  )
  what = f"{case}: PyTorch's {form} in bfloat16"
  difference = measure.check_close(what, mixed(), exact, _TOLERANCE)
  images, labels = torch_cases.tensors(case, steps * case.batch)
  run = torch_programs.training(
    program, model, images, labels, form, device=device, mixed=True
  )
  run()
  seconds = measure.alternate({"": run}, epochs)[""]
  rate = case.batch * steps / statistics.median(seconds)
  return {"images": rate, "difference": difference}


def check_torch(case: Any, steps: int, epochs: int) -> dict[str, Any]:
  """Compares the two networks' logits of shared weights: float32, eager, on the CPU.

  Raises:
    ValueError: if they differ by more than rounding.
  """
  del steps, epochs
  try:
    from benchmarks import torch_cases
  except ImportError:
    return {"not_run": "torch is not installed: pip install -e '.[benchmark]'"}
  few = case._replace(batch=8)
  ours, theirs = cases.inference(few, 1)(), torch_cases.inference(few, "eager", 1)()
  what = f"{few}: JAX against PyTorch"
  return {"difference": measure.check_close(what, ours, theirs, torch_cases.TOLERANCE)}


def throughput(
  case: cases.Case,
  steps: int,
  epochs: int,
  failures: list[str],
  *,
  dry_run: bool = False,
) -> list[str]:
  """A table's row: images/s, share of peak, and PyTorch's.

  Each half runs in a separate process, one after the other: two frameworks in one
  process would compete for the device's memory.

  Args:
    case: the network and the batch.
    steps: steps of an epoch.
    epochs: timed epochs.
    failures: list to which a failure of PyTorch's half is added.
    dry_run: see `measure_torch`.

  Returns:
    The cells.

  Raises:
    RuntimeError: if JAX's half fails.
  """
  name = f"{case.data}:{case.width}"
  sizes = [f"--batch={case.batch}", f"--steps={steps}", f"--epochs={epochs}"]
  sizes += ["--dry_run"] if dry_run else []
  on_cpu = {"JAX_PLATFORMS": "cpu"}
  ours = _result(_start(f"jax:{name}", sizes, {}))
  if "failed" in ours:
    raise RuntimeError(ours["failed"])
  # Printed now, as PyTorch's half may take long, or hang.
  logging.info("%s: %.0f images/s on %s", case, ours["images"], ours["hardware"])
  without_gpu = on_cpu | {"CUDA_VISIBLE_DEVICES": ""}
  theirs = _result(_start(f"check:{name}", sizes, without_gpu))
  if "difference" in theirs:
    logging.info("%s: logits differ by %.1g", case, theirs["difference"])
    theirs = _result(_start(f"torch:{name}", sizes, on_cpu))
  operations = 6 * cases.multiply_adds(case) * ours["images"]
  known = peak(ours["device_kind"])
  row = [str(case), f"{ours['images']:.0f}", f"{operations / 1e12:.3g}"]
  row.append(f"{100 * operations / known:.1f} %" if known else "unknown")
  if "failed" in theirs:
    attempts.report(f"throughput, {case}: torch: {theirs['failed']}", failures)
    return [*row, "failed", ""]
  if "not_run" in theirs:
    logging.warning("%s: PyTorch not run: %s", case, theirs["not_run"])
    return [*row, "not run", ""]
  logging.info("%s: logits in bfloat16 differ by %.1g", case, theirs["difference"])
  return [*row, f"{theirs['images']:.0f}", f"{ours['images'] / theirs['images']:.2f}"]


def _start(only, sizes, environment):
  command = [sys.executable, "-m", "benchmarks.accelerator", f"--only={only}", *sizes]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | environment,
    cwd=pathlib.Path(__file__).parents[1],
  )


def _result(child):
  lines = child.communicate()[0].strip().splitlines()
  if child.returncode or not lines:
    return {"failed": attempts.describe_end(child.returncode, "")}
  return json.loads(lines[-1])


def print_all(values: Any) -> None:
  """Prints the table and the runs."""
  if values.only:
    _print_half(values)
    return
  errors.check_choices("--parts", values.parts, _PARTS)
  errors.check_choices("--data", values.data, _SHAPES)
  # This process must not use the device, which a child could not open then.
  probe = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
  found = subprocess.run(probe, check=False, capture_output=True, text=True)
  if found.returncode:
    how = attempts.describe_end(found.returncode, found.stderr)
    cli.fail(f"JAX cannot start: {how}")
  if found.stdout.strip() == "cpu" and not values.dry_run:
    cli.fail(
      "JAX sees no accelerator: install JAX for it (pip install 'jax[cuda13]'), or try "
      "the script with --dry_run"
    )
  jax.config.update("jax_platforms", "cpu")
  where = provenance.provenance()
  print(f"{where['date']}, commit {where['commit']}, {where['command']}", flush=True)
  failures: list[str] = []
  if "throughput" in values.parts:
    if values.dry_run:
      # Not the width "tiny", which is another network than the one that is timed.
      chosen, steps, epochs = [cases.Case("tiny", "small", 4)], 2, 2
    else:
      chosen = [cases.Case(name, "full", values.batch) for name in values.data]
      steps, epochs = values.steps, values.epochs
    header = ["bfloat16", "images/s", "TFLOP/s", "of peak", "torch", "JAX / PyTorch"]
    rows = []
    for case in chosen:
      with attempts.in_one_line(f"throughput, {case.data}", failures):
        row = throughput(case, steps, epochs, failures, dry_run=values.dry_run)
        rows.append(row)
        # After each part, as the next may end this process.
        print("\n".join(text_table.align([header, *rows])), flush=True)
  runs = {
    name: run for name, run in accelerator_runs.RUNS.items() if name in values.parts
  }
  if values.dry_run:
    runs = {"dry_run": accelerator_runs.DRY_RUN} if runs else {}
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(values.workdir or folder)
    accelerator_runs.whole_runs(
      runs, values.data_dir, root, failures, tiny=values.dry_run
    )
  attempts.end(failures)


def _print_half(values):
  framework, data, width = values.only.split(":")
  halves = {
    "jax": measure_jax,
    "torch": functools.partial(measure_torch, dry_run=values.dry_run),
    "check": check_torch,
  }
  case = cases.Case(data, width, values.batch)
  try:
    half = halves[framework](case, values.steps, values.epochs)
  except Exception as error:
    half = {"failed": attempts.describe(error)}
  print(json.dumps(half))


if __name__ == "__main__":
  cli.run(define_flags, print_all, compilation_cache=False)
