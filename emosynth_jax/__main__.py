"""The command `emosynth`, as python -m emosynth_jax."""

from emosynth_jax import console

if __name__ == "__main__":
  console.run()
