"""Bundle: a trained network in one file, with all that prediction needs."""

from emosynth_jax.bundle.format import (
  DTYPES,
  FORMAT,
  Bundle,
  from_record,
  read_bundle,
  round_variables,
  write_bundle,
)
from emosynth_jax.bundle.load import read_network
from emosynth_jax.bundle.logits import SPLIT_BATCH, compile_logits

__all__ = [
  "DTYPES",
  "FORMAT",
  "SPLIT_BATCH",
  "Bundle",
  "compile_logits",
  "from_record",
  "read_bundle",
  "read_network",
  "round_variables",
  "write_bundle",
]
