"""Valid JSON of wrong content: one line names the file, whichever field is wrong."""

import copy
import json
import os

import made_up_run
import pytest
import tiny_run

from emosynth_jax.config.stored import read_config
from emosynth_jax.report import report, run_files
from emosynth_jax.training import seeds
from emosynth_jax.workdir import record, seed_summary

# No number, none that an array holds, and containers of nothing.
_WRONG = ("x", None, 10**400, [], {}, -1, True)


def _paths(tree, path=()):
  """Paths of all fields; of a list's values the first one's alone."""
  if isinstance(tree, dict):
    parts = list(tree.items())
  else:
    parts = [(0, tree[0])] if isinstance(tree, list) and tree else []
  for key, value in parts:
    yield (*path, key)
    yield from _paths(value, (*path, key))


def _damaged(content):
  """Contents with one field deleted, and with one of another value.

  Of more than fifty fields every second, one or the other in turn; in `make test-all`
  all, both.
  """
  paths = list(_paths(content))
  is_full = len(paths) <= 50 or os.environ.get("EMOSYNTH_TEST_FULL")
  for i, path in enumerate(paths if is_full else paths[::2]):
    for is_deleted in (True, False) if is_full else (i % 2 == 0,):
      changed = copy.deepcopy(content)
      holder = changed
      for key in path[:-1]:
        holder = holder[key]
      if is_deleted:
        del holder[path[-1]]
      else:
        holder[path[-1]] = _WRONG[i // 2 % len(_WRONG)]
      yield path, changed


def _refused(path, read, content):
  """Reads each damaged content; returns what share was refused, in a line each."""
  messages, damaged = [], list(_damaged(content))
  for where, changed in damaged:
    path.write_text(json.dumps(changed))
    try:
      read()
    except (ValueError, FileNotFoundError) as error:
      messages.append(f"{error}")
    except Exception as error:
      raise AssertionError(f"{path.name}, {where}: {error!r}") from error
  assert [text for text in messages if f"{path}" not in text or "\n" in text] == []
  return len(messages) / len(damaged)


@pytest.fixture
def run(tmp_path):
  content = made_up_run.write_run(tmp_path / "run")
  made_up_run.write_audit(tmp_path / "run", content)
  made_up_run.write_map_checks(tmp_path / "run")
  return tmp_path / "run"


def _write_page(*workdirs):
  report.write_page(tiny_run.flags_of(*workdirs, images=len(workdirs) > 1))


@pytest.mark.parametrize(
  ("name", "least"),
  [
    ("report.json", 0.6),
    ("audit.json", 0.7),
    ("data.json", 0.15),
    ("gradcam.json", 0.5),
    ("deletion.json", 0.6),
  ],
)
def test_a_page_is_written_or_the_file_is_named(run, name, least):
  content = made_up_run.json_of(run / name)
  assert _refused(run / name, lambda: _write_page(run), content) >= least


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_page_of_damaged_records(run, name):
  lines = (run / name).read_text().splitlines()

  class Last:
    """Writes the content as the last line."""

    def __str__(self):
      return str(run / name)

    name = "records"

    def write_text(self, text):
      (run / name).write_text("\n".join([*lines[:-1], text, ""]))

  records = json.loads(lines[-1])
  assert _refused(Last(), lambda: _write_page(run), records) >= 0.4


def test_a_run_that_is_compared(run, tmp_path):
  made_up_run.write_run(tmp_path / "other", seed=1)
  path = tmp_path / "other" / "report.json"
  content = made_up_run.json_of(path)
  assert _refused(path, lambda: run_files.read_run(path.parent), content) > 0.6
  # Whatever is read can be compared.
  del content["splits"]["test"]["max_calibration_error"]
  made_up_run.write_json(path, content)
  with pytest.raises(ValueError, match=r"splits\.test\.max_calibration_error: missing"):
    _write_page(run, path.parent)


def test_a_summary_of_seeds(tmp_path):
  folders = [tmp_path / "0", tmp_path / "1"]
  reports = [made_up_run.write_run(folder, seed=i) for i, folder in enumerate(folders)]
  summary = seed_summary.summarize(reports, folders)
  path = tmp_path / "seeds.json"
  content = json.loads(json.dumps(summary | {"config": {}}, default=str))
  del reports[1]["splits"]["test"]
  with pytest.raises(ValueError, match=r"1 reports validation, .*0 validation, test:"):
    seed_summary.summarize(reports, folders)

  def read():
    found = seed_summary.read_summary(tmp_path)
    try:
      seed_summary.compare(found, summary)
    except ValueError as error:
      # Other seeds, or other images: as sound as a file of another run.
      if "compar" not in str(error):
        raise

  assert _refused(path, read, content) > 0.6


def test_a_damaged_report_of_a_seed_is_written_anew(tmp_path):
  """One bit in a name, or in a digit."""
  made_up_run.write_run(tmp_path)
  config = read_config_of(tmp_path)
  assert seeds.finished_report(config, tmp_path) is not None
  text = (tmp_path / "report.json").read_text()
  for old, new in (('"recall"', '"recamm"'), ('"support": 4', '"support": 5')):
    assert old in text
    (tmp_path / "report.json").write_text(text.replace(old, new, 1))
    assert seeds.finished_report(config, tmp_path) is None


def read_config_of(folder):
  """The config of a made-up run, as a training would store it."""
  content = made_up_run.json_of(folder / "report.json")["config"]
  made_up_run.write_json(folder / "config.json", content)
  return read_config(folder)


def test_a_stored_config(tmp_path):
  made_up_run.write_run(tmp_path)
  config = read_config_of(tmp_path)
  path = tmp_path / "config.json"
  content = made_up_run.json_of(path)
  assert _refused(path, lambda: read_config(tmp_path), content) > 0.45
  assert _refused(path, lambda: record.check_same_config(config, tmp_path), content)
