"""Names that the command's flags and the predictor share, without importing JAX."""

FACES = ("detect", "none")
UNCERTAIN = "uncertain"
# Exit code of the command if it could not read some of the images.
UNREADABLE = 2
