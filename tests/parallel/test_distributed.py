"""What processes agree on: in one, and in a job of two that trains nothing."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_network

from emosynth_jax.parallel import distributed, failures
from emosynth_jax.utils import errors
from emosynth_jax.workdir.checkpoints import Checkpoints


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    ({}, False),
    ({"SLURM_NTASKS": "4"}, False),  # an allocation, but no step of it
    ({"SLURM_STEP_NUM_TASKS": "1"}, False),
    ({"SLURM_STEP_NUM_TASKS": "4"}, True),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, True),
    ({"JAX_COORDINATOR_ADDRESS": "a:1"}, True),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
  ],
)
def test_a_job_of_several_processes_is_told_by_its_environment(environment, expected):
  assert distributed.is_cluster(environment) == expected


def test_one_process_agrees_with_itself(tmp_path):
  assert distributed.is_first()
  assert distributed.largest(3, -1) == (3, -1)
  rows = distributed.share(5, lambda rows: np.array(rows, np.int32))
  np.testing.assert_array_equal(rows, np.arange(5))
  np.testing.assert_array_equal(
    distributed.from_first(lambda: np.arange(3), (3,), np.int64), np.arange(3)
  )
  distributed.check_same("settings", "the config")
  distributed.check_shared_folder(tmp_path)
  assert not list(tmp_path.iterdir())
  assert not failures.is_lost(RuntimeError("of its own"))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
  """What each of two processes says in tests/scale/agreements.py, and their folder."""
  folder = tmp_path_factory.mktemp("agreements")
  checkpoints = Checkpoints(folder / "saved", keep=2)
  state = tiny_network.create_state()
  for step, kind in ((1, "best"), (1, "last"), (2, "last")):
    checkpoints.save(kind, state.replace(step=np.int32(step)))
  checkpoints.close()
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
  program = pathlib.Path(__file__).parents[1] / "scale" / "agreements.py"
  processes = [
    subprocess.Popen(
      [sys.executable, program, str(port), str(i), folder],
      env=os.environ | {"PYTHONUNBUFFERED": "1"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    texts = [process.communicate(timeout=300) for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [0, 0], texts
  found = [json.loads(re.search("TOLD (.*)", out)[1]) for out, _ in texts]
  return found, folder


def _both(told, name):
  first, second = (own[name] for own in told[0])
  assert first == second
  return first


def test_processes_with_other_settings_are_refused_in_all(told):
  assert _both(told, "same") is None
  assert re.match(
    r"ValueError: the config: process 1 differs from process 0", _both(told, "other")
  )
  assert _both(told, "differing") == [[1, [1]]]


def test_a_folder_that_is_not_shared_is_refused_in_all(told):
  assert _both(told, "folder") is None
  for number, own in enumerate(told[0]):
    assert re.search(rf"own{number} is not shared by all 2", own["folders"])
  for name in ("one", "own0"):
    assert not list((told[1] / name).iterdir())


def test_each_process_computes_its_stretch_and_all_have_the_whole(told):
  assert _both(told, "share") == [0, 1, 4, 9, 16]
  assert [own["stretch"] for own in told[0]] == [[0, 3], [3, 5]]
  assert re.search(
    r"different numbers of images \(5 and 105\)", _both(told, "share_of_other")
  )


def test_the_first_process_computes_for_all(told):
  assert _both(told, "first") == [7, 8]
  assert ["computed" in own for own in told[0]] == [True, False]
  first, second = (own["first_refuses"] for own in told[0])
  assert first == "ValueError: of the first"
  assert re.search("the first process failed", second)
  assert re.search(r"numbers of images \(2 and 3\)", _both(told, "first_of_other"))


def test_parts_of_two_processes_have_the_checksum_of_the_whole(told):
  assert _both(told, "crc") == _both(told, "crc_of_all")
  assert _both(told, "held") == _both(told, "memory")
  assert _both(told, "held")["images_crc32"] == _both(told, "crc_of_all")


def test_processes_that_read_other_data_are_refused_in_all(told):
  start = (
    "ValueError: config.data.data_dir: process 1 reads different data than process 0 "
  )
  labels, stale = _both(told, "labels"), _both(told, "stale")
  assert labels.startswith(f"{start}(process 1 differs in train labels_crc32);")
  assert stale.startswith(f"{start}(process 1 differs in train num_examples, ")


def test_processes_that_see_other_checkpoints_are_refused_in_all(told):
  assert _both(told, "restored") == 2
  sees = "process 1 sees other checkpoints than process 0"
  for name, steps in (
    ("some_or_none", ["last [1, 2], best [1]", "last none, best none"]),
    ("other_best", ["last [1, 2], best [1]", "last [1, 2], best none"]),
  ):
    for own, seen in zip(told[0], steps, strict=True):
      assert own[name].startswith("CheckpointError: ")
      assert f"{sees} (this one sees {seen})" in own[name]


def _runtime_error(text):
  return jax.errors.JaxRuntimeError(text)


def test_what_the_first_process_refuses_is_refused():
  @contextlib.contextmanager
  def refuse():
    raise ValueError("another training")
    yield

  with (
    pytest.raises(ValueError, match="another training"),
    distributed.held_by_first(refuse()),
  ):
    pytest.fail("not to be entered")


@pytest.mark.parametrize(
  ("error", "lost"),
  [
    (
      _runtime_error(
        "FAILED_PRECONDITION: Gloo AllGather failed: [external/gloo/gloo/transport/"
        "tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"
      ),
      True,
    ),
    (_runtime_error("UNKNOWN: Gloo all-reduce failed: Broken pipe"), True),
    (
      _runtime_error(
        "INTERNAL: NCCL operation failed: remote process exited or there was a network "
        "error"
      ),
      True,
    ),
    (
      _runtime_error(
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats)"
      ),
      True,
    ),
    (
      _runtime_error("DEADLINE_EXCEEDED: Barrier timed out. Id: x. This usually"),
      True,
    ),
    (TimeoutError("Timeout waiting at barrier 'x'."), True),
    (
      TimeoutError("Timed out while waiting for async_commit_complete barrier."),
      True,
    ),
    # What this process alone has done, whatever the code.
    (
      _runtime_error(
        "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
      ),
      False,
    ),
    (_runtime_error("FAILED_PRECONDITION: Buffer has been donated"), False),
    (_runtime_error("DATA_LOSS: a file is cut off"), False),
    (_runtime_error("UNKNOWN: Gloo AllGather failed: 20 vs 8 bytes"), False),
    (_runtime_error("RESOURCE_EXHAUSTED: Out of memory"), False),
    (_runtime_error("INVALID_ARGUMENT: shapes"), False),
    (TimeoutError(110, "Connection timed out", "/shared/runs/metrics.jsonl"), False),
    (ValueError("a setting"), False),
  ],
)
def test_what_is_another_process_s_death_and_what_this_one_s_own(
  error, lost, monkeypatch
):
  assert not failures.is_lost(error)  # there is no other
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert failures.is_lost(error) == lost
  said = failures.describe if lost else failures.describe_own
  assert errors.reason_of(error) in said(error)
  assert said(error).startswith(
    "process 0 of 2" + (": lost connection" if lost else " failed (")
  )


def test_a_worker_of_a_pod_that_has_joined_no_other_is_refused(monkeypatch):
  distributed.check_joined()
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(ValueError, match=r"one of 4 processes.*add --distributed"):
    distributed.check_joined()
