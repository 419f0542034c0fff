import json
import pathlib
import re
import shutil
import types

import made_up_run
import pytest

from emosynth_jax.config import defaults
from emosynth_jax.report import run_files
from experiments import leaderboard as command
from experiments.lib import leaderboard, literature


@pytest.fixture
def make_run(tmp_path):
  def make(
    name,
    seed,
    accuracy,
    *,
    form="original",
    data_set="fer2013",
    options=None,
    report_changes=None,
    **settings,
  ):
    config = defaults.get_default_config()
    config.seed = seed
    config.data.name = data_set
    config.data.options = options or {}
    config.num_epochs = 3  # As many as are reported.
    for key, value in settings.items():
      config[key] = value
    split = made_up_run.summary([[5, 1], [1, 3]], class_names=("a", "b")) | {
      "accuracy": accuracy,
      "deduplicated": {"accuracy": accuracy - 0.02, "num_left_out": 1},
      "test_time_augmentation": {"accuracy": accuracy + 0.01},
    }
    report = made_up_run.report_of(
      config.to_dict(),
      num_parameters=1234567,
      pixel_forms={"test": {form: 3574, "unknown": 15}},
      splits={"validation": split, "test": split},
      **(report_changes or {}),
    )
    folder = tmp_path / name
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return str(folder)

  return make


def _entries(workdirs):
  return leaderboard.entries_of(leaderboard.read_runs(workdirs))


def test_seeds_of_a_configuration_are_one_entry_and_three_rank_before_one(make_run):
  runs = [make_run(f"a{seed}", seed, 0.65 + 0.01 * seed) for seed in range(3)]
  runs.append(make_run("b", 0, 0.9, ema_decay=0.5))
  first, second = _entries(runs)
  assert first.seeds == (0, 1, 2)
  assert first.accuracies == pytest.approx((65, 66, 67))
  assert first.deduplicated == pytest.approx((63, 64, 65))
  assert second.seeds == (0,)
  # No test-time augmentation was asked for, whatever the report holds.
  assert first.mirrored == ()


def test_soft_labels_are_named_beside_the_loss(make_run):
  data = defaults.get_default_config().data
  data.name, data.soft_labels = "fer2013", "soft_labels.npz"
  taught, plain = make_run("a", 0, 0.7, data=data), make_run("b", 0, 0.6)
  assert [entry.loss for entry in _entries([taught, plain])] == [
    "cross_entropy on soft labels",
    "cross_entropy",
  ]


def test_forms_of_pixels_are_never_one_entry(make_run):
  runs = [make_run("a", 0, 0.6), make_run("b", 1, 0.7, form="equalized")]
  assert [entry.form for entry in _entries(runs)] == [
    "equalized",
    "original",
  ]


def test_the_page_has_means_claims_and_rules(make_run):
  runs = [make_run(f"a{s}", s, 0.65 + 0.01 * s, eval_augment="flip") for s in range(3)]
  page = leaderboard.format_page(
    _entries(runs),
    literature.FER2013,
    {
      "command": "python -m experiments.leaderboard",
      "commit": "fedcba9876",
      "hardware": "an abacus",
      "date": "2026-01-02T03:04:05+00:00",
    },
    [1.25],
  )
  (row,) = [line for line in page.splitlines() if "1,234,567" in line]
  assert "| 0, 1, 2 | 66.00 ± 1.00 | 67.00 ± 1.00 | 64.00 ± 1.00 |" in row
  assert "| 1,234,567 | 1.2 | original | validation accuracy | aaaaaaa |" in row
  assert all(claim.method in page for claim in literature.FER2013)
  assert "2021, [arXiv](https://arxiv.org/abs/2105.03588), [code](https://git" in page
  assert "nothing on\n  PrivateTest." in page
  assert "commit fedcba9, 2026-01-02." in page


def _write_lines(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_speedrun_counts_epochs_up_to_the_accuracy(make_run, tmp_path):
  make_run("a", 0, 0.66)
  folder = tmp_path / "a"
  report = json.loads((folder / "report.json").read_text())
  (folder / "report.json").write_text(json.dumps(report | {"epochs_trained": 3}))
  accuracies = [0.5, 0.651, 0.649]
  _write_lines(
    folder / "metrics.jsonl",
    [
      {"epoch": i, "step": 10 * i, "validation/accuracy": accuracy}
      for i, accuracy in enumerate(accuracies, start=1)
    ],
  )
  _write_lines(
    folder / "timing.jsonl", [{"step": 10 * i, "seconds": 300.0} for i in (1, 2, 3)]
  )
  assert leaderboard.minutes_to(run_files.read_run(folder), 40) == "5.0"
  assert leaderboard.minutes_to(run_files.read_run(folder), 65) == "10"
  assert leaderboard.minutes_to(run_files.read_run(folder), 70) == "not reached"
  # Of an interrupted run, the seconds of some epochs are missing.
  _write_lines(folder / "timing.jsonl", [{"step": 30, "seconds": 300.0}])
  assert leaderboard.minutes_to(run_files.read_run(folder), 65) == "not recorded"

  about = {
    "command": "c",
    "commit": "fedcba9876",
    "hardware": "an abacus",
    "date": "2026-01-02",
  }
  entries = _entries([str(folder)])
  page = leaderboard.format_page(entries, (), about)
  assert "| 60 % | 65 % | 70 % | loss" in page
  assert "| not recorded | not recorded | not reached |" in page


def test_runs_are_kept_without_their_folders(make_run, tmp_path, capsys):
  given = types.SimpleNamespace(
    workdirs=[make_run("a", 0, 0.6, eval_augment="flip"), make_run("b", 1, 0.7)],
    output=str(tmp_path / "page.md"),
    time=False,
  )
  command.make_page(given)
  known = json.loads((tmp_path / "page.json").read_text())
  (tmp_path / "page.json").write_text(json.dumps(known | {"notes": "By hand."}))
  before = (tmp_path / "page.md").read_text()
  shutil.rmtree(tmp_path / "a")
  shutil.rmtree(tmp_path / "b")
  # One of the seeds anew, and another one.
  given.workdirs = [make_run("c", 1, 0.71), make_run("d", 2, 0.8)]
  command.make_page(given)
  after = (tmp_path / "page.md").read_text()
  assert "| 0 | 60.00 | 61.00 | 58.00 |" in before
  assert "| 0 | 60.00 | 61.00 | 58.00 |" in after
  assert "| 1, 2 | 75.50 ± 6.36 | not run | 73.50 ± 6.36 |" in after
  assert "\nBy hand.\n" in after
  assert "3 runs, 2 entries" in capsys.readouterr().out.splitlines()[-1]

  known = json.loads((tmp_path / "page.json").read_text())
  known["runs"][0]["accuracy"] = "x"
  (tmp_path / "page.json").write_text(json.dumps(known))
  with pytest.raises(ValueError, match=r"page.json is damaged.*accuracy"):
    command.make_page(given)
  (tmp_path / "page.json").unlink()
  given.workdirs = []
  with pytest.raises(ValueError, match=r"--workdirs: expected at least one folder"):
    command.make_page(given)


def test_a_page_that_is_its_own_file_of_runs_is_refused(make_run, tmp_path):
  given = types.SimpleNamespace(
    workdirs=[], output=str(tmp_path / "x.json"), time=False
  )
  with pytest.raises(ValueError, match=r"--output: expected a Markdown file"):
    command.make_page(given)
  given.output = str(tmp_path)
  with pytest.raises(IsADirectoryError, match="--output: expected a file"):
    command.make_page(given)


def test_settings_added_since_do_not_make_two_of_a_run(make_run, tmp_path):
  (record,) = leaderboard.read_runs([make_run("a", 0, 0.6)])
  stored = json.loads(json.dumps(record))
  # As a version before these settings wrote it.
  del stored["config"]["ema_decay"], stored["config"]["input"]["standardize"]
  stored["config"]["evaluate_without_twins"] = stored["config"].pop(
    "evaluate_deduplicated"
  )
  path = tmp_path / "page.json"
  path.write_text(json.dumps({"notes": "", "runs": [stored]}))
  known, _ = leaderboard.read_known(path)
  assert leaderboard.merge(known, [record | {"accuracy": 0.7}]) == [
    record | {"accuracy": 0.7}
  ]


def test_the_published_page_is_of_its_file():
  folder = pathlib.Path(__file__).parents[2] / "docs" / "results"
  published = (folder / "leaderboard.md").read_text().splitlines()
  records, notes = leaderboard.read_known(folder / "leaderboard.json")
  about = {"command": "c", "commit": "c", "hardware": "h", "date": "d"}
  entries = leaderboard.entries_of(records)
  page = leaderboard.format_page(entries, literature.FER2013, about, notes=notes)

  def without_times(lines):
    # The command's own line, and the ninth or tenth cell of a measured row.
    rows = [line for line in lines if not line.startswith(("Made by ", "ms: a single"))]
    return [
      re.sub(r"(\| [\d,]{5,9} \| )[\d.]+ \|", r"\1not run |", row) for row in rows
    ]

  assert without_times(published) == without_times(page.splitlines())


def test_a_network_of_ones_own_is_not_timed(make_run):
  (entry,) = _entries([make_run("a", 0, 0.6, model={"name": "mine.py:Net"})])
  assert leaderboard.milliseconds(entry) is None


def test_what_is_no_entry_is_refused(make_run):
  with pytest.raises(ValueError, match="expected fer2013 or fer_plus, got mnist"):
    _entries([make_run("m", 0, 0.9, data_set="mnist")])
  with pytest.raises(ValueError, match="evaluated after 3 of 4 epochs; finish its"):
    _entries([make_run("u", 0, 0.9, num_epochs=4)])
  with pytest.raises(ValueError, match="equal configs and the seed 0 twice"):
    _entries([make_run("a", 0, 0.6), make_run("b", 0, 0.6)])
  both = {"official_splits": {"test": "PublicTest and PrivateTest"}}
  with pytest.raises(
    ValueError, match="expected a report on PrivateTest, got 'PublicT"
  ):
    _entries([make_run("t", 0, 0.9, report_changes=both)])


@pytest.mark.parametrize(
  ("setting", "value"),
  [("limit", 100), ("label_noise.rate", 0.2), ("label_noise.confusion", ("a:b:0.4",))],
)
def test_a_run_on_changed_data_is_refused(make_run, setting, value):
  data = defaults.get_default_config().data
  data.name = "fer2013"
  data.update_from_flattened_dict({setting: value})
  # As `dataset.subset` names a part.
  part = {"official_splits": {"test": "500 of the 3,589 images of PrivateTest"}}
  message = f"with config.data.{setting.partition('.')[0]}, not on the data as it is"
  with pytest.raises(ValueError, match=message):
    _entries([make_run("c", 0, 0.6, data=data, report_changes=part)])


def test_a_commit_with_changed_files_is_not_listed_as_that_commit(make_run):
  trained_by = [{**made_up_run.provenance(), "commit": "0123456789+dirty"}]
  (entry,) = _entries(
    [make_run("d", 0, 0.6, report_changes={"trained_by": trained_by})]
  )
  assert entry.commits == ("0123456+dirty",)


def test_fer_plus_is_a_table_of_its_own_with_the_labels(make_run):
  options = {"labels": "votes"}
  splits = {
    "official_splits": {"test": "PrivateTest, 3,153 of 3,589 images by majority"}
  }
  runs = [
    make_run("a", 0, 0.6),
    make_run("p", 0, 0.8, data_set="fer_plus", options=options, report_changes=splits),
  ]
  entries = _entries(runs)
  about = {
    "command": "c",
    "commit": "fedcba9876",
    "hardware": "an abacus",
    "date": "2026-01-02",
  }
  page = leaderboard.format_page(entries, (), about)
  first, second = page.split(
    "## FER+, accuracy by majority of 2 classes, measured here"
  )
  assert "| 60.00 |" in first
  assert "votes" not in first
  assert "votes" in second
  assert "| 80.00 |" in second


def test_the_time_is_the_median_of_the_calls_after_the_first_five(
  make_run, monkeypatch
):
  model = {"name": "fer_vgg", "width": 1 / 64, "dense_features": [4]}
  model["dtype"] = "float32"
  (entry,) = _entries([make_run("a", 0, 0.6, model=model)])
  # Seconds of the calls: five that are not counted, then 1, 2 and 9.
  taken = iter([50, 60, 70, 80, 90, 1, 9, 2])
  now = [0]

  def clock():
    now.append(now[-1] + (next(taken) if len(now) % 2 == 0 else 0))
    return now[-1]

  monkeypatch.setattr(leaderboard.time, "perf_counter", clock)
  assert leaderboard.milliseconds(entry, calls=3) == 2000
