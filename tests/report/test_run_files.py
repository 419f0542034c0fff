"""What is read of a workdir, and what is refused."""

import json

import made_up_run
import pytest

from emosynth_jax.report import run_files


def test_a_run_is_what_its_files_say(tmp_path):
  report = made_up_run.write_run(tmp_path / "run")
  run = run_files.read_run(tmp_path / "run")
  assert run.report["splits"] == report["splits"]
  assert [record["epoch"] for record in run.records] == [1, 2, 3]
  assert run.seconds == 61.5
  assert run.reported_split == "test"
  assert run.data["test"] == {"images": 7}


def test_settings_that_came_later_have_their_defaults(tmp_path):
  report = made_up_run.write_run(tmp_path)
  del report["config"]["pretrained"], report["config"]["data"]["near_duplicates"]
  (tmp_path / "report.json").write_text(json.dumps(report))
  config = run_files.read_run(tmp_path).report["config"]
  assert config["pretrained"] == {"file": "", "keep": []}
  assert config["data"]["near_duplicates"] == {
    "max_distance": 12,
    "min_correlation": 0.9,
  }
  # A loss's arguments are its own: no default's are put beside them.
  assert config["loss"] == {"name": "cross_entropy"}


def test_the_time_of_a_run_that_was_interrupted_is_not_known(tmp_path):
  report = made_up_run.write_run(tmp_path)
  report["trained_by"] *= 2
  (tmp_path / "report.json").write_text(json.dumps(report))
  assert run_files.read_run(tmp_path).seconds is None


def test_mistakes_are_named(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r"report\.json is missing: .*--mode=eval"
  ):
    run_files.read_run(tmp_path)
  report = made_up_run.write_run(tmp_path)
  del report["trained_by"]
  (tmp_path / "report.json").write_text(json.dumps(report))
  with pytest.raises(ValueError, match=r"\(trained_by: missing\): evaluate the run"):
    run_files.read_run(tmp_path)
  for damaged in ("{", "[]"):
    (tmp_path / "report.json").write_text(damaged)
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
      run_files.read_run(tmp_path)


def test_objects_that_lack_what_is_read_of_them_are_damaged(tmp_path):
  report = made_up_run.write_run(tmp_path / "run")
  run = run_files.read_run(tmp_path / "run")
  (tmp_path / "seeds.json").write_text("{}")
  with pytest.raises(ValueError, match=r"seeds\.json is damaged \(workdirs: missing"):
    run_files.expand_workdirs([tmp_path])
  audit = made_up_run.write_audit(tmp_path, report)
  for path, holder in (("pairs", audit), ("blank_images", audit["splits"]["test"])):
    kept = holder.pop(path)
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    with pytest.raises(ValueError, match=rf"audit\.json is damaged .*{path}: missing"):
      run_files.read_audit(tmp_path, run)
    holder[path] = kept
  (tmp_path / "run/report.json").write_text(json.dumps({**report, "splits": {}}))
  with pytest.raises(
    ValueError, match=r"report\.json is damaged or .*\(it has no split"
  ):
    run_files.read_run(tmp_path / "run")


def test_a_folder_of_seeds_stands_for_its_runs(tmp_path):
  for name in ("alone", "many/seed1", "far"):
    (tmp_path / name).mkdir(parents=True)
  listed = {"workdirs": ["/moved/away/seed1", str(tmp_path / "far")]}
  (tmp_path / "many/seeds.json").write_text(json.dumps(listed))
  assert run_files.expand_workdirs([tmp_path / "alone", tmp_path / "many"]) == [
    tmp_path / "alone",
    tmp_path / "many/seed1",
    tmp_path / "far",
  ]
  with pytest.raises(ValueError, match=r"far is given twice"):
    run_files.expand_workdirs([tmp_path / "many", tmp_path / "alone/../far"])
  (tmp_path / "far").rmdir()
  with pytest.raises(FileNotFoundError, match=r"lists .*far, which does not exist"):
    run_files.expand_workdirs([tmp_path / "many"])


def test_an_audit_must_be_of_the_runs_images(tmp_path):
  report = made_up_run.write_run(tmp_path / "run")
  run = run_files.read_run(tmp_path / "run")
  audit = made_up_run.write_audit(tmp_path, report)
  assert run_files.read_audit(tmp_path, run) == audit
  audit["splits"]["test"]["class_counts"]["angry"] += 1
  (tmp_path / "audit.json").write_text(json.dumps(audit))
  with pytest.raises(
    ValueError, match=r"different data .* has 5 angry, .* run 4 angry"
  ):
    run_files.read_audit(tmp_path, run)
  (tmp_path / "audit.json").write_text(json.dumps({"refused": "three damaged files"}))
  with pytest.raises(ValueError, match="three damaged files"):
    run_files.read_audit(tmp_path, run)
  with pytest.raises(FileNotFoundError, match=r"audit\.json is missing"):
    run_files.read_audit(tmp_path / "run", run)
