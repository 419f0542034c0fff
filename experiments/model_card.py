"""Computes the tables of docs/results/model_card.md for any bundle or run, as Markdown.

  python -m experiments.model_card --data_dir=data
  python -m experiments.model_card --source=FILE.safetensors --data_dir=data

Accuracy with and without near-duplicates, with the mirror image and under the raters'
votes, classes, calibration, coverage by minimum confidence and confusions, on the
validation and the reported split. These results are not used for selection.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from absl import flags

from emosynth_jax import bundle, pretrained
from emosynth_jax.data import deduplicate, run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import fer_plus
from emosynth_jax.data.images import pixel_form
from emosynth_jax.utils import cli
from emosynth_jax.workdir import record as run_record
from experiments.lib import card_tables


def measure(source: str, *, data_dir: str | None, deduplicated: bool) -> str:
  """Computes a network's tables.

  Args:
    source: a bundle, a run's folder or the name of an included network.
    data_dir: data set directory, if it moved since training; else None.
    deduplicated: whether to search for near-duplicates, which needs the training split
      too.

  Returns:
    A description of the file, the pixel form of the images if known, and the tables.

  Raises:
    FileNotFoundError: if there is no network or no data.
    ValueError: for a damaged file, or data that is not the run's.
    CheckpointError: if the run's checkpoints are damaged.
  """
  path = pretrained.find(source)
  network = bundle.read_network(path, data_dir=data_dir)
  config = network.config
  names = run_data.splits(config)
  try:
    datasets = run_data.load_data(config, names if deduplicated else names[1:])
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"{error}. Set --data_dir to the data set directory."
    ) from error
  if path.is_dir():
    run_record.check_same_fingerprint(run_data.fingerprint(datasets), path)
  training = datasets.pop("train", None)
  for dataset in datasets.values():
    if tuple(dataset.class_names) != network.class_names:
      raise ValueError(
        f"the network has the classes {', '.join(network.class_names)}, the data set "
        f"{', '.join(dataset.class_names)}"
      )
  compute = bundle.compile_logits(network, batch_size=bundle.SPLIT_BATCH)

  def evaluate(dataset: Dataset) -> dict[str, Any]:
    return card_tables.summarize(
      compute(dataset.images), dataset.labels, network.class_names
    )

  rest: Mapping[str, Any] = {}
  if training is not None:
    rest = deduplicate.evaluate_deduplicated(
      evaluate, training, datasets, **config.data.near_duplicates
    )
  splits = [
    card_tables.Split(
      fer_plus.without_number(dataset.official_split or name),
      compute(dataset.images),
      dataset.labels,
      rest.get(name),
      compute(dataset.images[:, :, ::-1]) if config.augment.flip else None,
      dataset.votes,
    )
    for name, dataset in datasets.items()
  ]
  tables = card_tables.format_card(splits, network.class_names, network.temperature)
  forms = [
    f"{splits[i].name}: {pixel_form.describe_counts(found['pixel_forms'])}"
    for i, found in enumerate(run_data.fingerprint(datasets).values())
    if found.get("pixel_forms")
  ]
  parts = [_describe(network, path), tables]
  if forms:
    parts.insert(1, f"Pixel form of the images of {', of '.join(forms)}.")
  return "\n\n".join(parts)


def _describe(network: bundle.Bundle, path: pathlib.Path) -> str:
  sizes = [x.size for x in jax.tree.leaves(network.variables["params"])]
  text = f"{path.name}: {sum(sizes):,} parameters"
  if path.is_file():
    text += f", {path.stat().st_size / 2**20:.2f} MiB"
  rounding = network.facts.get("rounding")
  if rounding:
    text += (
      f". Rounding changes {rounding['changed_predictions']} of "
      f"{rounding['num_examples']:,} predictions on {rounding['split']} (accuracy "
      f"{card_tables.percent(rounding['accuracy_float32'])} before, "
      f"{card_tables.percent(rounding['accuracy_float16'])} after), and no probability "
      f"by more than {rounding['max_abs_change_of_a_probability']:.1g}"
    )
  return f"{text}."


def print_tables(args: Any) -> None:
  """Prints the tables."""
  text = measure(args.source, data_dir=args.data_dir, deduplicated=args.deduplicated)
  print(text, end="")


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string(
    "source",
    pretrained.DEFAULT,
    "Bundle, workdir of a run, or name of an included network: "
    f"{' or '.join(pretrained.NETWORKS)}.",
  )
  flags.DEFINE_bool(
    "deduplicated",
    True,
    "Also reports the accuracy without images that have a near-duplicate in an earlier "
    "split. Needs the training split, and takes a minute.",
  )
  cli.define_data_dir()


if __name__ == "__main__":
  cli.run(define_flags, print_tables)
