"""Facial expression prediction for images, videos and webcams.

  from emosynth_jax.predict import Predictor

  predictor = Predictor()  # or ("fer2013"), or of a run's workdir, or a bundle
  print(predictor("photograph.jpg"))

and as a command, for image files, folders, videos and a webcam:

  python -m emosynth_jax.predict PATH... --annotate=DIR

Read docs/guides/predict.md first, on the limits of such labels.
"""

from absl import flags

from emosynth_jax.predict import output as predict_output
from emosynth_jax.predict import run
from emosynth_jax.predict.labels import FACES
from emosynth_jax.pretrained import source_flags
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  source_flags.define_source()
  flags.DEFINE_enum(
    "faces",
    "detect",
    list(FACES),
    "detect: detect faces in each image. none: each image is one face crop.",
  )
  flags.DEFINE_float(
    "min_confidence",
    0.5,
    "Minimum calibrated probability of a label; below it the label is 'uncertain'.",
  )
  flags.DEFINE_float(
    "min_face_score", 0.5, "Minimum detection score of a face, in (0, 1)."
  )
  flags.DEFINE_integer(
    "max_side",
    640,
    "Longer side, in pixels, to which images are resized for face detection.",
    64,
  )
  flags.DEFINE_float(
    "max_scale",
    2.0,
    "Maximum factor by which smaller images are enlarged for face detection.",
  )
  flags.DEFINE_bool(
    "upright", True, "Turn faces upright that are rotated in the image plane."
  )
  flags.DEFINE_integer("batch_size", 8, "Batch size of the classifier, in faces.", 1)
  flags.DEFINE_enum(
    "format", "jsonl", list(predict_output.FORMATS), "Format of the output lines."
  )
  flags.DEFINE_string("output", None, "Output file; by default standard output.")
  flags.DEFINE_string(
    "annotate",
    None,
    "Folder for annotated copies, NAME.faces.png and NAME.faces.mp4, with boxes and "
    "labels.",
  )
  flags.DEFINE_integer(
    "every", 1, "Frame interval of videos: every N-th frame is classified.", 1
  )
  flags.DEFINE_integer(
    "max_frames", 0, "Maximum number of classified frames of a video; 0 for all.", 0
  )
  flags.DEFINE_string(
    "data_dir",
    None,
    "Data set directory, if it moved since training; only needed to calibrate a "
    "run's probabilities once.",
  )
  cli.define_traceback()
  cli.define_trust()


if __name__ == "__main__":
  define_flags()
  cli.run_app(run.main, stops_at_once=False)
