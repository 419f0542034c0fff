"""Prepares a TFDS data set, once: downloads it and writes it as array_record.

  python -m emosynth_jax.data.prepare mnist
  python -m emosynth_jax.data.prepare svhn --data_dir=data/tfds

The argument is mnist, cifar10 or svhn. TFDS encodes the images with TensorFlow, so this
needs the extra `tfds`; reading what it wrote doesn't.
"""

from absl import flags

from emosynth_jax.data.datasets import tfds_records
from emosynth_jax.utils import cli, errors


def prepare(name: str, data_dir: str) -> None:
  """Downloads and prepares a data set; does nothing if it is prepared already.

  Args:
    name: "cifar10", "mnist" or "svhn".
    data_dir: the folder under which TFDS puts it.

  Raises:
    ValueError: the name is unknown.
    ModuleNotFoundError: TensorFlow isn't installed.
  """
  errors.check_choice("data set", name, sorted(tfds_records.NAMES))

  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    raise ModuleNotFoundError(
      "preparing a data set needs TensorFlow: pip install -e '.[tfds]' in the checkout"
    ) from error

  import tensorflow_datasets as tfds

  builder = tfds.builder(tfds_records.NAMES[name], data_dir=data_dir)
  builder.download_and_prepare(file_format="array_record")


def define_flags() -> None:
  """The flags of this command."""
  # Not at import: the trainer's flag has the same name.
  flags.DEFINE_string(
    "data_dir", "data/tfds", "TFDS's data folder, under which the data set is written."
  )
  cli.define_traceback()


def main(argv: list[str]) -> None:
  """Runs the command; invalid input exits with a one-line error."""
  args = flags.FLAGS
  cli.start_logging()
  with cli.mistakes_in_one_line(args.traceback):
    if len(argv) != 2:
      raise ValueError(f"expected one data set, as in mnist; got {argv[1:]}")
    prepare(argv[1], args.data_dir)


if __name__ == "__main__":
  define_flags()
  cli.run_app(main)
