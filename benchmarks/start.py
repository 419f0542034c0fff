"""Startup of a fresh process to its first training step, timed by `throughput`.

  python -m benchmarks.start --framework=jax --data=fer2013 --width=small --batch=64
  python -m benchmarks.start --framework=torch_eager --program=FILE

It prints a line after the step, takes three more, and prints the peak memory
that the process held, in MiB. PyTorch's process does not import JAX: its program is in
a file of `torch_cases.write_start`.
"""

import pathlib
import re
import resource

from absl import app, flags

FRAMEWORKS = ("jax", "torch_eager", "torch_channels_last", "torch_compile")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_enum("framework", "jax", FRAMEWORKS, "Program to time.")
  flags.DEFINE_string(
    "data", "fer2013", "Config of JAX's program, see benchmarks/cases.py."
  )
  flags.DEFINE_string("network", "emosynthnet", "JAX's network.")
  flags.DEFINE_string(
    "width", "small", "Width of JAX's network: full, small or a factor."
  )
  flags.DEFINE_integer("batch", 64, "Batch size of JAX's program.", 1)
  flags.DEFINE_string(
    "program", None, "File of PyTorch's program, instead of the three flags above."
  )


def memory_peak() -> int:
  """Peak memory of this process, in MiB."""
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    # On Linux a child inherits the parent's maximum of getrusage.
    if found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text()):
      return int(found[1]) // 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _jax(values):
  from benchmarks import cases
  from emosynth_jax.parallel import cpu_devices
  from emosynth_jax.utils import cli

  cpu_devices.split_cores(values.batch)
  cli.use_compilation_cache()
  case = cases.Case(values.data, values.width, values.batch, values.network)
  return cases.training(case, 1)


def _torch(values):
  from benchmarks import torch_programs

  form = values.framework.removeprefix("torch_")
  program, images, labels = torch_programs.load(values.program)
  model = torch_programs.build(program, form)
  return torch_programs.training(program, model, images, labels, form)


def main(argv: list[str]) -> None:
  """Takes the steps."""
  del argv
  values = flags.FLAGS
  if values.framework != "jax" and not values.program:
    raise app.UsageError("--program: requires the file of a PyTorch case")
  run = _jax(values) if values.framework == "jax" else _torch(values)
  run()
  print("first step", flush=True)
  for _ in range(3):
    run()
  print(memory_peak(), flush=True)


if __name__ == "__main__":
  define_flags()
  app.run(main)
