"""Alias of the command `emosynth_jax.analysis.embeddings`, by its former name."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "emosynth_jax.analysis.embeddings", run_name="__main__", alter_sys=True
  )
