"""The first lines of a training, on the screen and in log.txt."""

import logging
import re
import types

import tiny_workdir
from absl import logging as absl_logging

from emosynth_jax.config import defaults
from emosynth_jax.training import build, run_header
from emosynth_jax.utils import log_file


def test_the_screen_has_the_number_of_parameters_and_the_log_their_table(
  tiny_networks, caplog
):
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 4, "dtype": "float32"}
  built = build.build_experiment(config, image_shape=(48, 48, 1), num_classes=7)
  train = tiny_workdir.dataset(3, split="train")

  absl_logging.set_verbosity(absl_logging.INFO)
  with caplog.at_level(logging.INFO):
    run_header.log_run(
      config,
      types.SimpleNamespace(
        experiment=built,
        steps_per_epoch=2,
        data=types.SimpleNamespace(datasets={"train": train}),
      ),
    )

  shown = [r.getMessage() for r in caplog.records if not log_file.is_file_only(r)]
  (table,) = [r.getMessage() for r in caplog.records if log_file.is_file_only(r)]
  # The last layer, and every size in the table adds up to the line on the screen.
  assert re.search(r"\| \S+/kernel +\| \(\d+, 7\) +\| float32 \|", table)
  sizes = re.findall(r"float32 \| ([\d,]+)", table)
  total = sum(int(size.replace(",", "")) for size in sizes)
  assert f"parameters: {total:,}" in shown
  assert not any("kernel" in line for line in shown)
