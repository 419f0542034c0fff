"""Concurrent runs, each in a thread and on its own devices."""

import concurrent.futures
import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from absl import logging as absl_logging

from emosynth_jax.utils.stop_signal import StopSignal

Task = TypeVar("Task")
Result = TypeVar("Result")


def device_groups(
  devices: Sequence[Any], num_runs: int, batch_size: int, model: int = 1
) -> list[list[Any]]:
  """Partitions devices among runs.

  Args:
    devices: all devices.
    num_runs: number of runs.
    batch_size: batch size of each run, which its devices must divide evenly.
    model: `config.mesh.model`.

  Returns:
    One group per run, all of one size, or fewer groups if the devices do not suffice; a
    single group of all devices if no partition fits.
  """
  for count in range(min(num_runs, len(devices)), 1, -1):
    size, rest = divmod(len(devices), count)
    if not rest and size % model == 0 and batch_size % (size // model) == 0:
      return [list(devices[i : i + size]) for i in range(0, len(devices), size)]
  return [list(devices)]


def run_concurrently(
  function: Callable[[Task, list[Any], StopSignal], Result | None],
  tasks: dict[str, Task],
  groups: Sequence[list[Any]],
  stop: StopSignal | None = None,
) -> list[Result | None]:
  """Calls a function for each task on the next free group of devices.

  Threads rather than processes: the work is done on the devices, which all belong to
  one process.

  Args:
    function: `(task, devices, stop) -> result`, None if it was interrupted; `stop` is
      set by SIGTERM and Ctrl-C, and if another task fails. No further task is started
      then.
    tasks: by name; the names prefix log lines.
    groups: of devices.
    stop: an entered stop signal of the caller, if it has one.

  Returns:
    The results, in the order of the tasks; None for those that were not started.

  Raises:
    Exception: the first that a task raised, when all others have stopped.
  """
  free: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
  for group in groups:
    free.put(group)

  failures: list[BaseException] = []

  def run(name: str, task: Task) -> Result | None:
    threading.current_thread().name = name
    group = free.get()
    try:
      if signals.number:
        return None
      # Default device for the intermediate arrays of a run, which are not placed
      # explicitly.
      with jax.default_device(group[0]):
        return function(task, group, signals)
    except BaseException as error:
      failures.append(error)
      signals.reason = signals.reason or f"the failure of {name}"
      signals.number = signals.number or signal.SIGTERM
      return None
    finally:
      free.put(group)

  def name_the_run(record: logging.LogRecord) -> bool:
    name = threading.current_thread().name
    if name in tasks:
      record.msg = f"{name}: {record.msg}"
    return True

  handler = absl_logging.get_absl_handler()
  with contextlib.ExitStack() as stack:
    signals = stack.enter_context(StopSignal()) if stop is None else stop
    # One run may have something to save when another one has not begun.
    at_once, signals.at_once = signals.at_once, None
    handler.addFilter(name_the_run)
    try:
      with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        futures = [pool.submit(run, name, task) for name, task in tasks.items()]
        results = [future.result() for future in futures]
    finally:
      handler.removeFilter(name_the_run)
      signals.at_once = at_once
  if failures:
    raise failures[0]
  return results
