"""One process of a job: the command line with a tiny network and deaths on demand.

  python job.py [--die_at_step=N --signal=S] FLAGS OF emosynth_jax.main

At step N, the process sends itself signal S. At its end it prints which image files it
has read and how often.
"""

import collections
import json
import os
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).parents[i]) for i in (1, 2)]


def main() -> None:
  import tiny_network

  from emosynth_jax import main, models, train_loop
  from emosynth_jax.data.images import files as image_files
  from emosynth_jax.parallel import mesh
  from emosynth_jax.utils import progress

  own = dict(
    a[2:].split("=") for a in sys.argv[1:3] if a[2:].startswith(("die", "sig"))
  )
  sys.argv[1:] = sys.argv[1 + len(own) :]
  models.MODELS["tiny"] = tiny_network.TinyNetwork
  # So that config.mesh.model splits the wide kernel of a tiny network.
  mesh._WIDE = 60
  update, read = progress.Progress.update, image_files.read
  reads: collections.Counter[str] = collections.Counter()

  def count(path, *arguments):
    reads[path.name] += 1
    return read(path, *arguments)

  def die(self, done, *arguments, **keywords):
    update(self, done, *arguments, **keywords)
    if own and done == int(own["die_at_step"]):
      os.kill(os.getpid(), int(own["signal"]))

  progress.Progress.update = die
  image_files.read = count
  train_one = train_loop.train

  def train_and_tell(*arguments, **keywords):
    try:
      return train_one(*arguments, **keywords)
    finally:
      print("READS", json.dumps(reads), flush=True)

  train_loop.train = train_and_tell
  main.run()


if __name__ == "__main__":
  main()
