"""Checkpoints: the last few and the best one, atomic, verified on restore.

Under `workdir/checkpoints`, `last/STEP` holds the newest states and `best/STEP` the
one with the best validation metric. Orbax writes each to a temporary folder and renames
it when it is complete, in the background. Each contains a digest of every array, since
a damaged array may be read without an error, and training would continue silently.

In a multi-process job all processes make the same calls; a checkpoint can be restored
on any number of processes and devices.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from emosynth_jax.parallel import distributed
from emosynth_jax.utils import errors, files
from emosynth_jax.workdir import digests

# Orbax numbers saves by one counter per process, which it rereads within a save: of two
# concurrent saves in two threads (concurrent seeds), one would wait for the other's
# folders, for five minutes, and fail.
_SAVE = threading.Lock()

# Name of the records' digest; the arrays' names are paths, which begin with a dot.
_RECORDS = "metrics.jsonl"


class CheckpointError(errors.UserError):
  """Raised if no checkpoint can be used."""


class Variables(NamedTuple):
  """A network's variables, by the names of `TrainState`."""

  params: Any
  batch_stats: Any


class _Averages(NamedTuple):
  """The averages of the variables, by the names of `TrainState`."""

  ema: Any


class Checkpoints:
  """The checkpoints of one workdir."""

  def __init__(
    self,
    workdir: str | os.PathLike,
    *,
    keep: int,
    read_only: bool = False,
    digest_records: Callable[[], str] | None = None,
  ):
    """Opens the checkpoints; nothing is written yet.

    Args:
      workdir: the run's folder.
      keep: number of last checkpoints to keep.
      read_only: does not modify the folder, including unfinished saves and damaged
        checkpoints: for an evaluation during training.
      digest_records: digest of the records up to now, which every last checkpoint
        stores, see `stored_records`.
    """
    self._digest_records = digest_records
    self._read_only = read_only
    self._digested: weakref.ref[Any] | None = None
    self._digests: dict[str, str] = {}
    self._held_best: Any = None
    self._root = pathlib.Path(workdir).resolve() / "checkpoints"
    _silence_abandoned_tasks()
    self._managers = {
      kind: ocp.CheckpointManager(
        self._root / kind,
        # Named here: otherwise metadata could be read only after a first save or
        # restore.
        item_handlers={
          "state": ocp.StandardCheckpointHandler(),
          "digest": ocp.JsonCheckpointHandler(),
        },
        options=_options(number, read_only),
      )
      # One more than the last ones: from whichever of those a run resumes, its best one
      # is available.
      for kind, number in (("last", keep), ("best", keep + 1))
    }

  def hold_best(self, state: Any) -> None:
    """Holds a copy of the best state on its devices, until the next save or `close`."""
    # The next step donates the state's buffers.
    self._held_best = jax.tree.map(jnp.copy, state)

  def save(self, kind: str, state: Any, *, replace: bool = False) -> None:
    """Saves `state` as the newest of its kind, in the background.

    It waits until all previous saves are on disk, so that at any time the best state
    before the newest "last" is available. A held best state is saved before a "last",
    and replaced by a "best".

    Args:
      kind: "last" or "best".
      state: what to save.
      replace: replaces a checkpoint of the same step, instead of keeping it. Between
        the two the one before it is the last; without one before it, it is kept.
    """
    held, self._held_best = self._held_best, None
    if kind == "last" and held is not None:
      self.save("best", held)
    manager, step = self._managers[kind], int(state.step)
    self.wait()
    if step in manager.all_steps():
      # A run that is killed between the two must have something to resume from.
      if not replace or len(manager.all_steps()) == 1:
        return
      manager.delete(step)

    digest = self._digest_once(state)
    if kind == "last" and self._digest_records is not None:
      digest = digest | {_RECORDS: self._digest_records()}
    # The next step donates the state's buffers while the writer still reads them.
    state = jax.tree.map(jnp.copy, state)
    with _SAVE, files.writing(self._root):
      manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(_fields(state)),
          digest=ocp.args.JsonSave(digest),
        ),
        force=True,
      )

  def path(self, kind: str) -> pathlib.Path:
    """The folder of a kind's checkpoints."""
    return self._root / kind

  def stored_records(self, step: int) -> str:
    """The digest of the records at the last checkpoint of a step; "" if unknown."""
    return _read_json(self._managers["last"], step).get(_RECORDS, "")

  def newest_records(self) -> str:
    """The digest of the records at the newest last checkpoint; "" if unknown."""
    step = self._managers["last"].latest_step()
    if step is None:
      return ""
    try:
      return self.stored_records(step)
    except Exception:  # A damaged file may raise any error.
      return ""

  def _digest_once(self, state: Any) -> dict[str, str]:
    # An epoch's end often saves one state as both kinds.
    if self._digested is None or self._digested() is not state:
      self._digests = digests.compute(state)
      self._digested = weakref.ref(state)
    return self._digests

  def restore(self, kind: str, like: Any) -> Any | None:
    """Restores the newest intact state of a kind.

    A damaged one is reported, moved to `checkpoints/damaged` (unless read only), and
    the previous one is used.

    Args:
      kind: "last" or "best".
      like: a state of the same structure, for shapes and placement.

    Returns:
      The state, or None if none was saved.

    Raises:
      CheckpointError: if there were checkpoints and all are damaged, or the newest is
        of another network. Or in all processes of a job, if they see different ones.
    """
    self._agree()
    manager = self._managers[kind]
    for step in sorted(manager.all_steps(), reverse=True):
      path = self._root / kind / str(step)
      if self._is_of_another_network(manager, step, like):
        raise CheckpointError(
          f"the checkpoint {path} does not match this network and optimizer: it was "
          "saved for other images or classes, or by another version of the code. Use "
          "another workdir."
        )

      state, reason = None, ""
      try:
        state = self._read(manager, step, like)
      except Exception as error:  # A damaged file may raise any error.
        reason = errors.reason_of(error)

      # All processes skip a checkpoint that one process cannot read.
      if not distributed.largest(state is None)[0]:
        return state
      if self._read_only:
        logging.error(
          "The checkpoint %s is damaged (%s). Using the previous one.", path, reason
        )
        continue

      place = self._root / "damaged" / f"{kind}-{step}"
      logging.error(
        "The checkpoint %s is damaged (%s). Moved it to %s; using the previous one.",
        path,
        reason,
        place,
      )
      if distributed.is_first():
        place.parent.mkdir(exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(path, place)

      distributed.largest(0)
      manager.reload()

    # Those found damaged earlier count too: a second attempt must not silently restart
    # training and overwrite the other kind's checkpoints.
    if manager.all_steps() or any(self._root.glob(f"damaged/{kind}-*")):
      raise CheckpointError(
        f"every checkpoint under {self._root / kind} is damaged; they are in it or in "
        f"{self._root / 'damaged'}. Use another workdir, or delete {self._root} to "
        "restart training."
      )

    return None

  def _agree(self) -> None:
    """Checks that all processes of a job see the same checkpoints.

    The following collectives are executed for each step that exists, by all processes.
    """
    seen = {kind: sorted(m.all_steps()) for kind, m in self._managers.items()}
    damaged = sorted(path.name for path in self._root.glob("damaged/*"))
    if different := distributed.differing([f"{seen}", f"{damaged}"]):
      steps = ", ".join(f"{kind} {steps or 'none'}" for kind, steps in seen.items())
      raise CheckpointError(
        f"{self._root}: process "
        f"{', '.join(map(str, different))} sees other checkpoints than "
        f"process 0 (this one sees {steps}), possibly because of "
        "a network file system's cache; retry in a minute"
      )

  def restore_variables(self) -> Variables | None:
    """Reads the evaluation variables of the newest intact best checkpoint.

    Unlike `restore` it needs no template state, and works for any network, optimizer
    and loss.

    Returns:
      The averages if the run kept any, else the variables; None if no best checkpoint
      was saved.

    Raises:
      CheckpointError: if there were checkpoints and all are damaged. Or in all
        processes of a job, if they see different ones.
    """
    self._agree()
    manager, path = self._managers["best"], self.path("best")
    for step in sorted(manager.all_steps(), reverse=True):
      try:
        stored = manager.item_metadata(step)["state"].tree
        digest = _read_digest(manager, step)
        fields = _read_fields(manager, step, stored)
        if "ema" in fields:
          digests.check(_Averages(fields["ema"]), digest)
          return _variables(fields["ema"])
        variables = _variables(fields)
        digests.check(variables, digest)
        return variables
      except Exception as error:  # A damaged file may raise any error.
        reason = errors.reason_of(error)
      logging.error("The checkpoint %s is damaged (%s).", path / str(step), reason)

    if manager.all_steps():
      raise CheckpointError(f"every checkpoint under {path} is damaged")
    return None

  def _read(self, manager, step: int, like: Any) -> Any:
    digest = _read_digest(manager, step)
    fields = _read_fields(manager, step, _fields(_as_stored(like, digest)))
    state = like.replace(**fields)
    digests.check(state, digest)
    # A sum that an earlier version did not have is unknown until the next epoch.
    unknown = {
      name: jnp.full_like(x, jnp.nan)
      for name, x in like.totals.items()
      if name not in state.totals
    }
    return state.replace(totals=unknown | state.totals)

  def _is_of_another_network(self, manager, step: int, like: Any) -> bool:
    """Returns whether a checkpoint is intact but has other paths, shapes or types."""
    try:
      digest = _read_digest(manager, step)
      stored = _forms(manager.item_metadata(step)["state"].tree)
    except Exception:  # It is damaged.
      return False
    # Two files tell the arrays; where they disagree, one of them is damaged.
    told = {_plain(path): form for path, form in digests.forms(digest).items()}
    if told.keys() != stored.keys() or any(
      form and form != stored[path] for path, form in told.items()
    ):
      return False
    return stored != _forms(_as_stored(like, digest))

  def rewind(self, step: int) -> None:
    """Deletes best checkpoints of steps after `step`, from which a run resumes.

    The run will reach them again. In a multi-process job it is called after `restore`,
    which checks that all processes see the same ones.
    """
    manager = self._managers["best"]
    for later in [s for s in manager.all_steps() if s > step]:
      manager.delete(later)

  def wait(self) -> None:
    """Waits until all saves are on disk."""
    for manager in self._managers.values():
      with files.writing(self._root):
        manager.wait_until_finished()

  def close(self) -> None:
    """Saves a held best state, waits for saves and closes the folders."""
    # After an error: of several processes the others may not be at this call.
    try:
      if self._held_best is not None and jax.process_count() == 1:
        self.save("best", self._held_best)
    finally:
      for manager in self._managers.values():
        with files.writing(self._root):
          manager.close()


def _read_json(manager, step: int) -> dict[str, str]:
  """Reads the digests stored beside the arrays: of each array, and of the records."""
  return manager.restore(step, args=ocp.args.Composite(digest=ocp.args.JsonRestore()))[
    "digest"
  ]


def _read_digest(manager, step: int) -> dict[str, str]:
  """The stored digest of each array, by its path."""
  stored = _read_json(manager, step)
  return {path: digest for path, digest in stored.items() if path != _RECORDS}


def _forms(tree: Any) -> dict[str, str]:
  """Dtype and shape of each array of a tree, by plain path."""
  return {
    _plain(jax.tree_util.keystr(path)): f"{leaf.dtype}{tuple(leaf.shape)}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _plain(path: str) -> str:
  """A path without its punctuation: Orbax makes dictionaries of named tuples."""
  return "/".join(re.findall(r"\w+", path))


def _as_stored(like: Any, paths: Container[str]) -> Any:
  """The state without epoch totals that were added after the checkpoint's version."""
  totals = {k: v for k, v in like.totals.items() if f".totals['{k}']" in paths}
  return like.replace(totals=totals)


def _read_fields(manager, step: int, like: Any) -> dict[str, Any]:
  """The state's fields, of shapes and types as in `like`."""
  # Restored to the host, independent of the devices it was saved from. Orbax would
  # commit arrays to their device, and the training program would be recompiled.
  abstract = jax.tree.map(
    lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), like
  )
  restored = manager.restore(
    step,
    args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
  )
  return jax.tree.map(jnp.array, restored["state"])


def _variables(fields: dict[str, Any]) -> Variables:
  # A network without BatchNorm has no statistics, and none are stored.
  return Variables(fields["params"], fields.get("batch_stats") or {})


def _silence_abandoned_tasks() -> None:
  """Suppresses tracebacks that would bury the report of a damaged or failed checkpoint.

  When one array fails, Orbax abandons the readers or writers of all the others, each of
  which would print a traceback when it is garbage-collected.
  """
  if sys.unraisablehook is not _show_unraisable:
    global _shown_by
    _shown_by = sys.unraisablehook
    sys.unraisablehook = _show_unraisable


_shown_by: Callable[[Any], Any] = sys.unraisablehook


def _show_unraisable(unraisable: Any) -> None:
  code = getattr(unraisable.object, "cr_code", None)
  is_task = "orbax" in getattr(code, "co_filename", "")
  if not is_task and "Event loop is closed" not in str(unraisable.exc_value):
    _shown_by(unraisable)


def _fields(state: Any) -> dict[str, Any]:
  """The state by field, without those that are None.

  A checkpoint thus stays compatible with code that has additional fields.
  """
  names = [field.name for field in dataclasses.fields(state)]
  fields = {name: getattr(state, name) for name in names}
  return {name: value for name, value in fields.items() if value is not None}


def _options(number: int, read_only: bool) -> ocp.CheckpointManagerOptions:
  if read_only:
    return ocp.CheckpointManagerOptions(
      read_only=True, save_interval_steps=0, create=False
    )
  return ocp.CheckpointManagerOptions(max_to_keep=number, cleanup_tmp_directories=True)
