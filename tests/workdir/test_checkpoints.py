"""Checkpoints: what is saved comes back, and what is damaged is never trained on."""

import base64
import concurrent.futures
import functools
import hashlib
import json
import logging
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_network

from emosynth_jax.training.state import copy_for_ema
from emosynth_jax.workdir import digests
from emosynth_jax.workdir.checkpoints import CheckpointError, Checkpoints

# Wide enough for an array file of its own: small arrays lie within the index.
_MODEL = tiny_network.TinyNetwork(features=300)


@functools.cache
def _state(step, model=_MODEL):
  """A state in which every array depends on the step."""
  state = tiny_network.create_state(model)
  change = lambda x: x + jnp.asarray(step, x.dtype)  # noqa: E731
  return jax.tree.map(change, state).replace(step=jnp.int32(step))


def _assert_same(state, expected):
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for leaf, other in zip(
    jax.tree.leaves(state), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_array_equal(leaf, other, strict=True)


def _steps(workdir, kind="last"):
  return sorted(int(p.name) for p in (workdir / "checkpoints" / kind).glob("[0-9]"))


def _save(workdir, *kinds_and_steps, keep=2):
  checkpoints = Checkpoints(workdir, keep=keep)
  for kind, step in kinds_and_steps:
    checkpoints.save(kind, _state(step))
  checkpoints.close()


def _restore(workdir, kind="last", like=None):
  checkpoints = Checkpoints(workdir, keep=2)
  try:
    return checkpoints.restore(kind, jax.eval_shape(lambda: like or _state(0)))
  finally:
    checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A workdir with two checkpoints, to be copied."""
  workdir = tmp_path_factory.mktemp("saved")
  _save(workdir, ("last", 1), ("last", 2))
  return workdir


@pytest.fixture
def workdir(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / "run"))


def test_nothing_saved_is_nothing_restored(tmp_path):
  assert _restore(tmp_path) is None
  assert _restore(tmp_path, "best") is None


def test_the_newest_of_its_kind_comes_back_bit_for_bit(tmp_path):
  state = _state(3).replace(
    best_value=jnp.float32(-np.inf), loss_state=jnp.ones((2, 3))
  )
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save("last", _state(2))
  checkpoints.save("best", _state(1))
  checkpoints.save("last", state)
  checkpoints.close()
  _assert_same(_restore(tmp_path, like=state), state)
  _assert_same(_restore(tmp_path, "best"), _state(1))


def test_a_restored_state_runs_in_the_program_of_a_fresh_one(workdir):
  step = jax.jit(lambda state: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), state))
  step(_state(1))
  restored = _restore(workdir)
  step(step(restored))
  # Arrays bound to a device would be lowered and compiled anew.
  assert step._cache_size() == 1
  assert not any(leaf.committed for leaf in jax.tree.leaves(restored))


def test_the_state_may_be_donated_once_it_is_saved(tmp_path):
  state = jax.tree.map(jnp.copy, _state(5))
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save("last", state)
  overwrite = jax.jit(
    lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0, keep_unused=True
  )
  overwrite(state)
  checkpoints.close()
  _assert_same(_restore(tmp_path), _state(5))


def test_only_the_last_few_and_one_best_more_are_kept(tmp_path):
  _save(tmp_path, *[(kind, step) for step in range(5) for kind in ("best", "last")])
  assert _steps(tmp_path) == [3, 4]
  assert _steps(tmp_path, "best") == [2, 3, 4]
  _save(tmp_path, ("last", 5), ("last", 6), keep=3)
  assert _steps(tmp_path) == [4, 5, 6]


def test_the_best_is_on_disk_before_a_last_that_speaks_of_it(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, keep=2)
  seen = {"last": [], "best": []}

  def watch(kind):
    manager = checkpoints._managers[kind]
    save = manager.save

    def watched(*arguments, **keywords):
      other = "best" if kind == "last" else "last"
      seen[kind].append(_steps(tmp_path, other))
      return save(*arguments, **keywords)

    monkeypatch.setattr(manager, "save", watched)

  for kind in seen:
    watch(kind)
  for step in (1, 2, 3):
    checkpoints.save("best", _state(step))
    checkpoints.save("last", _state(step))
  checkpoints.close()
  assert seen["last"] == [[1], [1, 2], [1, 2, 3]]
  # And the last that needs the older best is replaced before that is deleted.
  assert seen["best"] == [[], [1], [1, 2]]


def test_a_held_best_is_saved_with_the_next_last_or_at_the_close(tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  for step in (1, 2, 3):
    state = jax.tree.map(jnp.copy, _state(step))
    checkpoints.hold_best(state)
    # As a step that the state is donated to.
    jax.tree.map(lambda x: x.delete(), state)
  assert _steps(tmp_path, "best") == []
  checkpoints.save("last", _state(4))
  checkpoints.wait()
  assert (_steps(tmp_path, "best"), _steps(tmp_path)) == ([3], [4])
  # A later best one replaces it.
  checkpoints.hold_best(_state(5))
  checkpoints.save("best", _state(6))
  checkpoints.save("last", _state(6))
  checkpoints.wait()
  assert _steps(tmp_path, "best") == [3, 6]
  checkpoints.hold_best(_state(7))
  checkpoints.close()
  assert (_steps(tmp_path, "best"), _steps(tmp_path)) == ([3, 6, 7], [4, 6])
  _assert_same(_restore(tmp_path, "best"), _state(7))


def test_rewinding_forgets_best_states_of_the_future_alone(tmp_path):
  _save(tmp_path, ("best", 4), ("last", 4), ("best", 8), keep=5)
  checkpoints = Checkpoints(tmp_path, keep=5)
  checkpoints.rewind(8)
  assert _steps(tmp_path, "best") == [4, 8]
  checkpoints.rewind(4)
  checkpoints.close()
  assert _steps(tmp_path, "best") == [4]
  assert _steps(tmp_path) == [4]
  _assert_same(_restore(tmp_path, "best"), _state(4))
  # Epochs may have one step.
  _save(tmp_path, ("best", 5))
  checkpoints = Checkpoints(tmp_path, keep=5)
  checkpoints.rewind(4)
  checkpoints.close()
  assert _steps(tmp_path, "best") == [4]
  # The run comes to step 8 again.
  _save(tmp_path, ("best", 8))
  assert _steps(tmp_path, "best") == [4, 8]


def test_a_state_saved_on_another_kind_of_device_is_read(workdir, caplog):
  files = list((workdir / "checkpoints/last/2").rglob("_sharding"))
  assert files
  for file in files:
    shardings = json.loads(file.read_text())
    for name, encoded in shardings.items():
      text = base64.b64decode(encoded).decode() if "{" not in encoded else encoded
      assert "cpu:0" in text.lower()
      text = text.replace("cpu:0", "cuda:0").replace("CPU:0", "CUDA:0")
      shardings[name] = (
        base64.b64encode(text.encode()).decode() if "{" not in encoded else text
      )
    file.write_text(json.dumps(shardings))
  _assert_same(_restore(workdir), _state(2))
  assert "damaged" not in caplog.text


def test_reading_only_leaves_everything_where_it_is(workdir):
  _flip(_files(workdir, 2)[0])
  unfinished = workdir / "checkpoints/last/3.orbax-checkpoint-tmp"
  unfinished.mkdir()
  checkpoints = Checkpoints(workdir, keep=2, read_only=True)
  _assert_same(checkpoints.restore("last", _state(0)), _state(1))
  checkpoints.close()
  assert unfinished.is_dir()
  assert not (workdir / "checkpoints/damaged").exists()
  assert _steps(workdir) == [1, 2]


def _flip(path, share=0.5):
  content = bytearray(path.read_bytes())
  content[int(share * (len(content) - 1))] ^= 0xFF
  path.write_bytes(content)


_DAMAGES = {
  "flipped": _flip,
  "flipped near the end": functools.partial(_flip, share=0.9),
  "truncated": lambda path: path.write_bytes(
    path.read_bytes()[: path.stat().st_size // 2]
  ),
  "deleted": lambda path: path.unlink(),
}


def _files(workdir, step):
  """Files of a checkpoint, from the largest (the arrays) down."""
  folder = workdir / "checkpoints" / "last" / str(step)
  files = [path for path in folder.rglob("*") if path.is_file()]
  return sorted(files, key=lambda path: (-path.stat().st_size, path))


def _is_reported(caplog, kind_and_step):
  errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
  place = f"damaged/{kind_and_step}"
  return any("is damaged" in message and place in message for message in errors)


@pytest.mark.parametrize("damage", _DAMAGES)
def test_damaged_arrays_are_reported_set_aside_and_the_one_before_used(
  workdir, damage, caplog
):
  largest = _files(workdir, 2)[0]
  assert largest.stat().st_size > 10_000
  _DAMAGES[damage](largest)
  with caplog.at_level(logging.ERROR):
    _assert_same(_restore(workdir), _state(1))
  assert _is_reported(caplog, "last-2")
  assert _steps(workdir) == [1]
  assert (workdir / "checkpoints/damaged/last-2").is_dir()
  # The run comes to step 2 again.
  _save(workdir, ("last", 2))
  _assert_same(_restore(workdir), _state(2))


@pytest.mark.parametrize(
  "damage",
  [
    *("flipped", "truncated", "deleted"),
    pytest.param("flipped near the end", marks=pytest.mark.slow),
  ],
)
def test_no_damaged_file_changes_a_number(saved, tmp_path, damage, caplog):
  fallbacks = 0
  for number in range(len(_files(saved, 2))):
    workdir = pathlib.Path(shutil.copytree(saved, tmp_path / str(number)))
    _DAMAGES[damage](_files(workdir, 2)[number])
    caplog.clear()
    restored = _restore(workdir)
    # Some files repeat what others say: without them nothing is lost.
    _assert_same(restored, _state(int(restored.step)))
    fallbacks += int(restored.step) == 1
    assert _is_reported(caplog, "last-2") == (int(restored.step) == 1)
  assert fallbacks >= 3


@pytest.mark.parametrize(
  "other",
  [
    jnp.zeros((2, 3), jnp.int32),
    jnp.zeros((3, 2), jnp.float32),
    jnp.zeros(6, jnp.float32),
    jnp.zeros((2, 6), jnp.bfloat16),
  ],
)
def test_equal_bytes_of_another_type_or_shape_have_another_digest(other):
  (own,) = digests.compute([jnp.zeros((2, 3), jnp.float32)]).values()
  (found,) = digests.compute([other]).values()
  assert found.split()[0] != own.split()[0]
  with pytest.raises(ValueError, match=r"the digest of .* does not match"):
    digests.check([other], {"[0]": own})


def test_digests_of_earlier_versions_are_read():
  """They had no dtype and shape beside them; the hash, hashlib's here, has both."""
  array = jnp.arange(3, dtype=jnp.int32)
  digest = hashlib.sha256(b"int32(3,)" + np.asarray(array).tobytes()).hexdigest()
  digests.check([array], {"[0]": digest})
  digests.check([array], {"[0]": f"{digest} int32(3,)"})
  with pytest.raises(ValueError, match="does not match"):
    digests.check([array], {"[0]": digest[:-1]})


def _reverse_digest(workdir, kind, name):
  digest = workdir / f"checkpoints/{kind}/2/digest/metadata"
  content = json.loads(digest.read_text())
  digest.write_text(json.dumps(content | {name: content[name][::-1]}))


def test_a_digest_that_belongs_to_other_arrays_is_damage(workdir, caplog):
  name = ".params['logits']['bias']"
  _reverse_digest(workdir, "last", name)
  _assert_same(_restore(workdir), _state(1))
  assert _is_reported(caplog, "last-2")
  assert name in caplog.text


def test_no_bit_of_the_digests_hides_the_checkpoint_before(saved, tmp_path):
  """In a path's name it was called another network's, and all was refused."""
  size = (saved / "checkpoints/last/2/digest/metadata").stat().st_size
  for place in range(3, size, size // 8):
    workdir = pathlib.Path(shutil.copytree(saved, tmp_path / str(place)))
    path = workdir / "checkpoints/last/2/digest/metadata"
    content = bytearray(path.read_bytes())
    content[place] ^= 2
    path.write_bytes(content)
    _assert_same(_restore(workdir), _state(1))


@pytest.mark.parametrize("is_averaged", [False, True])
def test_variables_are_checked_by_their_digests_too(tmp_path, is_averaged, caplog):
  """As analyses and fine-tuning read them."""
  states = []
  for step in (1, 2):
    state = _state(step)
    if is_averaged:
      state = state.replace(ema=copy_for_ema(state.params, state.batch_stats))
    states.append(state)
  checkpoints = Checkpoints(tmp_path, keep=2)
  for state in states:
    checkpoints.save("best", state)
  checkpoints.wait()
  found = checkpoints.restore_variables()
  _assert_same(found.params, states[1].params)
  _assert_same(found.batch_stats, states[1].batch_stats)

  part = ".ema['params']" if is_averaged else ".params"
  name = f"{part}['logits']['bias']"
  _reverse_digest(tmp_path, "best", name)
  _assert_same(checkpoints.restore_variables().params, states[0].params)
  checkpoints.close()
  assert name in caplog.text


def test_no_sound_checkpoint_is_an_error_however_often_it_is_tried(workdir):
  _save(workdir, ("best", 2))
  for step in (1, 2):
    _flip(_files(workdir, step)[0])
  for _ in range(2):
    with pytest.raises(CheckpointError, match=r"every checkpoint under .* is damaged"):
      _restore(workdir)
  assert sorted(p.name for p in (workdir / "checkpoints/damaged").iterdir()) == [
    "last-1",
    "last-2",
  ]
  _assert_same(_restore(workdir, "best"), _state(2))


@pytest.mark.parametrize(
  "like",
  [
    _state(0, tiny_network.TinyNetwork(features=300, num_classes=4)),
    _state(0, tiny_network.TinyNetwork(features=301)),
    tiny_network.create_state(_MODEL, gradient_clip=1.0),
    _state(0).replace(loss_state=jnp.ones(3)),
  ],
  ids=["classes", "width", "optimizer", "loss"],
)
def test_a_checkpoint_of_another_network_is_refused_and_stays(workdir, like):
  with pytest.raises(CheckpointError, match="does not match this network"):
    _restore(workdir, like=like)
  assert _steps(workdir) == [1, 2]
  _assert_same(_restore(workdir), _state(2))


def test_a_checkpoint_from_before_a_sum_of_the_epoch_was_kept_is_read(tmp_path):
  """Version 0.1's totals had no "cross_entropy"; it is unknown until the next epoch."""
  state = _state(2)
  older = {k: v for k, v in state.totals.items() if k != "cross_entropy"}
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save("last", state.replace(totals=older))
  checkpoints.close()
  restored = _restore(tmp_path)
  assert np.isnan(restored.totals["cross_entropy"])
  _assert_same(restored.replace(totals=older), state.replace(totals=older))


def test_a_save_cut_short_leaves_the_one_before_it(workdir):
  # Orbax writes beside the place and renames; this is what a kill leaves behind.
  folder = workdir / "checkpoints/last"
  shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
  _files(workdir, "3.orbax-checkpoint-tmp")[0].unlink()
  _assert_same(_restore(workdir), _state(2))
  _save(workdir, ("last", 3))
  _assert_same(_restore(workdir), _state(3))
  assert not list(folder.glob("*tmp*"))


def test_saves_of_threads_wait_for_one_another(tmp_path, monkeypatch):
  """Orbax mixes up the folders of saves that begin at once in one process."""
  save, inside, most = ocp.CheckpointManager.save, [], []

  def slow_save(*args, **kwargs):
    inside.append(1)
    time.sleep(0.05)
    most.append(len(inside))
    try:
      return save(*args, **kwargs)
    finally:
      inside.pop()

  monkeypatch.setattr(ocp.CheckpointManager, "save", slow_save)
  steps = [1, 2, 3]
  folders = [tmp_path / name for name in "abc"]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(lambda f: _save(f, *[("last", s) for s in steps], keep=3), folders))
  assert most == [1] * 9
  for folder in folders:
    assert _steps(folder) == steps
    _assert_same(_restore(folder), _state(3))


def _save_and_replace(workdir, *steps):
  """Saves at each step, and then another state at the last one in its place."""
  changed = _state(steps[-1])
  changed = changed.replace(best_epoch=changed.best_epoch + 1)
  checkpoints = Checkpoints(workdir, keep=2)
  for step in steps:
    checkpoints.save("last", _state(step))
  checkpoints.save("last", changed, replace=True)
  checkpoints.close()
  return changed


def test_a_checkpoint_is_replaced_where_there_is_one_before_it(tmp_path):
  """Else a kill between the two would leave nothing to resume from."""
  changed = _save_and_replace(tmp_path / "two", 2, 3)
  _assert_same(_restore(tmp_path / "two"), changed)
  _save_and_replace(tmp_path / "one", 3)
  _assert_same(_restore(tmp_path / "one"), _state(3))
