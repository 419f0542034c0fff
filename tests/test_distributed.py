"""What processes agree on, where it can be tried in one."""

import contextlib
import zlib

import jax
import numpy as np
import pytest

from emosynth_jax import crc32, distributed, lost_contact


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


@pytest.mark.parametrize("lengths", [(0, 5), (7, 0), (1, 1), (1000, 12345)])
def test_checksums_of_two_parts_make_that_of_the_whole(lengths):
  first, second = (np.random.default_rng(n).bytes(n) for n in lengths)
  combined = crc32.combine(zlib.crc32(first), zlib.crc32(second), len(second))
  assert combined == zlib.crc32(first + second)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("host:1", None, None), r"expected all three or none, got \('host:1', None"),
    ((None, 2, 0), "expected all three or none"),
    (("host:1", 2, 2), "--process_id: expected 0 to 1, got 2"),
  ],
)
def test_half_an_address_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    distributed.initialize(*arguments)


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
  assert not lost_contact.is_lost(RuntimeError("of its own"))


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
    (jax.errors.JaxRuntimeError("UNKNOWN: Gloo: Connection closed by peer"), True),
    (jax.errors.JaxRuntimeError("INTERNAL: another task died"), True),
    (TimeoutError("Timeout waiting at barrier"), True),
    (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
    (jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes"), False),
    (ValueError("a setting"), False),
  ],
)
def test_what_is_another_process_s_death_and_what_this_one_s_own(
  error, lost, monkeypatch
):
  assert not lost_contact.is_lost(error)  # there is no other
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert lost_contact.is_lost(error) == lost


def test_a_worker_of_a_pod_that_has_joined_no_other_is_refused(monkeypatch):
  distributed.check_joined()
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(ValueError, match=r"one of 4 processes.*add --distributed"):
    distributed.check_joined()
