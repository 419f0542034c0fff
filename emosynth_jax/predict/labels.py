"""Names that the command's flags and the predictor share, without importing JAX."""

FACES = ("detect", "none")
UNCERTAIN = "uncertain"
