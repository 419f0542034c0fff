"""Latency benchmark at batch size 1: onnxruntime, JAX and PyTorch.

  python -m benchmarks.latency --source=BUNDLE_OR_WORKDIR

All have the same weights, from uint8 pixels to logits, the same number of cores, and
separate processes, so that none waits for another's threads. They alternate every few
calls. PyTorch is optional.
"""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from absl import flags

from benchmarks import attempts, latency_runtimes, measure
from emosynth_jax import bundle, pretrained
from emosynth_jax.export import verify
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli, text_table
from emosynth_jax.workdir import provenance

# Calls of a turn, and seconds before it, in which busy-waiting threads of the previous
# runtime go to sleep.
_TURN, _PAUSE = 10, 0.3
_REFERENCE = "JAX, jit"


def compare(args: Any) -> None:
  """Prints the table."""
  threads = args.threads or cpu_devices.cpu_cores()
  if args.only:
    answer_turns(args.only, args.source, threads=threads)
  else:
    measure_all(args.source, threads=threads, rounds=args.rounds)


def answer_turns(name: str, source: str, *, threads: int) -> None:
  """Runs one runtime in this process: prints a JSON line when ready and one per turn.

  Args:
    name: one of `latency_runtimes.RUNTIMES`.
    source: a bundle or a run's folder.
    threads: of the runtime.
  """
  latency_runtimes.hold_cores(threads)
  network = bundle.read_network(source)
  try:
    run = latency_runtimes.build(name, network, threads=threads)
  except (ModuleNotFoundError, ValueError) as error:
    # PyTorch's packages are optional.
    if not name.startswith("PyTorch"):
      raise
    print(json.dumps({"left_out": str(error)}), flush=True)
    return
  shape = (1, *network.image_shape)
  image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
  began = time.perf_counter()
  logits = np.reshape(np.asarray(run(image)), -1)
  first = time.perf_counter() - began
  for _ in range(20):
    run(image)
  print(json.dumps({"first": first, "logits": logits.tolist()}), flush=True)
  for line in sys.stdin:
    turn = measure.alternate({"": lambda: run(image)}, int(line))[""]
    print(json.dumps(turn), flush=True)


def measure_all(
  source: str,
  *,
  threads: int,
  rounds: int,
  names: Iterable[str] = tuple(latency_runtimes.RUNTIMES),
) -> None:
  """Prints the table.

  Args:
    source: a bundle or a run's folder.
    threads: of each runtime.
    rounds: timed calls of each.
    names: of `latency_runtimes.RUNTIMES`, JAX among them.

  Raises:
    FileNotFoundError, ValueError: if there is no network, or a damaged one, or there
      are fewer cores.
    ModuleNotFoundError: if a package of the extra `export` is missing.
    RuntimeError: if a runtime's process fails.
  """
  verify.check_packages()
  shape = bundle.read_network(source).image_shape
  if threads > cpu_devices.cpu_cores():
    raise ValueError(
      f"--threads: expected 1 to {cpu_devices.cpu_cores()} cores, got {threads}"
    )
  with contextlib.ExitStack() as stack:
    runtimes, ready = {}, {}
    for name in names:
      runtime = stack.enter_context(_process(name, source, threads))
      said = _read(name, runtime)
      if "left_out" in said:
        print(f"{name} skipped: {said['left_out']}")
      else:
        runtimes[name], ready[name] = runtime, said
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for begin in range(0, rounds, _TURN):
      for name, runtime in runtimes.items():
        time.sleep(_PAUSE)
        print(min(_TURN, rounds - begin), file=runtime[0].stdin, flush=True)
        seconds[name] += _read(name, runtime)
  print(f"{provenance.provenance()['hardware']}; {threads} threads each")
  print(f"one image {shape}, {rounds} calls in turns of {_TURN}; logits against JAX's")
  header = ["", "median ms", "least", "90 %", "ratio", "first call", "difference"]
  print("\n".join(text_table.align([header, *rows(seconds, ready)])))


@contextlib.contextmanager
def _process(name, source, threads):
  """A runtime's process and the file of its errors."""
  command = [sys.executable, "-m", "benchmarks.latency", f"--only={name}"]
  command += [f"--source={pretrained.find(source).resolve()}", f"--threads={threads}"]
  with tempfile.TemporaryFile("w+") as errors:
    process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
      cwd=pathlib.Path(__file__).parents[1],
    )
    try:
      yield process, errors
    finally:
      process.kill()
      process.communicate()


def _read(name, runtime):
  process, errors = runtime
  if line := process.stdout.readline():
    return json.loads(line)
  code = process.wait()
  errors.seek(0)
  raise RuntimeError(f"{name}: {attempts.describe_end(code, errors.read())}")


def rows(
  seconds: Mapping[str, list[float]], ready: Mapping[str, dict[str, Any]]
) -> list[list[str]]:
  """The table's rows.

  Args:
    seconds: of each runtime and call.
    ready: "first", seconds of the first call, and "logits" of each.

  Returns:
    Cells; the ratio is to the first runtime.
  """
  reference = next(iter(seconds.values()))
  expected = np.asarray(ready[_REFERENCE]["logits"])
  return [
    [
      name,
      f"{1e3 * statistics.median(taken):.2f}",
      f"{1e3 * min(taken):.2f}",
      f"{1e3 * statistics.quantiles(taken, n=10)[8]:.2f}",
      f"{measure.ratio(reference, taken):.2f}",
      f"{1e3 * ready[name]['first']:.0f}",
      f"{np.abs(np.asarray(ready[name]['logits']) - expected).max():.1e}",
    ]
    for name, taken in seconds.items()
  ]


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string(
    "source",
    pretrained.DEFAULT,
    "Bundle, workdir of a run, or name of an included network: "
    f"{' or '.join(pretrained.NETWORKS)}.",
  )
  flags.DEFINE_integer("rounds", 300, "Number of timed calls of each runtime.", 10)
  flags.DEFINE_integer(
    "threads", None, "Number of threads of each runtime. By default all cores.", 1
  )
  flags.DEFINE_string("only", None, "Internal: the runtime that this subprocess times.")


if __name__ == "__main__":
  # The first call is timed, with its compilation.
  cli.run(
    define_flags,
    compare,
    NotImplementedError,
    RuntimeError,
    compilation_cache=False,
  )
