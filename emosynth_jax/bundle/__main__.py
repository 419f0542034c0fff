"""Writes a trained network to one file, with all that prediction needs.

  python -m emosynth_jax.bundle --workdir=RUN --output=FILE.safetensors

The file holds the arrays (parameters in float16 unless --dtype=float32) and, in its
header, the config, the class names, an image's shape, the temperature that calibrates
the probabilities, and the provenance. The temperature is fitted on the run's validation
split, on which the command also reports the effect of rounding to float16.
"""

from typing import Any

from absl import flags

from emosynth_jax.bundle import make
from emosynth_jax.bundle.format import DTYPES
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.", required=True)
  flags.DEFINE_string("output", None, "File, NAME.safetensors.", required=True)
  flags.DEFINE_enum("dtype", "float16", list(DTYPES), "Data type of the parameters.")
  cli.define_data_dir()


def write_bundle(args: Any) -> None:
  """Writes the bundle that the flags ask for."""
  make.make(args.workdir, args.output, dtype=args.dtype, data_dir=args.data_dir)


if __name__ == "__main__":
  cli.run(define_flags, write_bundle)
