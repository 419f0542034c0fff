"""Groups on a Ray cluster of two local nodes, whose workers are killed.

  pip install -e '.[test,ray]' && EMOSYNTH_TEST_FULL=1 python -m pytest \\
      tests/experiments/test_ray.py
"""

import os
import pathlib
import signal
import sys
import threading
import time

import pytest

from emosynth_jax.utils import errors
from experiments import margin_ablation
from experiments.lib import ablation_engines, ablation_records, engines
from experiments.lib.ablation_groups import DataSource, Program

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

pytestmark = [
  pytest.mark.slow,
  # Of a cluster's start; the forked process is replaced at once.
  pytest.mark.filterwarnings(r"ignore:os\.fork:RuntimeWarning"),
]

_TESTS = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cluster():
  """Two nodes of one core. Workers cannot import this module, nor need they."""
  from ray.cluster_utils import Cluster

  ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
  found = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "include_dashboard": False},
  )
  found.add_node(num_cpus=1)
  found.wait_for_nodes()
  yield found
  found.shutdown()


@pytest.fixture
def options(cluster):
  return engines.Options("ray", cluster.address)


def _die_once(group, run_group, mark):
  """Runs a group; the first process that has done so is killed before it answers."""
  result = run_group(group)
  try:
    mark.touch(exist_ok=False)
  except FileExistsError:
    return result
  os.kill(os.getpid(), signal.SIGKILL)


class _DieOnce:
  """`_die_once` as a function of a group."""

  def __init__(self, run_group, mark):
    self._arguments = run_group, mark

  def __call__(self, group):
    return _die_once(group, *self._arguments)


def test_an_ablation_equals_the_local_engines_though_a_worker_is_killed(
  options, tmp_path, monkeypatch, caplog
):
  program = Program(
    DataSource("synthetic_faces", "", {}, 64, 32, 4),
    {"name": f"{_TESTS / 'tiny_network.py'}:TinyNetwork"},
    [{"loss": "cross_entropy"}, {"loss": "cosface", "margin": 0.1, "scale": 8.0}],
    epochs=1,
    batch_size=16,
    flip=True,
    mapping="map",
  )
  for folder in ("local", "ray"):
    (tmp_path / folder).mkdir()
  local = margin_ablation.run_ablation([program], [4e-3], tmp_path / "local", seeds=2)

  killed = _DieOnce(ablation_engines.run_parcel, tmp_path / "killed")
  monkeypatch.setattr(ablation_engines, "run_parcel", killed)
  with caplog.at_level("WARNING", logger="absl"):
    found = margin_ablation.run_ablation(
      [program],
      [4e-3],
      tmp_path / "ray",
      seeds=2,
      options=options,
    )
  assert (tmp_path / "killed").exists()
  (line,) = [r.getMessage() for r in caplog.records if "worker lost" in r.getMessage()]
  assert line.startswith("group ")

  def measured(records):
    return [
      {k: v for k, v in r.items() if k not in ("seconds", "hardware")} for r in records
    ]

  assert len(found) == 4
  assert measured(found) == measured(local)
  path = ablation_records.file_of(tmp_path / "ray", None)
  # Each member once, as it was done.
  assert len(path.read_text().splitlines()) == 4


def _wait_once(mark):
  """Returns the node it runs on; the first process waits there to be killed."""
  node = ray.get_runtime_context().get_node_id()
  try:
    with mark.open("x") as file:
      file.write(node)
  except FileExistsError:
    return node
  time.sleep(600)


def test_groups_of_a_machine_that_is_lost_run_on_another_one(
  cluster, options, tmp_path
):
  # Only these two have as many cores as a group needs.
  nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
  cluster.wait_for_nodes()
  mark = tmp_path / "node"

  def remove_node():
    while not (mark.exists() and mark.read_text()):
      time.sleep(0.1)
    (lost,) = [node for node in nodes if node.node_id == mark.read_text()]
    cluster.remove_node(lost, allow_graceful=False)

  watcher = threading.Thread(target=remove_node, daemon=True)
  watcher.start()
  groups = {"a": mark, "b": mark}
  found = dict(engines.run_groups(groups, _wait_once, options._replace(num_cpus=2)))
  watcher.join()
  (kept,) = {node.node_id for node in nodes} - {mark.read_text()}
  assert found == {"a": kept, "b": kept}


def _fail(path):
  raise FileNotFoundError(f"no data at {path}:\ntwo lines")


def test_a_groups_error_is_one_line(options):
  groups = {"fer2013, seed 0": "data/fer2013.csv"}
  with pytest.raises(errors.UserError, match=r"^fer2013, seed 0 failed on") as caught:
    list(engines.run_groups(groups, _fail, options))
  assert str(caught.value).endswith(": no data at data/fer2013.csv:")
  assert "two lines" in caught.value.__notes__[0]


def _describe_worker(variable):
  return os.environ[variable], os.getcwd(), engines.__file__


def test_workers_have_the_drivers_code_and_folder(options, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  ((_, found),) = engines.run_groups(
    {"a": "MINE"}, _describe_worker, options, {"MINE": "yes"}
  )
  value, folder, file = found
  assert (value, folder) == ("yes", str(tmp_path))
  # A copy, and not what that machine may have.
  assert file != engines.__file__
  assert file.endswith("/experiments/lib/engines.py")


def test_no_cluster_at_the_address():
  options = engines.Options("ray", "127.0.0.1:1")
  with pytest.raises(errors.UserError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
    list(engines.run_groups({"a": 1}, abs, options))
