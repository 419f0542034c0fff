"""Engines for the independent groups of an experiment: this process, or Ray.

A group is a picklable description of some work, and `run_group` a function of a module
(not of the command's own, which a worker does not import) that does it and returns a
picklable result. Results return to the driver, the process of the command, which alone
writes them.
"""

import collections
import contextlib
import importlib
import importlib.util
import math
import os
import pickle
import re
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import flags, logging

from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli, errors
from emosynth_jax.workdir import provenance

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()

ENGINES = ("local", "ray")
# Packages that workers of another machine get from the driver.
_OWN_PACKAGES = ("configs", "emosynth_jax", "experiments")
# How often a group is run whose worker is lost each time.
_MOST_ATTEMPTS = 4
# Variables of the driver that a result or a cache depends on, and those among them that
# belong to one process.
_PASSED_ON = ("EMOSYNTH_", "JAX_", "XLA_FLAGS")
_NOT_PASSED_ON = ("JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Options(NamedTuple):
  """Engine of the groups, and their resources.

  Attributes:
    engine: one of `ENGINES`.
    address: of a Ray cluster, as `ray.init` takes it; None for a cluster of this
      machine that begins and ends with the command.
    num_cpus: CPU cores of one group.
    num_gpus: GPUs of one group, or a fraction of one; None for one if the cluster has
      any.
    shard: index and number of equal parts of the groups, of which this process runs
      one; None for all.
  """

  engine: str = "local"
  address: str | None = None
  num_cpus: int = 1
  num_gpus: float | None = None
  shard: tuple[int, int] | None = None


LOCAL = Options()


class Failure(NamedTuple):
  """Picklable result of a worker for an exception, which itself may not be."""

  host: str
  reason: str
  traceback: str


def define_flags(unit: str) -> None:
  """Defines the flags of `options_of`, and --train.

  Args:
    unit: what the command calls a group, as "run".
  """
  flags.DEFINE_enum(
    "engine",
    "local",
    ENGINES,
    f"local: each {unit} in this process. ray: on the workers of a Ray cluster, by "
    "default one of this machine (pip install -e '.[ray]').",
  )
  flags.DEFINE_string(
    "address",
    None,
    "With --engine=ray: address of a running Ray cluster, HOST:PORT, or auto on one of "
    "its machines. By default $RAY_ADDRESS, or a cluster of this machine that ends "
    "with the command.",
  )
  flags.DEFINE_integer("num_cpus", 1, "With --engine=ray: CPU cores of each worker.", 1)
  flags.DEFINE_float(
    "num_gpus",
    None,
    "With --engine=ray: GPUs of each worker, 0.5 for two on one GPU. By default 1 if "
    "the cluster has any, else 0.",
    0,
  )
  flags.DEFINE_string(
    "shard",
    None,
    f"I/N: only every N-th {unit}, from the I-th on, counted from 0; for the jobs of "
    "an array. No table is written.",
  )
  flags.DEFINE_bool(
    "train",
    True,
    f"Train each {unit} that is missing; --notrain writes the table of those that are "
    "finished.",
  )


def options_of(args: Any) -> Options:
  """The options in the flags.

  Raises:
    ModuleNotFoundError: without Ray.
    UserError: if no Ray cluster answers.
    ValueError: for options of Ray with another engine, or a shard that is none.
  """
  if args.engine == "ray":
    # The workers' devices are not the driver's, which itself computes next to nothing.
    jax.config.update("jax_platforms", "cpu")
    # Before anything is written.
    _import_ray()
    _check_address(_address_of(args.address))
  else:
    for name in ("address", "num_cpus", "num_gpus"):
      if args[name].present:
        raise ValueError(f"--{name}: requires --engine=ray")
  if args.num_gpus is not None and not 0 <= args.num_gpus < math.inf:
    raise ValueError(f"--num_gpus: expected a number, got {args.num_gpus}")
  values = {name: args[name].value for name in Options._fields}
  return Options(**values | {"shard": _parse_shard(args.shard)})


def _parse_shard(text: str | None) -> tuple[int, int] | None:
  if text is None:
    return None
  match = re.fullmatch(r"(\d+)/(\d+)", text)
  index, count = map(int, match.groups()) if match else (0, 0)
  if index >= count:
    raise ValueError(f"--shard: expected I/N with I from 0 to N-1, as 0/16; got {text}")
  return index, count


def select_shard(groups: Sequence[Any], options: Options) -> list[Any]:
  """The groups that this process runs: all, or those of its shard.

  Args:
    groups: all, or their names; finished ones included, so that a rerun selects the
      same.
    options: where groups run.
  """
  index, count = options.shard or (0, 1)
  return list(groups[index::count])


def run_groups(
  groups: Mapping[str, Any],
  run_group: Callable[[Any], Any],
  options: Options,
  variables: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Any]]:
  """Runs independent groups.

  Args:
    groups: by name.
    run_group: does the work of a group.
    options: where.
    variables: further environment variables of workers.

  Yields:
    Name and result of each group as it is done: in order with the local engine, in any
    order with Ray.

  Raises:
    UserError: on Ray, if a group fails, or its worker is lost each time; the others
      stop.
    Exception: with the local engine, that of a group.
  """
  errors.check_choice("engine", options.engine, ENGINES)
  if options.engine == "ray":
    yield from _run_on_ray(groups, run_group, options, variables or {})
    return
  for name, group in groups.items():
    yield name, run_group(group)


def supervise(
  names: Sequence[str],
  submit: Callable[[str], Any],
  next_done: Callable[[list[Any]], Any],
  result_of: Callable[[Any], Any],
  lost: tuple[type[Exception], ...],
) -> Iterator[tuple[str, Any]]:
  """Collects the results of submitted groups; one whose worker is lost runs again.

  Args:
    names: of the groups.
    submit: starts a group, and returns a hashable handle.
    next_done: waits for one of several handles and returns it.
    result_of: the result of a handle, a `Failure`, or raises an error.
    lost: errors of a lost worker.

  Yields:
    Name and result.

  Raises:
    UserError: as `run_groups`.
  """
  attempts: collections.Counter[str] = collections.Counter(names)
  pending = {submit(name): name for name in attempts}
  while pending:
    done = next_done(list(pending))
    name = pending.pop(done)
    try:
      result = result_of(done)
    except lost as error:
      reason = type(error).__name__
      if attempts[name] >= _MOST_ATTEMPTS:
        raise errors.UserError(
          f"{name}: its worker was lost {attempts[name]} times ({reason}). With too "
          "little memory, run fewer at a time by a larger --num_cpus or --num_gpus; "
          "rerun to resume"
        ) from error
      attempts[name] += 1
      logging.warning("%s: worker lost (%s); running it again.", name, reason)
      pending[submit(name)] = name
      continue
    if isinstance(result, Failure):
      failed = errors.UserError(f"{name} failed on {result.host}: {result.reason}")
      failed.add_note(result.traceback)
      raise failed
    yield name, result


def _run_on_ray(
  groups: Mapping[str, Any],
  run_group: Callable[[Any], Any],
  options: Options,
  variables: Mapping[str, str],
) -> Iterator[tuple[str, Any]]:
  """`run_groups` by tasks of Ray, one each."""
  if not groups:
    return
  ray = _import_ray()
  address = _address_of(options.address)
  _check_address(address)
  try:
    with tempfile.TemporaryDirectory() as empty, warnings.catch_warnings():
      # The forked process of Ray's is replaced at once.
      warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
      ray.init(address, **_init_arguments(address, empty))
  except (OSError, RuntimeError, ValueError) as error:
    raise _no_cluster(address, error) from error
  # Of a lost machine, Ray prints the last lines of its log to standard output, where a
  # table goes; the warning here says which group it was.
  if hasattr(ray._private.worker, "print_to_stdstream"):
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
  try:
    num_gpus = _choose_gpus(ray.cluster_resources(), options)
    at_once = count_at_once(ray.nodes(), options.num_cpus, num_gpus)
    logging.info(
      "Ray at %s: %d to run, %d at a time, each with num_cpus=%d, num_gpus=%g.",
      *(address, len(groups), min(at_once, len(groups)), options.num_cpus, num_gpus),
    )
    if not at_once:
      _refuse_or_wait(address, options.num_cpus, num_gpus)
    own = environment(os.environ, options.num_cpus, num_gpus)
    run = ray.remote(
      # Restarted here, where it is seen and counted.
      max_retries=0,
      num_cpus=options.num_cpus,
      num_gpus=num_gpus,
      runtime_env={"env_vars": {**own, **variables}},
    )(_run_in_worker)
    # Shared by the groups: each machine fetches it once.
    function = ray.put(ray.cloudpickle.dumps(run_group))
    driver = ray.put((os.getcwd(), sys.orig_argv))

    def submit(name):
      group = ray.cloudpickle.dumps(groups[name])
      return run.options(name=name).remote(function, group, driver)

    lost = (
      ray.exceptions.LocalRayletDiedError,
      ray.exceptions.NodeDiedError,
      ray.exceptions.ObjectLostError,
      ray.exceptions.OutOfMemoryError,
      ray.exceptions.WorkerCrashedError,
    )

    def result_of(task):
      try:
        return ray.get(task)
      except lost:
        raise
      except ray.exceptions.RayError as error:
        # Before or after the work: a package that the machine lacks, for example.
        reason = errors.reason_of(getattr(error, "cause", error))
        return Failure("a worker", reason, str(error))

    yield from supervise(
      list(groups),
      submit,
      lambda pending: ray.wait(pending, num_returns=1)[0][0],
      result_of,
      lost,
    )
  finally:
    # The tasks of this driver end with it, and so does a cluster of its own.
    ray.shutdown()


def _import_ray() -> Any:
  # Before its import, which reads it.
  os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
  try:
    return importlib.import_module("ray")
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"--engine=ray: {error}; pip install -e '.[ray]'"
    ) from error


def _address_of(given: str | None) -> str:
  return given or os.environ.get("RAY_ADDRESS") or "local"


def _check_address(address: str) -> None:
  """Raises an error if nothing answers, which Ray would wait for."""
  if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
    host, port = match[1].strip("[]"), int(match[2])
    try:
      socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
      raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> errors.UserError:
  reason = errors.reason_of(error)
  return errors.UserError(f"--engine=ray: no Ray cluster at {address} ({reason})")


def _init_arguments(address: str, empty: str) -> dict[str, Any]:
  """Arguments of `ray.init`.

  Args:
    address: see `Options`, or "local".
    empty: an empty folder.
  """
  arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
  if address == "local":
    return arguments | {
      "include_dashboard": False,
      # The cores that this process may use, not all of the machine.
      "num_cpus": cpu_devices.cpu_cores(),
    }
  # Every machine runs the driver's code, and not a checkout of its own: with a working
  # directory, Ray does not add the driver's folder to the workers' search path.
  specs = [importlib.util.find_spec(name) for name in _OWN_PACKAGES]
  folders = [next(iter(s.submodule_search_locations or [""])) for s in specs if s]
  return arguments | {"runtime_env": {"py_modules": folders, "working_dir": empty}}


def environment(
  driver: Mapping[str, str], num_cpus: int, num_gpus: float
) -> dict[str, str]:
  """The environment variables of a worker, beside those of its machine.

  Args:
    driver: the variables of the driver.
    num_cpus: cores of the worker.
    num_gpus: its GPUs.

  Returns:
    Name to value.
  """
  variables = {
    name: value
    for name, value in driver.items()
    if name.startswith(_PASSED_ON) and not name.startswith(_NOT_PASSED_ON)
  }
  # The threads of XLA, which otherwise takes every core of the machine.
  variables["NPROC"] = str(num_cpus)
  # Code that was sent to a worker is in no checkout.
  variables["EMOSYNTH_COMMIT"] = provenance.provenance()["commit"]
  if not num_gpus:
    variables["JAX_PLATFORMS"] = "cpu"
  elif num_gpus < 1:
    # XLA reserves three quarters of a GPU.
    variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
  return variables


def _choose_gpus(resources: Mapping[str, float], options: Options) -> float:
  if options.num_gpus is not None:
    return options.num_gpus
  return float(resources.get("GPU", 0) > 0 and os.environ.get("JAX_PLATFORMS") != "cpu")


def count_at_once(
  nodes: Iterable[Mapping[str, Any]], num_cpus: int, num_gpus: float
) -> int:
  """The number of groups that a cluster runs at a time.

  Args:
    nodes: its machines, of `ray.nodes`.
    num_cpus: cores of a group.
    num_gpus: its GPUs.
  """
  at_once = 0
  for node in nodes:
    if node["Alive"]:
      resources = node["Resources"]
      fitting = [resources.get("CPU", 0) // num_cpus]
      if num_gpus:
        fitting.append(resources.get("GPU", 0) // num_gpus)
      at_once += int(min(fitting))
  return at_once


def _refuse_or_wait(address: str, num_cpus: int, num_gpus: float) -> None:
  """Raises an error if no machine has what a group needs, and none will be added."""
  problem = f"--num_cpus={num_cpus}, --num_gpus={num_gpus:g}: no machine has as many"
  if address == "local":
    raise ValueError(problem)
  logging.warning("%s; waiting for one, if the Ray cluster adds machines.", problem)


def _run_in_worker(
  run_group: bytes, group: bytes, driver: tuple[str, list[str]]
) -> Any:
  """Runs a group in a worker of Ray.

  Args:
    run_group: pickled, see `run_groups`.
    group: pickled, its argument.
    driver: working directory and command line of the driver.

  Returns:
    The result, or a `Failure`.
  """
  folder, command = driver
  # Relative paths have the driver's meaning, where the machine has its folder.
  with contextlib.suppress(OSError):
    os.chdir(folder)
  # For a user's modules; last, so that it has no other version of this program.
  sys.path.append(folder)
  # What a result's provenance names.
  sys.orig_argv[:] = command
  cli.start_logging()
  cli.use_compilation_cache()
  try:
    return pickle.loads(run_group)(pickle.loads(group))
  except SystemExit as error:
    # A signal, as when the machine is taken away: lost, and not failed.
    logging.flush()
    os._exit(error.code if isinstance(error.code, int) else 1)
  except Exception as error:
    return Failure(
      socket.gethostname(), errors.reason_of(error, 500), traceback.format_exc()
    )
