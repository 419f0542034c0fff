"""Engines: what they do with groups, without Ray; test_ray.py has the rest."""

import io
import itertools
import sys
import tarfile
import types

import pytest

from emosynth_jax.utils import errors
from experiments import margin_ablation
from experiments.lib import (
  ablation_engines,
  ablation_groups,
  ablation_records,
  comparison_runs,
  engines,
)
from experiments.lib.ablation_groups import DataSource, Group, Program
from experiments.lib.ablation_members import Member
from experiments.lib.comparison_rows import Row


class _LostError(Exception):
  pass


def _supervise(work):
  """Runs two groups whose every attempt calls `work(name, attempt)`, last one first."""
  started = []

  def submit(name):
    started.append(name)
    return len(started) - 1

  def result_of(handle):
    name = started[handle]
    return work(name, started[: handle + 1].count(name))

  found = engines.supervise(["a", "b"], submit, max, result_of, (_LostError,))
  return found, started


def test_the_local_engine_runs_groups_in_order():
  found = engines.run_groups({"b": 2, "a": 3}, lambda group: group**2, engines.LOCAL)
  assert list(found) == [("b", 4), ("a", 9)]


def test_a_group_whose_worker_is_lost_runs_again():
  def work(name, attempt):
    if name == "b" and attempt < 3:
      raise _LostError
    return f"{name}{attempt}"

  found, started = _supervise(work)
  assert list(found) == [("b", "b3"), ("a", "a1")]
  assert started == ["a", "b", "b", "b"]


def test_a_group_whose_worker_is_always_lost_is_named():
  def work(name, attempt):
    raise _LostError

  found, started = _supervise(work)
  with pytest.raises(errors.UserError, match=r"^b: its worker was lost 4 times"):
    list(found)
  assert started == ["a", "b", "b", "b", "b"]


def test_a_groups_error_is_one_line_with_its_traceback_as_a_note():
  def work(name, attempt):
    return engines.Failure("host7", "no file data/x", "Traceback ...\n") if name else 0

  found, _ = _supervise(work)
  with pytest.raises(errors.UserError) as caught:
    list(found)
  assert str(caught.value) == "b failed on host7: no file data/x"
  assert caught.value.__notes__ == ["Traceback ...\n"]


def test_ray_is_asked_for_only_where_it_is_used(monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  options = engines.Options("ray")
  assert list(engines.run_groups({}, len, options)) == []
  with pytest.raises(ModuleNotFoundError, match=r"--engine=ray.*'\.\[ray\]'"):
    list(engines.run_groups({"a": "x"}, len, options))


def test_a_workers_variables():
  driver = {
    "HOME": "home",
    "JAX_ENABLE_X64": "1",
    "JAX_PLATFORMS": "cuda",
    "JAX_PROCESS_ID": "3",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
  }
  on_cpu = engines.environment(driver, num_cpus=2, num_gpus=0)
  commit = on_cpu.pop("EMOSYNTH_COMMIT")
  assert commit
  assert on_cpu == {
    "JAX_ENABLE_X64": "1",
    # A worker without a GPU of its own does not look for one.
    "JAX_PLATFORMS": "cpu",
    "NPROC": "2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
  }
  on_half_a_gpu = engines.environment(driver, num_cpus=1, num_gpus=0.5)
  assert on_half_a_gpu["JAX_PLATFORMS"] == "cuda"
  assert on_half_a_gpu["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_groups_at_a_time():
  nodes = [
    {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
    {"Alive": True, "Resources": {"CPU": 5.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
  ]
  assert engines.count_at_once(nodes, 2, 0) == 4 + 2
  assert engines.count_at_once(nodes, 3, 0.25) == 2
  assert engines.count_at_once(nodes, 9, 0) == 0


@pytest.mark.parametrize("count", [1, 3, 8])
def test_shards_are_a_partition(count):
  names = list("abcdefg")
  shards = [
    engines.select_shard(names, engines.Options(shard=(i, count))) for i in range(count)
  ]
  assert sorted(itertools.chain(*shards)) == names
  assert max(map(len, shards)) - min(map(len, shards)) <= 1


def _given(**values):
  """Flags as absl has them: each by name, with whether it was given."""
  defaults = dict(zip(engines.Options._fields, engines.LOCAL, strict=True))
  holders = {
    name: types.SimpleNamespace(value=value, present=name in values)
    for name, value in (defaults | values).items()
  }

  class Given(dict):
    def __getattr__(self, name):
      return self[name].value

  return Given(holders)


def test_options_are_the_flags():
  assert engines.options_of(_given()) == engines.LOCAL
  assert engines.options_of(_given(shard="3/16")).shard == (3, 16)
  for flags, message in (
    ({"shard": "16/16"}, r"--shard: expected I/N.*got 16/16"),
    ({"shard": "one"}, r"--shard: expected I/N"),
    ({"address": "auto"}, "--address: requires --engine=ray"),
    ({"num_gpus": 1.0}, "--num_gpus: requires --engine=ray"),
  ):
    with pytest.raises(ValueError, match=message):
      engines.options_of(_given(**flags))


def _program(**changes):
  program = Program(
    DataSource("synthetic_faces", "", {}, 64, 32, 16),
    {"name": "fer_vgg"},
    [{"loss": "cross_entropy"}],
    epochs=1,
    batch_size=8,
    flip=True,
    mapping="map",
  )
  return program._replace(**changes)


def test_a_groups_own_files_travel_with_it(tmp_path):
  own = tmp_path / "mine"
  own.mkdir()
  (own / "helper.py").write_text("SCALE = 0.5\n")
  file = own / "my_margin.py"
  file.write_text("import helper\n\ndef gap(logits):\n  return helper.SCALE * logits\n")
  setting = {"loss": f"mam_softmax+{file}:gap", "margin_fn": f"{file}:gap"}
  group = Group(_program(settings=[setting]), [Member(setting, 0, 0.1)], 1)

  parcel = ablation_engines.Parcel(group, ablation_engines.own_files(group))
  assert sorted(path for path, _ in parcel.files) == [
    str(own / "helper.py"),
    str(file),
  ]
  # On the same machine, the files themselves; on another one, copies.
  assert ablation_engines.unpack(parcel) is group
  content = file.read_bytes()
  file.write_text("# another version\n")
  copied = ablation_engines.unpack(parcel)
  loss, margin = copied.members[0].setting.values()
  copy = margin.removesuffix(":gap")
  assert copy != str(file)
  assert copy.endswith("/mine/my_margin.py")
  assert loss == f"mam_softmax+{copy}:gap"
  assert copied.program.settings == [{"loss": loss, "margin_fn": margin}]
  with open(copy, "rb") as found:
    assert found.read() == content
  # One folder for all groups of a process, which keeps its compiled programs.
  assert ablation_engines.unpack(parcel) == copied


def test_shards_of_an_ablation_have_a_file_each_and_one_table(tmp_path, monkeypatch):
  settings = [{"loss": "cross_entropy"}, {"loss": "cosface", "margin": 0.1}]
  program = _program(settings=settings)

  def run_group(group):
    return [
      margin_ablation.Trained({"accuracy": float(m.seed)}, None) for m in group.members
    ]

  monkeypatch.setattr(ablation_groups, "run_group", run_group)
  for index in (1, 0):
    options = engines.Options(shard=(index, 2))
    found = margin_ablation.run_ablation(
      [program], [0.1], tmp_path, seeds=2, options=options
    )
  assert [(r["setting"]["loss"], r["seed"]) for r in found] == [
    *(("cross_entropy", 0), ("cross_entropy", 1)),
    *(("cosface", 0), ("cosface", 1)),
  ]
  for index in (0, 1):
    path = ablation_records.file_of(tmp_path, (index, 2))
    records = ablation_records.read_records(path)
    assert [record["seed"] for record in records] == [index, index]

  # A later command without shards finds all of them, and trains nothing.
  monkeypatch.setattr(ablation_groups, "run_group", None)
  again = margin_ablation.run_ablation([program], [0.1], tmp_path, seeds=2)
  assert again == found


def test_a_run_without_a_shared_folder_returns_it(tmp_path, monkeypatch):
  row = Row("A", "synthetic_faces", "ce")
  run = comparison_runs.Run(row, 1, "small", None, tmp_path, token="of-the-driver")

  def train_in(run, folder):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last").write_bytes(b"weights")
    (folder / "report.json").write_text("{}")
    return {"seed": run.seed}

  monkeypatch.setattr(comparison_runs, "_train_in", train_in)
  report, archive = comparison_runs.train(run)
  assert report == {"seed": 1}
  assert not list(tmp_path.iterdir())
  comparison_runs.unpack(archive, run.folder())
  assert [path.name for path in tmp_path.iterdir()] == ["synthetic_faces-ce-seed1"]
  assert (run.folder() / "checkpoints/last").read_bytes() == b"weights"

  # With the driver's file, the folder is shared; with a begun run, it has to be.
  (tmp_path / "of-the-driver").touch()
  shared = run._replace(seed=2)
  assert comparison_runs.train(shared) == ({"seed": 2}, b"")
  assert (shared.folder() / "report.json").exists()
  begun = run._replace(token="elsewhere", is_begun=True)
  with pytest.raises(ValueError, match=r"does not have .*seed1, in which the run was"):
    comparison_runs.train(begun)


def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path):
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode="w") as archive:
    archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
  with pytest.raises(tarfile.OutsideDestinationError):
    comparison_runs.unpack(content.getvalue(), tmp_path / "runs/seed0")
  assert not list((tmp_path / "runs").iterdir())
