"""Facial expression prediction for images, videos and webcams.

  from emosynth_jax.predict import Predictor

  predictor = Predictor()  # or of a run's workdir, or a bundle
  print(predictor("photograph.jpg"))

and as a command, for image files, folders, videos and a webcam:

  python -m emosynth_jax.predict PATH... --annotate=DIR

Read docs/guides/predict.md first, on the limits of such labels.
"""

from absl import app, flags

from emosynth_jax.predict import output as predict_output
from emosynth_jax.predict import predictor as predictor_module
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.")
  flags.DEFINE_string(
    "bundle",
    None,
    "A .safetensors file of emosynth_jax.bundle. Without it and without "
    "--workdir, the network that comes with the package.",
  )
  flags.DEFINE_enum(
    "faces",
    "detect",
    list(predictor_module.FACES),
    "detect: look for faces. none: every picture is one cropped face.",
  )
  flags.DEFINE_float(
    "min_confidence", 0.5, "Below this calibrated probability a label is 'uncertain'."
  )
  flags.DEFINE_float("min_face_score", 0.5, "Least score of a face, in (0, 1).")
  flags.DEFINE_integer(
    "max_side", 640, "Longer side, in pixels, at which faces are looked for.", 64
  )
  flags.DEFINE_float(
    "max_scale", 2.0, "Smaller pictures are enlarged by up to this factor, for that."
  )
  flags.DEFINE_integer("batch_size", 8, "Faces at a time.", 1)
  flags.DEFINE_enum("format", "jsonl", list(predict_output.FORMATS), "Of the lines.")
  flags.DEFINE_string("output", None, "File of the lines; by default standard output.")
  flags.DEFINE_string(
    "annotate", None, "Folder for NAME.faces.png and .faces.mp4, with boxes."
  )
  flags.DEFINE_integer("every", 1, "Of a video, each so many frames one is taken.", 1)
  flags.DEFINE_integer("max_frames", 0, "At most so many of a video; 0 for all.", 0)
  flags.DEFINE_string(
    "data_dir", None, "Where a run's data set is, if it was never calibrated."
  )
  cli.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  from emosynth_jax.predict import run as predict_run

  define_flags()
  app.run(predict_run.main)


if __name__ == "__main__":
  run()
