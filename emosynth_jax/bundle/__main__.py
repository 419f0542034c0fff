"""Writes a trained network to one file, with all that prediction needs.

  python -m emosynth_jax.bundle --workdir=RUN --output=FILE.safetensors

The file holds the arrays (parameters in float16 unless --dtype=float32) and, in its
header, the config, the class names, an image's shape, the temperature that calibrates
the probabilities, and the provenance. The temperature is fitted on the run's validation
split, on which the command also reports the effect of rounding to float16.
"""

from absl import app, flags

from emosynth_jax.bundle.format import DTYPES
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.", required=True)
  flags.DEFINE_string("output", None, "File, NAME.safetensors.", required=True)
  flags.DEFINE_enum("dtype", "float16", list(DTYPES), "Data type of the parameters.")
  cli.define_data_dir()
  cli.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  from emosynth_jax.bundle import make as make_bundle

  define_flags()
  app.run(make_bundle.main)


if __name__ == "__main__":
  run()
