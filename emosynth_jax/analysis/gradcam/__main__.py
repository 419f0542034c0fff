"""Grad-CAM (Selvaraju et al., 2017) of a trained run.

  python -m emosynth_jax.analysis.gradcam --workdir=runs/ce

Writes gradcam.npz (the maps of all images used) and gradcam.png into a trained run's
workdir; see emosynth_jax/analysis/gradcam/command.py.
"""

from absl import flags

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.gradcam import command
from emosynth_jax.analysis.gradcam import network as gradcam_network


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.", required=True)
  flags.DEFINE_string("layer", None, gradcam_network.LAYER_HELP)
  cli.define_split("validation")
  flags.DEFINE_integer("images", 256, "Number of images of the split; 0 for all.", 0)
  flags.DEFINE_integer("batch_size", 64, "Batch size in images.", 1)
  flags.DEFINE_enum(
    "target",
    "predicted",
    ["predicted", "label"],
    "Class that the maps explain: the predicted one or the label.",
  )
  flags.DEFINE_bool(
    "sanity_check",
    False,
    "Also runs the sanity check: cascading randomization of the layers, from the last "
    "to the first.",
  )


if __name__ == "__main__":
  cli.run(define_flags, command.explain_run)
