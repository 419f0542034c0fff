"""Prepares a TFDS data set, once: downloads it and writes it as array_record.

  python -m emosynth_jax.data.prepare mnist --data_dir=data

TFDS encodes the images with TensorFlow, so this needs the extra `tfds`; reading what
it wrote doesn't.
"""

import argparse
from collections.abc import Sequence

from emosynth_jax.data.datasets import tfds_records


def prepare(name: str, data_dir: str) -> None:
  """Downloads and prepares a data set; does nothing if it is prepared already.

  Args:
    name: "cifar10", "mnist" or "svhn".
    data_dir: the folder under which TFDS puts it.

  Raises:
    ValueError: the name is unknown.
    ModuleNotFoundError: TensorFlow isn't installed.
  """
  if name not in tfds_records.NAMES:
    raise ValueError(
      f"data set: expected one of {sorted(tfds_records.NAMES)}, got {name!r}"
    )

  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    raise ModuleNotFoundError(
      "preparing a data set needs TensorFlow: pip install -e '.[tfds]' in the checkout"
    ) from error

  import tensorflow_datasets as tfds

  builder = tfds.builder(tfds_records.NAMES[name], data_dir=data_dir)
  builder.download_and_prepare(file_format="array_record")


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; `argv` stands in for the real one in tests."""
  # argparse rather than absl: a flag data_dir of this module would clash with the
  # trainer's wherever both are imported.
  parser = argparse.ArgumentParser(
    prog="python -m emosynth_jax.data.prepare", description=__doc__.splitlines()[0]
  )
  parser.add_argument("name", choices=sorted(tfds_records.NAMES))
  parser.add_argument("--data_dir", required=True, help="TFDS's data folder")
  arguments = parser.parse_args(argv)
  try:
    prepare(arguments.name, arguments.data_dir)
  except ModuleNotFoundError as error:
    parser.exit(1, f"{error}\n")


if __name__ == "__main__":
  main()
