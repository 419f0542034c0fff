"""The command `emosynth`: all commands of the package under one name.

  emosynth train --config=synthetic_faces:small
  emosynth predict photograph.jpg

`emosynth COMMAND ...` does what `python -m MODULE ...` does.
"""

import runpy
import sys

import emosynth_jax
from emosynth_jax.utils.nearest import did_you_mean

# Command -> module, arguments that come first, and what it does.
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
  "train": ("emosynth_jax.main", (), "Train a network and evaluate it; resume a run."),
  "evaluate": (
    "emosynth_jax.main",
    ("--mode=eval",),
    "Evaluate the run in --workdir again.",
  ),
  "report": ("emosynth_jax.report", (), "Write an HTML report of one or several runs."),
  "config": ("emosynth_jax.config", (), "Print the settings and what they mean."),
  "predict": ("emosynth_jax.predict", (), "Classify faces in images and videos."),
  "audit": ("emosynth_jax.audit", (), "Find what is wrong with a data set."),
  "export": ("emosynth_jax.export", (), "Write a network as ONNX or StableHLO."),
  "bundle": ("emosynth_jax.bundle", (), "Write a calibrated network into one file."),
  "prepare": ("emosynth_jax.data.prepare", (), "Download and prepare a data set."),
  "gradcam": ("emosynth_jax.analysis.gradcam", (), "Draw Grad-CAM of a run."),
  "deletion": ("emosynth_jax.analysis.deletion", (), "Test Grad-CAM by deletion."),
  "cross_dataset": (
    "emosynth_jax.analysis.cross_dataset",
    (),
    "Evaluate runs on each other's data sets.",
  ),
  "embeddings": ("emosynth_jax.analysis.embeddings", (), "Draw a run's embeddings."),
  "landscape": (
    "emosynth_jax.analysis.loss_landscape",
    (),
    "Compute the loss landscape around a run.",
  ),
  "curvature": (
    "emosynth_jax.analysis.curvature",
    (),
    "Compute the curvature of a run's loss.",
  ),
}


def describe() -> str:
  """Lists the commands, one a line."""
  width = max(map(len, COMMANDS))
  lines = [f"  {name:{width}}  {text}" for name, (_, _, text) in COMMANDS.items()]
  return "\n".join(
    [
      "usage: emosynth COMMAND [FLAGS]",
      "",
      *lines,
      "",
      "emosynth COMMAND --help lists the flags of a command.",
    ]
  )


def run() -> None:
  """Entry point of the command line."""
  name, *arguments = sys.argv[1:] or ["--help"]
  if name in ("--help", "-h", "help"):
    print(describe())
    return
  if name == "--version":
    print(emosynth_jax.__version__)
    return

  if name not in COMMANDS:
    hint = did_you_mean(name, COMMANDS)
    print(
      f"error: there is no command {name!r}{hint or '; --help lists them'}",
      file=sys.stderr,
    )
    sys.exit(2)

  module, first, _ = COMMANDS[name]
  sys.argv = [f"emosynth {name}", *first, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  run()
