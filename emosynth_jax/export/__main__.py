"""Exports a trained network to StableHLO, ONNX, or ONNX with int8 quantization.

  python -m emosynth_jax.export --workdir=RUN --format=onnx --output=FILE.onnx

The file takes uint8 images `(N, height, width, channels)` for any N and gives "logits"
and calibrated "probabilities". Beside it, FILE.onnx.json has the classes, the
temperature, the provenance, and the differences between the file's outputs and the
network's on the splits of --splits. docs/guides/export.md has the formats,
docs/results/export.md the measurements.
"""

from typing import Any

from absl import flags

from emosynth_jax.export import export
from emosynth_jax.pretrained import source_flags
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  source_flags.define_source()
  flags.DEFINE_enum(
    "format", "onnx", list(export.FORMATS), "Format of the exported file."
  )
  flags.DEFINE_string("output", None, "Path of the exported file.", required=True)
  flags.DEFINE_list(
    "splits",
    ["validation"],
    "Splits, validation or test, on which the exported file is verified against the "
    "network. Empty to verify on noise only, which needs no data set.",
  )
  flags.DEFINE_integer(
    "calibration_images",
    512,
    "Number of training images that calibrate the ranges of onnx_int8.",
    1,
  )
  cli.define_data_dir()


def export_network(args: Any) -> None:
  """Writes the file that the flags ask for."""
  export.make(
    source_flags.read_source(args),
    args.output,
    format=args.format,
    splits=args.splits,
    data_dir=args.data_dir,
    num_calibration_images=args.calibration_images,
  )


if __name__ == "__main__":
  cli.run(define_flags, export_network, NotImplementedError)
