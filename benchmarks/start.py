"""A fresh process up to its first training step: `throughput` runs and times it.

  python -m benchmarks.start --framework=jax --data=fer2013 --width=small --batch=64

It prints a line when the step is done, takes three more, and prints the largest memory
that the process held, in MiB.
"""

import resource

from absl import app, flags

FRAMEWORKS = ("jax", "torch_eager", "torch_channels_last", "torch_compile")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_enum("framework", "jax", FRAMEWORKS, "What trains.")
  flags.DEFINE_string("data", "fer2013", "The config, see benchmarks/cases.py.")
  flags.DEFINE_string("width", "small", "full or small.")
  flags.DEFINE_integer("batch", 64, "Images of a step.", 1)


def main(argv: list[str]) -> None:
  """Takes the steps."""
  del argv
  values = flags.FLAGS
  from benchmarks.cases import Case

  case = Case(values.data, values.width, values.batch)
  if values.framework == "jax":
    from benchmarks import cases
    from emosynth_jax import command_line

    command_line.use_compilation_cache()
    run = cases.training(case, 1)
  else:
    from benchmarks import torch_cases

    run = torch_cases.training(case, values.framework.removeprefix("torch_"), 1)
  run()
  print("first step", flush=True)
  for _ in range(3):
    run()
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)


if __name__ == "__main__":
  define_flags()
  app.run(main)
