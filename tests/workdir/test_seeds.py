"""Several seeds: what is run, what is only read, and what is said of the figures."""

import copy
import json
import math

import jax
import made_up_run
import numpy as np
import pytest
import scipy.stats
import tiny_workdir

from emosynth_jax import evaluate, main, train_loop
from emosynth_jax.training import seeds
from emosynth_jax.utils import files
from emosynth_jax.workdir import seed_summary


def _config(**changes):
  return tiny_workdir.config(**{"num_epochs": 1} | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_networks, without_plots):
  """Two seeds that were trained: their folder, and the reports."""
  folder = tmp_path_factory.mktemp("seeds")

  def run_one(config, workdir):
    assert train_loop.train(config, workdir)
    return evaluate.evaluate_run(config, workdir)

  return folder, seeds.run_seeds(_config(), [3, 5], _in(folder), run_one)


def _in(folder):
  return lambda seed: folder / f"seed{seed}"


def _refuse(config, workdir):
  raise AssertionError(f"{workdir} was run again")


def test_each_seed_is_a_run_of_its_own(trained):
  folder, reports = trained
  assert [report["seed"] for report in reports] == [3, 5]
  for report in reports:
    path = folder / f"seed{report['seed']}/report.json"
    assert json.loads(path.read_text()) == report
  assert reports[0]["splits"]["test"]["loss"] != reports[1]["splits"]["test"]["loss"]


def test_a_finished_seed_is_only_read(trained):
  folder, reports = trained
  assert seeds.run_seeds(_config(), [3, 5], _in(folder), _refuse) == reports
  # What changes no figure may differ.
  config = _config(steps_per_call=3)
  config.data.data_dir = "elsewhere"
  assert seeds.run_seeds(config, [5], _in(folder), _refuse) == reports[1:]


@pytest.mark.parametrize(
  "changes",
  [{"num_epochs": 2}, {"eval_augment": "flip"}, {"batch_size": 5}, {"seed": 5}],
)
def test_a_report_of_other_settings_is_none(trained, changes):
  folder, _ = trained
  assert seeds.finished_report(_config(seed=3), folder / "seed3") is not None
  config = _config(**{"seed": 3} | changes)
  assert seeds.finished_report(config, folder / "seed3") is None


@pytest.mark.parametrize(
  ("done", "best", "patience", "expected"),
  [
    (10, 9, 0, True),
    (9, 9, 0, False),
    (6, 3, 3, True),
    (5, 3, 3, False),
    (0, 0, 0, False),
  ],
)
def test_a_report_from_before_the_end_is_none(tmp_path, done, best, patience, expected):
  config = _config(num_epochs=10, early_stop_patience=patience)
  report = made_up_run.report_of(config.to_dict(), best_epoch=best, epochs_trained=done)
  files.write_report(tmp_path / "report.json", report)
  assert (seeds.finished_report(config, tmp_path) is not None) == expected
  # Nor is one whose figures hang on the order of the images.
  report["batch_invariance"]["passed"] = False
  files.write_report(tmp_path / "report.json", report)
  assert seeds.finished_report(config, tmp_path) is None


def test_a_report_that_is_damaged_or_of_before_this_command_is_none(tmp_path):
  for content in ("{", "{}", '{"config": {}, "best_epoch": 1}'):
    (tmp_path / "report.json").write_text(content)
    assert seeds.finished_report(_config(), tmp_path) is None
  assert seeds.finished_report(_config(), tmp_path / "nowhere") is None


def test_a_seed_is_run_again_when_asked_and_a_stop_ends_it_all(trained):
  folder, _ = trained
  ran = []

  def run_one(config, workdir):
    ran.append((config.seed, workdir.name))
    return None if config.seed == 5 else {"seed": config.seed}

  assert seeds.run_seeds(_config(), [3, 5, 7], _in(folder), run_one, again=True) is None
  assert ran == [(3, "seed3"), (5, "seed5")]


def test_devices_are_dealt_out_to_the_seeds_that_are_not_finished(trained):
  folder, reports = trained
  counts, ran = [], []

  def groups_of(count):
    counts.append(count)
    return [jax.devices()[:1]] * 2

  def run_one(config, workdir, *, devices, stop):
    ran.append((config.seed, devices))
    return {"seed": config.seed}

  found = seeds.run_seeds(
    _config(), [3, 7, 5, 9], _in(folder), run_one, groups_of=groups_of
  )
  assert counts == [2]
  assert sorted(ran) == [(seed, jax.devices()[:1]) for seed in (7, 9)]
  assert found == [reports[0], {"seed": 7}, reports[1], {"seed": 9}]


def test_an_impossible_seed_is_refused_before_any_run(tmp_path):
  with pytest.raises(ValueError, match=r"config\.seed: expected .* less than 42949"):
    seeds.run_seeds(_config(), [0, 2**32], _in(tmp_path), _refuse)


# What they say together, on figures made up.


def _reports(accuracies, *, first_seed=0, augmented=False):
  reports = []
  for seed, accuracy in enumerate(accuracies, first_seed):
    split = {
      "num_examples": 50,
      "accuracy": accuracy,
      "balanced_accuracy": accuracy - 0.1,
      "macro": {"f1": accuracy - 0.2},
      "expected_calibration_error": 0.05,
      "loss": 2 - accuracy,
    }
    if augmented:
      split["test_time_augmentation"] = {"accuracy": accuracy + 0.01}
    reports.append(
      {
        "data_set": "faces",
        "chosen_on": "validation accuracy",
        "seed": seed,
        "best_epoch": 7 + seed,
        "trained_by": [{"commit": "abc"}],
        "config": {"seed": seed, "batch_size": 3},
        "official_splits": {"test": "PrivateTest"},
        "splits": {"test": split},
      }
    )
  return reports


def _summarize(tmp_path, accuracies, *, data="same", **arguments):
  reports = _reports(accuracies, **arguments)
  return _summarize_reports(tmp_path, reports, [data] * len(reports))


def _summarize_reports(tmp_path, reports, data):
  """The summary of reports, each on its own test images."""
  workdirs = []
  for report, images in zip(reports, data, strict=True):
    workdir = tmp_path / f"{images}{report['seed']}"
    workdir.mkdir(exist_ok=True)
    (workdir / "data.json").write_text(json.dumps({"test": {"images_crc32": images}}))
    workdirs.append(workdir)
  return seed_summary.summarize(reports, workdirs)


def test_the_summary_has_each_figure_its_mean_and_its_sample_deviation(tmp_path):
  accuracies = [0.5, 0.6, 0.64]
  summary = _summarize(tmp_path, accuracies, augmented=True)
  figures = summary["splits"]["test"]["figures"]
  assert figures["accuracy"]["values"] == accuracies
  for label, shift in (
    ("accuracy", 0),
    ("balanced accuracy", -0.1),
    ("macro F1", -0.2),
    ("accuracy with test-time augmentation", 0.01),
  ):
    assert figures[label]["mean"] == pytest.approx(0.58 + shift)
    assert figures[label]["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
  assert "deduplicated accuracy" not in figures
  assert summary["seeds"] == [0, 1, 2]
  assert summary["config"] == {"batch_size": 3}

  text = seed_summary.format_summary(summary)
  lines = [line.split() for line in text.splitlines()]
  assert ["0", "50.00", "40.00", "30.00", "5.00", "1.5000", "51.00"] in lines
  assert ["mean", "58.00", "48.00", "38.00", "5.00", "1.4200", "59.00"] in lines
  assert ["deviation", *["7.21"] * 3, "0.00", "0.0721", "7.21"] in lines
  assert "test (PrivateTest), 50 images" in text
  assert "epochs 7, 8, 9 of seeds 0, 1, 2" in text
  assert "(n - 1) over 3 seeds" in text


def test_a_figure_that_not_every_report_has_is_left_out(tmp_path):
  reports = _reports([0.5]) + _reports([0.6], first_seed=1, augmented=True)
  summary = _summarize_reports(tmp_path, reports, ["same"] * 2)
  assert len(summary["splits"]["test"]["figures"]) == 5


def test_one_seed_has_no_deviation_and_says_so(tmp_path):
  summary = _summarize(tmp_path, [0.5])
  assert summary["splits"]["test"]["figures"]["accuracy"] == {
    "values": [0.5],
    "mean": 0.5,
    "deviation": None,
  }
  text = seed_summary.format_summary(summary)
  assert "One seed: no standard deviation" in text
  assert "\ndeviation" not in text
  comparison = seed_summary.compare(summary, _summarize(tmp_path, [0.4]))
  text = seed_summary.format_summary(summary, comparison, "others")
  assert "test, accuracy: +10.00\n" in text
  assert "One pair: no interval" in text


def test_seeds_of_other_data_are_not_averaged(tmp_path):
  with pytest.raises(
    ValueError, match=r"1 was trained on different data than .*0: seeds"
  ):
    _summarize_reports(tmp_path, _reports([0.5, 0.6]), ["one", "other"])


def test_a_comparison_pairs_the_seeds_that_both_have(tmp_path):
  ours = _summarize(tmp_path, [0.9, 0.50, 0.61, 0.55])  # seeds 0 to 3
  others = _summarize(tmp_path, [0.45, 0.58, 0.49, 0.1], first_seed=1)  # 1 to 4
  comparison = seed_summary.compare(ours, others)
  assert comparison["seeds"] == [1, 2, 3]
  found = comparison["splits"]["test"]["accuracy"]
  differences = np.array([0.05, 0.03, 0.06])
  interval = scipy.stats.t.interval(
    0.95, 2, differences.mean(), scipy.stats.sem(differences)
  )
  assert (found["low"], found["high"]) == pytest.approx(interval)
  test = scipy.stats.ttest_rel([0.50, 0.61, 0.55], [0.45, 0.58, 0.49])
  assert found["p_value"] == pytest.approx(test.pvalue)
  text = seed_summary.format_summary(ours, comparison, "there")
  low, high = (f"{100 * end:+.2f}" for end in interval)
  assert "Difference from there, paired by seeds 1, 2, 3:" in text
  assert (
    f"test, accuracy: +4.67, 95 % interval {low} to {high}, p = {test.pvalue:.2g}\n"
  ) in text
  # The loss is no percentage, and less of it is better.
  assert "test, loss: -0.0467," in text


def test_differences_that_are_all_equal_have_no_test(tmp_path):
  ours, others = _summarize(tmp_path, [0.5, 0.75]), _summarize(tmp_path, [0.25, 0.5])
  comparison = seed_summary.compare(ours, others)
  assert math.isnan(comparison["splits"]["test"]["accuracy"]["p_value"])
  assert "no test: all differences are equal" in seed_summary.format_summary(
    ours, comparison, "there"
  )


def test_what_cannot_be_compared(tmp_path):
  ours = _summarize(tmp_path, [0.5, 0.6])
  with pytest.raises(
    ValueError, match=r"no common seed to compare: seeds \[0, 1\] here, \[2\]"
  ):
    seed_summary.compare(ours, _summarize(tmp_path, [0.5], first_seed=2))
  with pytest.raises(ValueError, match="the test split there has other images"):
    seed_summary.compare(ours, _summarize(tmp_path, [0.5], data="other"))
  # Other training data is a thing to compare.
  trained_on_less = copy.deepcopy(ours)
  trained_on_less["data"]["train"] = "less"
  assert seed_summary.compare(ours, trained_on_less)["seeds"] == [0, 1]


def test_a_summary_is_read_from_its_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"seeds\.json is missing: --compare"):
    seed_summary.read_summary(tmp_path)
  summary = _summarize(tmp_path, [0.5])
  files.write_report(tmp_path / "seeds.json", summary)
  assert seed_summary.compare(summary, seed_summary.read_summary(tmp_path))[
    "seeds"
  ] == [0]
  (tmp_path / "seeds.json").write_text("{")
  with pytest.raises(ValueError, match=r"seeds\.json is damaged"):
    seed_summary.read_summary(tmp_path)


@pytest.mark.parametrize("texts", [["0", "0"], ["a"], ["-1"], ["1.5"], ["0", ""]])
def test_wrong_seeds_on_the_command_line(texts):
  assert main.parse_seeds(["0", " 2"]) == [0, 2]
  with pytest.raises(
    ValueError, match="--seeds: expected distinct non-negative integers"
  ):
    main.parse_seeds(texts)
