"""One process of a job that trains nothing: what processes are to agree on.

  python agreements.py PORT PROCESS_ID FOLDER

Both call the same functions, partly with values that differ. Each prints what it got or
by what it was refused, as JSON. `FOLDER/saved` holds checkpoints.
"""

import json
import pathlib
import shutil
import sys
import zlib

sys.path[:0] = [str(pathlib.Path(__file__).parents[i]) for i in (1, 2)]


def main() -> None:
  import jax
  import numpy as np
  import tiny_network

  from emosynth_jax.data import run_data
  from emosynth_jax.data.dataset import Dataset
  from emosynth_jax.data.images.lazy import LazyImages
  from emosynth_jax.parallel import distributed, failures, mesh
  from emosynth_jax.workdir.checkpoints import CheckpointError, Checkpoints

  port, number, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  distributed.initialize(f"127.0.0.1:{port}", 2, number)
  told = {}

  def tell(name, compute):
    try:
      told[name] = compute()
    except (ValueError, CheckpointError) as error:
      told[name] = f"{type(error).__name__}: {error}"

  tell("same", lambda: distributed.check_same("settings", "the config"))
  tell("other", lambda: distributed.check_same(f"seed {number}", "the config"))
  tell("differing", lambda: list(distributed.differing(["a", f"{number}"]).items()))
  tell("folder", lambda: distributed.check_shared_folder(folder / "one"))
  tell("folders", lambda: distributed.check_shared_folder(folder / f"own{number}"))

  def rows(stretch):
    told["stretch"] = [stretch.start, stretch.stop]
    return np.array(stretch, np.int32) ** 2

  tell("share", lambda: distributed.share(5, rows).tolist())
  tell("share_of_other", lambda: distributed.share(5 + 100 * number, rows).tolist())

  def of_first(size=2):
    told["computed"] = True
    return np.arange(size) + 7

  def refuse():
    raise ValueError("of the first")

  tell("first", lambda: distributed.from_first(of_first, (2,), np.int64).tolist())
  tell("first_refuses", lambda: distributed.from_first(refuse, (2,), np.int64).tolist())
  tell(
    "first_of_other",
    lambda: distributed.from_first(of_first, (2 + number,), np.int64).tolist(),
  )

  images = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4, 1)
  part = images[:3] if number == 0 else images[3:]
  tell("crc", lambda: distributed.crc32_of_rows(part, 3 * number))
  told["crc_of_all"] = zlib.crc32(images.tobytes())

  def fingerprint(where, count=10, label=0):
    own = np.resize(images, (count, 4, 4, 1))
    lazy = LazyImages(lambda rows: own[rows], own.shape)
    if where == "held":
      lazy.hold(mesh.build_placement().own_rows(count))
    labels = np.arange(count, dtype=np.int32) % 2
    labels[4] = label
    train = Dataset(
      images=own if where == "memory" else lazy,
      labels=labels,
      class_names=("a", "b"),
      split="train",
      sources=tuple(map(str, range(count))),
    )
    return run_data.fingerprint({"train": train})["train"]

  tell("held", lambda: fingerprint("held"))
  tell("memory", lambda: fingerprint("memory"))
  tell("labels", lambda: fingerprint("held", label=number))
  # One that fits its devices and one that does not: the checksum of all images would be
  # waited for in vain.
  tell("stale", lambda: fingerprint(["held", "disk"][number], count=10 + 2 * number))

  def restore(workdir):
    checkpoints = Checkpoints(workdir, keep=2, read_only=True)
    try:
      state = checkpoints.restore("last", tiny_network.create_state())
      return None if state is None else int(state.step)
    finally:
      checkpoints.close()

  tell("restored", lambda: restore(folder / "saved"))
  own = folder / f"seen{number}"
  (own / "checkpoints").mkdir(parents=True)
  if number == 0:
    shutil.copytree(folder / "saved", own, dirs_exist_ok=True)
  tell("some_or_none", lambda: restore(own))
  if number == 1:
    shutil.copytree(folder / "saved", own, dirs_exist_ok=True)
    shutil.rmtree(own / "checkpoints" / "best" / "1")
  tell("other_best", lambda: restore(own))
  print("TOLD", json.dumps(told), flush=True)
  distributed.largest(0)
  failures.leave(0)


if __name__ == "__main__":
  main()
