"""Memory and compilations over many epochs of a tiny training.

  python -m benchmarks.epochs --epochs=200

It trains on 14 synthetic faces, and prints the resident memory and the compiled
programs so far, ten times over the run. Memory that grows with the epochs, or a program
that is compiled after the first one, is a leak of the training loop.
"""

import tempfile
from typing import Any

from absl import flags

from emosynth_jax.utils import cli, text_table

_COMPILED = "/jax/core/compile/backend_compile_duration"


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_integer("epochs", 200, "Epochs of the training.", 10)


def run(args: Any) -> None:
  """Trains and prints the table."""
  import jax

  from benchmarks import measure
  from emosynth_jax import train_loop
  from emosynth_jax.config import defaults
  from emosynth_jax.training import epoch

  config = defaults.get_default_config()
  config.model.width, config.model.dense_features = 0.0625, (8, 8)
  config.data.options.num_examples = 14
  config.batch_size = 7
  config.num_epochs = args.epochs
  config.early_stop_patience = 0

  compiled = []

  def count(event, duration_secs, **about):
    if event == _COMPILED:
      compiled.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(count)

  rows = []
  every = args.epochs // 10

  def log(record, *, is_best):
    if record["epoch"] == 1 or record["epoch"] % every == 0:
      memory = f"{measure.resident_memory():.0f}"
      rows.append([str(record["epoch"]), memory, str(len(compiled))])

  epoch.log = log
  with tempfile.TemporaryDirectory() as workdir:
    train_loop.train(config, workdir)
  print("\n".join(text_table.align([["epoch", "MiB", "compiled"], *rows])))


if __name__ == "__main__":
  cli.run(define_flags, run, compilation_cache=False)
