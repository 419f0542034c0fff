"""Throughput benchmark of networks in JAX and PyTorch, in one run.

  python -m benchmarks.throughput --quick    # :small on FER-2013's shape, minutes
  python -m benchmarks.throughput            # EmoSynthNet; hours on two cores
  python -m benchmarks.throughput --network=fer_vgg --width=0.125,0.25,0.5

Training steps and inference, JAX on all devices (of a CPU one for each core) and
PyTorch programs in turn (eager, channels-last, torch.compile), after comparing their
logits with shared weights: medians, best rounds and the medians of the rounds' ratios;
time to the first step and peak memory in a fresh process; augmentation on and off; all
relative to the machine's matrix product rate.
Images are random: no data set is read. Without torch (`pip install -e '.[benchmark]'`)
only the JAX half is printed. A case's rows are printed when it is measured; a failure
is reported in one line, the rest continues, and the exit code is 1.
"""

import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from benchmarks import attempts, cases, measure
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli, errors
from emosynth_jax.workdir import provenance

PARTS = ("training", "inference", "augmentation", "start")
PRECISIONS = ("float32", "bfloat16")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_bool(
    "quick",
    False,
    "Only fer2013 small with batches of 64 and 1; overrides the other flags.",
  )
  flags.DEFINE_list(
    "data", ["cifar10", "fer2013"], "Data sets whose image shapes are benchmarked."
  )
  flags.DEFINE_list(
    "network", ["emosynthnet"], f"Networks, of {', '.join(cases.NETWORKS)}."
  )
  flags.DEFINE_list(
    "width",
    ["full", "small"],
    "Widths: of the config, of its variant small, or factors on the channels.",
  )
  flags.DEFINE_list("batch", ["64", "512"], "Batch sizes; inference also uses 1.")
  flags.DEFINE_list("parts", list(PARTS), f"Of {', '.join(PARTS)}.")
  flags.DEFINE_list("forms", None, "PyTorch forms; by default all, empty for none.")
  flags.DEFINE_enum(
    "precision",
    "float32",
    PRECISIONS,
    "Of training: with bfloat16 JAX has it as config.matmul_precision, and PyTorch "
    "autocast.",
  )
  flags.DEFINE_integer("rounds", 5, "Number of timed calls of each candidate.", 1)


def load_torch() -> Any:
  """The module of PyTorch's cases, or None if torch is missing."""
  try:
    from benchmarks import torch_cases
  except ImportError as error:
    if (error.name or "").partition(".")[0] != "torch":
      raise
    return None
  return torch_cases


def selected(
  quick: bool,
  data: list[str],
  widths: list[str],
  batches: list[str],
  networks: Sequence[str] = ("emosynthnet",),
) -> list[Any]:
  """Parses the cases of the flags.

  Raises:
    ValueError: for a name that is none of `cases.DATA_SETS` or `cases.NETWORKS`, a
      width that is none of `cases.WIDTHS` and no factor, or a batch that is not a
      number from 1.
  """
  if quick:
    data, widths, batches = ["fer2013"], ["small"], ["64"]
    networks = ["emosynthnet"]
  named = [width for width in widths if not cases.is_factor(width)]
  for flag, given, known in (
    ("data", data, cases.DATA_SETS),
    ("network", networks, cases.NETWORKS),
    ("width", named, cases.WIDTHS),
  ):
    errors.check_choices(f"--{flag}", given, known)
  for batch in batches:
    if not batch.isdecimal() or int(batch) < 1:
      raise ValueError(f"--batch: expected numbers from 1, got {batch!r}")
  return [
    cases.Case(d, w, int(b), n)
    for n, d, w, b in itertools.product(networks, data, widths, batches)
  ]


def candidates(
  part: str,
  case: Any,
  torch_cases: Any,
  forms: list[str],
  count: int,
  failures: list[str],
  *,
  precision: str = "float32",
) -> dict[str, Callable[[], Any]]:
  """JAX's and PyTorch's programs, warmed up, after comparing their networks.

  Args:
    part: "training" or "inference".
    case: the network and the batch.
    torch_cases: the module, or None.
    forms: PyTorch's. One that fails, or whose logits differ, is omitted.
    count: steps or evaluations per call.
    failures: list to which these are added.
    precision: of training, one of `PRECISIONS`.

  Returns:
    The programs by name, JAX first.
  """
  if torch_cases is None:
    forms = []
  if part == "training" and forms:
    few = case._replace(batch=8)
    alike = False
    with attempts.in_one_line(f"{part}, {case}: torch", failures):
      difference = measure.check_close(
        "JAX against PyTorch",
        cases.inference(few, 1)(),
        torch_cases.inference(few, "eager", 1)(),
        torch_cases.TOLERANCE,
      )
      logging.info("%s: logits equal to %.0e", few, difference)
      alike = True
    forms = forms if alike else []
  rounded = {"mixed": True} if precision == "bfloat16" else {}
  ours = getattr(cases, part)(case, count, **rounded)
  found: dict[str, Callable[[], Any]] = {"JAX": ours}
  answer = ours()
  for form in forms:
    with attempts.in_one_line(f"{part}, {case}: torch {form}", failures):
      run = getattr(torch_cases, part)(case, form, count, **rounded)
      theirs = run()
      if part == "inference":
        difference = measure.check_close(
          "JAX against PyTorch", answer, theirs, torch_cases.TOLERANCE
        )
        logging.info("%s, %s: logits equal to %.0e", case, form, difference)
      found[f"torch {form}"] = run
  return found


def rows(
  case: Any, seconds: Mapping[str, list[float]], images: int, passes: int, rate: float
) -> list[list[str]]:
  """Table rows of one case.

  Args:
    case: the case.
    seconds: of each candidate and round.
    images: number of images per call.
    passes: multiple of the network's multiply-adds per image: 1 in inference, 3 in
      training.
    rate: FLOP/s of the machine's matrix products.
  """
  operations = 2 * cases.multiply_adds(case) * passes * images
  lines = []
  for name, times in seconds.items():
    median = statistics.median(times)
    ratio = measure.ratio(seconds["JAX"], times)
    lines.append(
      [
        f"{case}: {name}",
        f"{images / median:.1f}",
        f"{images / min(times):.1f}",
        f"{1e3 * median * case.batch / images:.2f}",
        "" if name == "JAX" else f"{ratio:.2f}",
        f"{operations / median / 1e9:.0f}",
        f"{100 * operations / median / rate:.0f} %",
      ]
    )
  return lines


HEADER = ["", "images/s", "best", "ms/batch", "JAX / PyTorch", "GFLOP/s", "of peak"]


def print_row(cells: list[str]) -> None:
  """Prints a line immediately: the process may be killed hours later."""
  # The longest name: "32x32x3 small, batch 512: torch_channels_last".
  print(f"{cells[0]:46}", *(f"{cell:>14}" for cell in cells[1:]), flush=True)


def compare(
  part: str,
  cases_: list[Any],
  torch_cases: Any,
  forms: list[str],
  rounds: int,
  failures: list[str],
  *,
  precision: str = "float32",
) -> None:
  """Prints the table of training or inference, each case when it is measured."""
  rate = measure.product_rate()
  print(
    f"\n{part}, {precision}, {rounds} rounds; the machine's product of two 2048 x 2048 "
    f"matrices: {rate / 1e9:.0f} GFLOP/s"
  )
  print_row(HEADER)
  for case in cases_:
    logging.info("%s, %s", part, case)
    small = case.width != "full"
    if case.batch == 1:
      count = 50 if small else 5
    elif part == "training" and small:
      count = 10  # As many as a call of a run takes on a CPU.
    else:
      # At least two, as XLA unrolls a loop of one step, and real runs have loops.
      count = 2
    with attempts.in_one_line(f"{part}, {case}", failures):
      programs = candidates(
        part, case, torch_cases, forms, count, failures, precision=precision
      )
      seconds = measure.alternate(programs, rounds)
      passes = 3 if part == "training" else 1
      for row in rows(case, seconds, count * case.batch, passes, rate):
        print_row(row)


def augmentation(cases_: list[Any], rounds: int, failures: list[str]) -> None:
  """Prints the table of the step with the config's augmentation and without."""
  print()
  print_row(["augmentation", "off, ms", "on, ms", "of the step"])
  for case in cases_:
    with attempts.in_one_line(f"augmentation, {case}", failures):
      programs = {
        name: cases.training(case, 1, augmented=name == "on") for name in ("off", "on")
      }
      for run in programs.values():
        run()
      seconds = measure.alternate(programs, rounds)
      off, on = (statistics.median(seconds[name]) for name in ("off", "on"))
      share = 1 - 1 / measure.ratio(seconds["off"], seconds["on"])
      print_row(
        [str(case), f"{1e3 * off:.1f}", f"{1e3 * on:.1f}", f"{100 * share:.1f} %"]
      )


def start(
  cases_: list[Any], torch_cases: Any, forms: list[str], failures: list[str]
) -> None:
  """Prints the table of a fresh process: time to the first step, peak memory."""
  print()
  print_row(["start", "cold cache, s", "warm cache, s", "peak, MiB"])
  for case in cases_:
    for framework in ("jax", *(f"torch_{form}" for form in forms)):
      with (
        attempts.in_one_line(f"start, {case}: {framework}", failures),
        tempfile.TemporaryDirectory() as folder,
      ):
        command = _start_command(case, framework, torch_cases, folder)
        environment = os.environ | {
          "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "cache"),
          "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "cache"),
        }
        cold, _ = _start_once(command, environment)
        warm, memory = _start_once(command, environment)
        print_row([f"{case}: {framework}", f"{cold:.1f}", f"{warm:.1f}", str(memory)])


def _start_command(case, framework, torch_cases, folder):
  command = [sys.executable, "-m", "benchmarks.start", f"--framework={framework}"]
  if framework == "jax":
    sizes = case._asdict()
    return [*command, *(f"--{name}={value}" for name, value in sizes.items())]
  # Here, since JAX initializes the weights, which must not count for PyTorch.
  path = os.path.join(folder, "program.pt")
  torch_cases.write_start(path, case)
  return [*command, f"--program={path}"]


def _start_once(command, environment):
  with tempfile.TemporaryFile("w+") as errors:
    began = time.perf_counter()
    with subprocess.Popen(
      command,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      cwd=pathlib.Path(__file__).parents[1],
    ) as process:
      assert process.stdout is not None
      first = process.stdout.readline()
      seconds = time.perf_counter() - began
      memory = process.stdout.readline()
    errors.seek(0)
    if process.returncode or not memory:
      raise RuntimeError(attempts.describe_end(process.returncode, errors.read()))
  assert first.strip() == "first step", first
  return seconds, int(memory)


def print_tables(args: Any) -> None:
  """Prints the tables."""
  if args.precision != "float32" and args.parts != ["training"]:
    raise ValueError(
      f"--precision={args.precision}: only training has it; add --parts=training"
    )
  chosen = selected(args.quick, args.data, args.width, args.batch, args.network)
  cpu_devices.split_cores(max(case.batch for case in chosen))
  errors.check_choices("--parts", args.parts, PARTS)
  torch_cases = load_torch()
  known = list(torch_cases.FORMS) if torch_cases else []
  forms = known if args.forms is None else [f for f in args.forms if f]
  if torch_cases:
    errors.check_choices("--forms", forms, known)

  where = provenance.provenance()
  print(f"{where['hardware']}; JAX {where['packages']['jax']}", end="")
  print(f"; torch {torch_cases.torch.__version__}" if torch_cases else "", end="")
  print(f"\n{where['date']}, commit {where['commit']}, {where['command']}", flush=True)
  if torch_cases is None:
    print("torch is not installed (pip install -e '.[benchmark]'): only JAX is timed")
  failures: list[str] = []
  if "training" in args.parts:
    compare(
      *("training", chosen, torch_cases, forms, args.rounds, failures),
      precision=args.precision,
    )
  if "inference" in args.parts:
    singles = [case._replace(batch=1) for case in chosen]
    every = list(dict.fromkeys(singles + chosen))
    compare("inference", every, torch_cases, forms, args.rounds, failures)
  if "augmentation" in args.parts:
    augmentation(chosen, args.rounds, failures)
  if "start" in args.parts:
    start(chosen, torch_cases, forms if torch_cases else [], failures)
  attempts.end(failures)


if __name__ == "__main__":
  cli.run(define_flags, print_tables)
