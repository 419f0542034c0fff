"""EmoSynthNet on one GPU or TPU: checked, timed and set beside torch.compile.

  python -m benchmarks.accelerator --data_dir=data
  python -m benchmarks.accelerator --parts=mnist --workdir=runs/accelerator
  python -m benchmarks.accelerator --dry_run     # a tiny network on whatever is there

Whole epochs as one scan in bfloat16, under a guard that refuses any transfer between
host and device inside of an epoch: images a second, the share of the device's rate,
the ratio to PyTorch (torch.compile, autocast to bfloat16, channels-last), where torch
is installed with CUDA; its logits of shared weights are compared on the CPU meanwhile.
Then whole runs of `emosynth_jax.main`: how long until 99 % on MNIST's and 94 % on
CIFAR-10's validation images, and FER-2013 to its end, each with the test split's
accuracy by the epoch that validation chose.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from absl import app, flags, logging

from emosynth_jax import command_line

# Of logits in bfloat16, relative to the largest in float32: eight bits through fifteen
# layers.
_TOLERANCE = 0.1

# Dense bfloat16 FLOP/s by the makers' data sheets, by a part of JAX's device_kind.
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


class Run(NamedTuple):
  """A run of the project's training command.

  Attributes:
    config: what --config is, without the folder.
    target: accuracy on validation images whose time is wanted; None for none.
    data_dir: where the data is, below --data_dir.
    settings: further ones of the config.
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
_PARTS = ("throughput", *RUNS)
_SHAPES = ("cifar10", "fer2013")
_DRY_RUN = Run("synthetic_faces.py:fer_vgg,small", 0.0, "")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_bool("dry_run", False, "Tiny sizes, on any device, in a minute.")
  flags.DEFINE_string("data_dir", "data", "Folder of fer2013.zip and tfds/.")
  flags.DEFINE_integer("batch", 512, "Images of a step.", 1)
  flags.DEFINE_integer("steps", 50, "Steps of an epoch.", 1)
  flags.DEFINE_integer("epochs", 5, "Timed epochs.", 1)
  flags.DEFINE_string("only", None, "One half of a row, as this script calls itself.")
  flags.DEFINE_list("parts", list(_PARTS), f"Of {', '.join(_PARTS)}.")
  flags.DEFINE_list("data", list(_SHAPES), "Shapes of the throughput's images.")
  flags.DEFINE_string("workdir", None, "Where the runs are kept; by default nowhere.")


def peak(device_kind: str) -> float | None:
  """The data sheet's bfloat16 FLOP/s of a device, or None if it is not known here."""
  found = (rate for part, rate in PEAKS.items() if re.search(rf"{part}\b", device_kind))
  return next(found, None)


def measure_jax(case: Any, steps: int, epochs: int) -> dict[str, Any]:
  """Our half of a row, on the device: images a second and the device's name.

  Raises:
    ValueError: if the logits in bfloat16 are not those in float32 but for rounding.
  """
  import jax

  from benchmarks import cases, measure
  from emosynth_jax import results

  few = case._replace(batch=8)
  exact = cases.inference(few, 1)()
  rounded = cases.inference(few, 1, dtype="bfloat16")()
  difference = float(abs(rounded - exact).max() / abs(exact).max())
  if not difference < _TOLERANCE:
    raise ValueError(f"{case}: bfloat16 changes the logits by {difference:.2g}")
  run = cases.training(case, steps, dtype="bfloat16")
  run()  # Compiles.
  with jax.transfer_guard("disallow"):
    seconds = measure.alternate({"": run}, epochs)[""]
  return {
    "hardware": results.provenance()["hardware"],
    "device_kind": jax.devices()[0].device_kind,
    "images": case.batch * steps / statistics.median(seconds),
  }


def measure_torch(case: Any, steps: int, epochs: int) -> dict[str, Any]:
  """PyTorch's half: images a second, or in "not_run" why there are none.

  JAX, whose weights it takes, is on the CPU here and leaves the device alone.
  """
  try:
    import torch
  except ImportError:
    return {"not_run": "torch is not installed: pip install -e '.[benchmark]'"}
  if not torch.cuda.is_available():
    return {"not_run": "torch sees no CUDA device"}
  from benchmarks import measure, torch_cases

  torch.backends.cudnn.benchmark = True
  run = torch_cases.training(case, "compile", steps, device="cuda", mixed=True)
  run()
  seconds = measure.alternate({"": run}, epochs)[""]
  return {"images": case.batch * steps / statistics.median(seconds)}


def check_torch(case: Any, steps: int, epochs: int) -> dict[str, Any]:
  """Compares the two networks' logits of shared weights, on the CPU.

  Raises:
    ValueError: if they differ by more than rounding.
  """
  del steps, epochs
  try:
    from benchmarks import torch_cases
  except ImportError:
    return {"not_run": "torch is not installed"}
  from benchmarks import cases

  few = case._replace(batch=8)
  ours, theirs = cases.inference(few, 1)(), torch_cases.inference(few, "eager", 1)()
  return {"difference": torch_cases.check_equal(ours, theirs)}


def throughput(data: str, width: str, batch: int, steps: int, epochs: int) -> list[str]:
  """A table's row: images/s, share of peak, and PyTorch's.

  Each half runs in a process of its own, one after the other: two frameworks in one
  would take the device's memory from each other.
  """
  from benchmarks import cases

  case = cases.Case(data, width, batch)
  sizes = [f"--batch={batch}", f"--steps={steps}", f"--epochs={epochs}"]
  on_cpu = {"JAX_PLATFORMS": "cpu"}
  check = _start(f"check:{data}:{width}", sizes, on_cpu | {"CUDA_VISIBLE_DEVICES": ""})
  ours = _result(_start(f"jax:{data}:{width}", sizes, {}))
  if "not_run" in ours:
    check.kill()
    raise RuntimeError(f"{case}: {ours['not_run']}")
  # Now, as PyTorch's half may take long, or not end.
  logging.info("%s: %.0f images/s on %s", case, ours["images"], ours["hardware"])
  if "not_run" in (theirs := _result(check)):
    logging.warning("%s: the comparison of logits: %s", case, theirs["not_run"])
  else:
    logging.info("%s: logits differ by %.1g", case, theirs["difference"])
    theirs = _result(_start(f"torch:{data}:{width}", sizes, on_cpu))
  operations = 6 * cases.multiply_adds(case) * ours["images"]
  known = peak(ours["device_kind"])
  row = [str(case), f"{ours['images']:.0f}", f"{operations / 1e12:.3g}"]
  row.append(f"{100 * operations / known:.1f} %" if known else "unknown")
  if "not_run" in theirs:
    logging.warning("%s: PyTorch not run: %s", case, theirs["not_run"])
    return [*row, "not run", ""]
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
    return {"not_run": f"{' '.join(child.args[1:4])} ended with {child.returncode}"}
  return json.loads(lines[-1])


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
  if subprocess.run(command, check=False).returncode:
    raise RuntimeError(f"{' '.join(command[1:])} failed")
  wall = time.monotonic() - began
  report = json.loads((workdir / "report.json").read_text())
  accuracy = 100 * report["splits"]["test"]["accuracy"]
  return (
    f"{run.config}: {describe(workdir, run.target)}; the command took {wall:.1f} s; "
    f"test split {accuracy:.2f} %"
  )


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
  whole = f"{elapsed:.1f} s of epochs, compilation and saves included"
  if target is None:
    return whole
  return f"{reached or f'{100 * target:g} % not reached'}, {whole}"


def main(argv: list[str]) -> None:
  """Prints the table and the runs."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  values = flags.FLAGS
  if values.only:
    _print_half(values)
    return
  if unknown := sorted(set(values.parts) - set(_PARTS)):
    command_line.fail(
      f"--parts: expected some of {', '.join(_PARTS)}, got {unknown[0]!r}"
    )
  if unknown := sorted(set(values.data) - set(_SHAPES)):
    command_line.fail(f"--data: expected {' or '.join(_SHAPES)}, got {unknown[0]!r}")
  # This process never touches the device, which a child could not open then.
  probe = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
  backend = subprocess.run(probe, check=True, stdout=subprocess.PIPE, text=True).stdout
  if backend.strip() == "cpu" and not values.dry_run:
    command_line.fail(
      "JAX sees no accelerator: install JAX for it (pip install 'jax[cuda13]'), or try "
      "the script with --dry_run"
    )
  import jax

  jax.config.update("jax_platforms", "cpu")
  from benchmarks import measure
  from emosynth_jax import results

  where = results.provenance()
  print(f"{where['date']}, commit {where['commit']}, {where['command']}")
  if "throughput" in values.parts:
    sizes = (4, 2, 2) if values.dry_run else (values.batch, values.steps, values.epochs)
    names = ["tiny"] if values.dry_run else values.data
    header = ["bfloat16", "images/s", "TFLOP/s", "of peak", "torch", "ours to it"]
    rows = []
    for name in names:
      rows.append(throughput(name, "tiny" if values.dry_run else "full", *sizes))
      # Each time, as what comes next may fail.
      print(measure.format_rows(header, rows), flush=True)
  runs = {name: run for name, run in RUNS.items() if name in values.parts}
  if values.dry_run:
    runs = {"dry_run": _DRY_RUN} if runs else {}
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(values.workdir or folder)
    for name, run in runs.items():
      text = whole_run(run, values.data_dir, root / name, tiny=values.dry_run)
      print(text, flush=True)


def _print_half(values):
  from benchmarks import cases

  framework, data, width = values.only.split(":")
  halves = {"jax": measure_jax, "torch": measure_torch, "check": check_torch}
  case = cases.Case(data, width, values.batch)
  print(json.dumps(halves[framework](case, values.steps, values.epochs)))


if __name__ == "__main__":
  define_flags()
  app.run(main)
