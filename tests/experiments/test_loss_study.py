import json
import math
import pathlib
import re
import shutil
import types

import jax
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from scipy import special, stats
from sklearn import metrics as sklearn_metrics

from emosynth_jax import losses, train_loop
from emosynth_jax.data import run_data
from emosynth_jax.metrics import batch_invariance
from emosynth_jax.utils import files
from experiments import loss_study as command
from experiments.lib import (
  loss_study,
  loss_study_claims,
  loss_study_records,
  loss_study_report,
)
from experiments.lib.loss_study import Run


def finished(accuracy, split="validation"):
  return {"state": "finished", split: {"accuracy": accuracy}}


DIVERGED = {"state": "diverged"}
WHOLE = {"state": "finished", "validation": {"balanced_accuracy": 0.5}}
COLLAPSED = {"state": "finished", "validation": {"balanced_accuracy": 0.15}}


def test_every_loss_of_the_library_is_in_it_once():
  found = loss_study.arguments(1000)
  plain = [name for name in found if name in losses.LOSSES]
  functions = [losses.LOSSES[name] for name in plain]
  assert len(set(functions)) == len(functions)
  left_out = {losses.LOSSES[name] for name in loss_study.EXCLUDED}
  assert set(functions) | left_out == set(losses.LOSSES.values())
  assert found.keys() - set(plain) == {"mam_softmax+sce_loss", *loss_study.SMALL_SCALE}
  for name, arguments in found.items():
    losses.get_loss(**{"name": name, **arguments})


def test_what_is_left_out_as_another_loss_is_that_loss():
  logits = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
  given = {"logits": logits, "labels": np.arange(6), "class_counts": np.arange(1, 8)}

  def gradient(name):
    loss = losses.get_loss(name)
    inputs = losses.select_inputs(loss, **given)
    others = {key: value for key, value in inputs.items() if key != "logits"}
    value = jax.jit(jax.grad(lambda x: loss(logits=x, **others).mean()))
    return value(inputs["logits"])

  pairs = {
    "real_world_weight_cross_entropy": "cross_entropy",
    "logit_adjustment": "balanced_softmax",
    "reverse_cross_entropy": "mean_absolute_error",
  }
  assert {*pairs, "supervised_contrastive"} == loss_study.EXCLUDED.keys()
  for name, same in pairs.items():
    one, other = gradient(name), gradient(same)
    scale = np.linalg.norm(one) / np.linalg.norm(other)
    np.testing.assert_allclose(one, scale * other, rtol=1e-4, atol=1e-6)
    if name != "reverse_cross_entropy":
      assert scale == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("loss", ["sphereface", "l_softmax"])
def test_annealed_margins_are_annealed_over_each_stage(loss):
  weights = []
  for stage, steps in (("rates", 560), ("full", 8960)):
    config = loss_study.build_config(Run(loss, stage, 8e-3, 0), data_dir="data")
    # lambda after a third of the steps; Liu et al.'s own code has 0.1 for lam_decay.
    weights.append(1500 / (1 + config.loss.lam_decay * steps / 3))
  assert weights[0] == pytest.approx(weights[1])
  assert weights[1] == pytest.approx(1500 / (1 + 0.1 * 8960 / 3))


@pytest.mark.parametrize(
  "loss", ["subcenter_arcface", "mixed_cross_entropy", "deferred_reweighting"]
)
def test_the_rates_are_chosen_without_public_and_private_test(loss):
  config = loss_study.build_config(
    Run(loss, "rates", 8e-3, loss_study.RATE_SEED), data_dir="data"
  )
  assert config.data.options.protocol == "thesis_28709_7178"
  assert config.data.test_split == ""
  # Fractions of all steps: 9,000 images in 140 batches of 64, four epochs.
  arguments = {"reweight_step": 448, "total_steps": 560, "sub_centers": 3}
  for name, value in config.loss.items():
    if name != "name":
      assert value == arguments[name]
  assert config.optimizer.learning_rate == 8e-3
  assert config.model.name == "fer_vgg"
  assert loss_study.RATE_SEED not in range(loss_study.COMPARISONS["full"].most_seeds)


def test_nothing_is_chosen_on_private_test():
  for stage in ("rates", "strength", "screen"):
    config = loss_study.build_config(Run("focal", stage, 8e-3, 101), data_dir="data")
    assert config.data.test_split == ""


def test_only_loss_and_rate_differ_between_runs_of_a_seed():
  one, other = (
    loss_study.build_config(Run(loss, "full", 2e-3, 3), data_dir="data").to_dict()
    for loss in ("arcface", "cross_entropy")
  )
  assert one.pop("loss") != other.pop("loss")
  assert one == other


@pytest.mark.parametrize(
  ("stage", "num_images"),
  # FER+'s images with a majority among its eight classes (tests/data/datasets/
  # test_fer_plus.py); nine tenths of CIFAR-10's 50,000.
  [("fer_plus", 25060), ("cifar10", 45000)],
)
def test_other_data_repeat_the_recipe(stage, num_images):
  run = Run("mixed_cross_entropy", stage, 2e-3, 1)
  config = loss_study.build_config(run, data_dir="elsewhere")
  assert (config.data.name, config.data.data_dir) == (stage, "elsewhere")
  assert config.loss.total_steps == 20 * (num_images // 64)
  of_faces = loss_study.build_config(run._replace(stage="full"), data_dir="elsewhere")
  one, other = config.to_dict(), of_faces.to_dict()
  for each in (one, other):
    # Near-duplicates are searched in FER-2013 alone.
    del each["data"], each["loss"], each["evaluate_deduplicated"]
  assert one == other


def test_a_limit_above_the_split_changes_no_schedule():
  run = Run("mixed_cross_entropy", "full", 2e-3, 1)
  configs = [
    loss_study.build_config(run, data_dir="data", limit=limit) for limit in (0, 100000)
  ]
  assert configs[0].loss.total_steps == configs[1].loss.total_steps == 20 * 448


def test_other_data_have_tables_of_their_own(tmp_path):
  for loss, accuracy in (("cross_entropy", 0.5), ("mam_softmax", 0.7)):
    for stage, seeds in (
      ("rates", [100]),
      ("screen", [101, 102]),
      ("fer_plus", [0, 1, 2]),
    ):
      for seed in seeds:
        _report(tmp_path / Run(loss, stage, 2e-3, seed).folder, accuracy + seed / 1000)
  text = loss_study_report.write_report(tmp_path, {"width": 0.125})
  table = text.partition("## Full length, test split of fer_plus")[2]
  assert re.search(r"mam_softmax +\| 70.10 ± 0.10 +\| +3 +\| +0 \| \+20.00 \[", table)
  assert "Further metrics, test split of fer_plus" in text
  assert "test split of cifar10" not in text
  # Three seeds are an estimate.
  estimates = table.partition("###")[0]
  assert "Holm" not in estimates
  assert "verdict" not in estimates
  shutil.rmtree(tmp_path / "fer_plus")
  assert loss_study_report.write_report(tmp_path, {"width": 0.125}) == text


def test_each_loss_gets_the_rate_of_its_best_accuracy():
  results = {
    Run("mse", "rates", 1.0, 0): finished(0.3),
    Run("mse", "rates", 2.0, 0): finished(0.5),
    Run("mse", "rates", 3.0, 0): DIVERGED,
    Run("arcface", "rates", 1.0, 0): DIVERGED,
  }
  assert loss_study.choose_rates(results) == {"mse": 2.0}
  results[Run("mse", "rates", 1.5, 0)] = finished(0.5)
  assert loss_study.choose_rates(results) == {"mse": 1.5}


def test_the_best_of_the_screening_join_the_fixed_losses():
  accuracies = dict.fromkeys("abcdefg", 0.0) | {"g": 0.9, "f": 0.8, "e": 0.7}
  accuracies |= {"d": 0.6, "c": 0.5, "b": 0.4, "cross_entropy": 0.99, "sce_loss": 0.98}
  results = {
    Run(loss, "screen", 1.0, seed): finished(accuracy)
    for loss, accuracy in accuracies.items()
    for seed in (101, 102)
  }
  results[Run("g", "screen", 1.0, 102)] = DIVERGED
  chosen = loss_study.choose_losses(results)
  assert chosen == [
    *("cross_entropy", "mam_softmax", "sce_loss", "mam_softmax+sce_loss"),
    *("f", "e", "d", "c", "b"),
  ]


def test_the_screening_does_not_choose_the_fixed_losses():
  of_all = loss_study.FIXED
  results = {Run(loss, "screen", 1.0, 0): finished(0.5) for loss in of_all}
  results[Run("sce_loss", "screen", 1.0, 1)] = DIVERGED
  assert loss_study.choose_losses(results) == [*of_all]


def full(**values):
  validation = {"validation": {"balanced_accuracy": 0.5}}
  return {
    Run(loss, "full", 1.0, seed): DIVERGED
    if math.isnan(x)
    else finished(x, "test") | validation
    for loss, xs in values.items()
    for seed, x in enumerate(xs)
  }


def accuracy(result):
  return 100 * result["test"]["accuracy"]


def compare(results):
  return loss_study_claims.compare(results, accuracy)


def test_verdicts():
  base = [0.60, 0.61, 0.59, 0.60, 0.62]
  noise = [0.001, -0.001, 0.002, -0.002, 0.0]
  results = full(
    cross_entropy=base,
    higher=[x + 0.03 + e for x, e in zip(base, noise, strict=True)],
    lower=[x - 0.03 + e for x, e in zip(base, noise, strict=True)],
    same=[x + e for x, e in zip(base, noise, strict=True)],
    noisy=[x + 30 * e for x, e in zip(base, noise, strict=True)],
    gone=[math.nan, 0.5, 0.5, 0.5, math.nan],
  )
  compared = compare(results)
  verdicts = {loss: row.get("verdict") for loss, row in compared.items()}
  assert verdicts["cross_entropy"] is None
  assert verdicts["higher"] == "better"
  assert verdicts["lower"] == "worse"
  assert verdicts["same"] == "no difference"
  assert verdicts["noisy"] == "undecided"
  assert compared["gone"]["diverged"] == 2
  assert compared["gone"]["seeds"] == [1, 2, 3]
  assert compared["higher"]["difference"]["mean"] == pytest.approx(3.0)
  # Holm multiplies the smallest of eight p-values by eight: three more losses are
  # compared, of which there is no run.
  smallest = min(
    (row["difference"]["p_value"], row["p_holm"])
    for row in compared.values()
    if "difference" in row
  )
  assert smallest[1] == pytest.approx(8 * smallest[0])
  assert not loss_study_claims.is_decided(compared)
  narrow = {
    loss: row for loss, row in compared.items() if loss not in ("gone", "noisy")
  }
  assert loss_study_claims.is_decided(narrow)


def test_what_diverged_is_neither_better_nor_without_difference():
  base, nan = [0.60, 0.61, 0.59, 0.60, 0.62], math.nan
  results = full(
    cross_entropy=base,
    # The three that finished are better, equal and worse.
    better=[0.63, 0.6401, 0.62, nan, nan],
    equal=[0.60, 0.6101, 0.59, nan, nan],
    worse=[0.57, 0.5801, 0.56, nan, nan],
    alone=[0.60, nan, nan, nan, nan],
    whole=[0.60, 0.6101, 0.59, 0.60, 0.62],
  )
  compared = compare(results)
  verdicts = {loss: row["verdict"] for loss, row in compared.items() if "p_holm" in row}
  assert verdicts == {
    **dict.fromkeys(("better", "equal", "alone"), "undecided"),
    "worse": "worse",
    "whole": "no difference",
  }
  # The loss without pairs is one of eight tests.
  p_values = [
    row["difference"]["p_value"] for row in compared.values() if "difference" in row
  ]
  assert min(row["p_holm"] for row in compared.values() if "p_holm" in row) == (
    pytest.approx(8 * min(p_values))
  )
  # It does not hold the others up.
  assert loss_study_claims.is_decided(compared)
  row = {"seeds": [0], "mean": 0.6, "diverged": 0}
  assert not loss_study_claims.is_decided(compared | {"new": row})
  assert loss_study_claims.is_decided({"cross_entropy": compared["cross_entropy"]})
  assert not loss_study_claims.is_decided({})


def test_what_diverged_flatters_its_side():
  nan = math.nan
  of_baseline = full(
    cross_entropy=[0.60, 0.61, 0.59, 0.60, nan],
    better=[0.63, 0.6401, 0.62, 0.63, 0.65],
    equal=[0.60, 0.6101, 0.59, 0.60, 0.62],
    worse=[0.57, 0.5801, 0.56, 0.57, 0.59],
  )
  compared = compare(of_baseline)
  verdicts = {loss: row["verdict"] for loss, row in compared.items() if "p_holm" in row}
  assert verdicts == {"better": "better", "equal": "undecided", "worse": "undecided"}
  # Four pairs.
  assert not loss_study_claims.is_decided(compared)


def test_nothing_is_claimed_of_a_part_of_the_study():
  results = full(cross_entropy=[0.60, 0.61], better=[0.63, 0.6401])
  row = compare(results)["better"]
  assert row["verdict"] == "not finished"
  # Losses without a run count in Holm's correction.
  assert row["p_holm"] == pytest.approx(8 * row["difference"]["p_value"])
  estimate = loss_study_claims.compare(results, accuracy, claims=False)["better"]
  assert estimate["difference"] == row["difference"]
  assert not {"p_holm", "verdict"} & estimate.keys()


@pytest.mark.parametrize(
  ("stage", "chance"), [("full", 1 / 7), ("fer_plus", 1 / 8), ("cifar10", 1 / 10)]
)
def test_a_run_that_collapsed_counts_as_diverged(stage, chance):
  results = {}
  for loss in ("cross_entropy", "focal"):
    for seed in range(5):
      # Of the second loss's last seed all images have one class.
      collapsed = (loss, seed) == ("focal", 4)
      results[Run(loss, stage, 1.0, seed)] = {
        "state": "finished",
        "validation": {"balanced_accuracy": chance * (1.01 if collapsed else 1.6)},
        "test": {"accuracy": 0.24 if collapsed else 0.6},
      }
  row = compare(results)["focal"]
  assert (row["seeds"], row["diverged"], row["mean"]) == ([0, 1, 2, 3], 1, 60.0)
  assert row["verdict"] == "undecided"


@pytest.fixture
def study(tmp_path, monkeypatch):
  """Runs the command on losses that are trained in no time; the runs it trained."""
  names = [*loss_study.FIXED, "focal", "mse", "poly"]
  accuracies = dict.fromkeys(names, 0.5) | {"focal": 0.6, "mse": 0.55}
  trained = []

  def train(config, folder, **_):
    loss = config.loss.name
    stage = folder.relative_to(tmp_path).parts[-3]
    trained.append((stage, loss, config.seed))
    if (stage, loss, config.seed) == diverges:
      raise command.epoch.NonFiniteError("step 8")
    if folder in refused:
      raise ValueError("config mismatch")
    folders.setdefault(stage, set()).add(config.data.data_dir)
    noise = (0.05 if loss == noisy else 1e-5 * names.index(loss)) * (config.seed % 3)
    # Strength is asked of cross-entropy alone.
    strength = 0.1 if stage == "strength" else 0.0
    _report(folder, accuracies[loss] + strength + noise)
    return True

  def finished_report(config, folder):
    del config
    return None if folder in refused else {}

  monkeypatch.setattr(loss_study, "arguments", lambda _: {name: {} for name in names})
  monkeypatch.setattr(loss_study, "NUM_CHOSEN", 2)
  monkeypatch.setattr(train_loop, "train", train)
  monkeypatch.setattr(command.evaluate, "evaluate_run", lambda *_, **__: None)
  monkeypatch.setattr(command, "measure_secondary", lambda *_: {"silhouette": 0.1})
  monkeypatch.setattr(command, "measure_sharpness", lambda _: {"sam": 0.1})
  monkeypatch.setattr(command.seeds, "finished_report", finished_report)
  noisy, diverges, refused, folders = "", None, set(), {}

  def run(stage, *only, folder="study", noise="", diverged=None, **changes):
    nonlocal noisy, diverges
    noisy, diverges = noise, diverged
    trained.clear()
    flags = {"stage": stage, "losses": list(only), "workdir": str(tmp_path / folder)}
    flags |= {"data_dir": "", "width": 0.125, "epochs": 0, "limit": 0}
    command.run(_Flags(flags | changes))
    return list(trained)

  run.accuracies, run.refused, run.folders = accuracies, refused, folders
  return run


def test_stages_follow_each_other(study):
  with pytest.raises(ValueError, match="21 of the 21 runs of the stage rates are miss"):
    study("screen")
  assert len(study("rates", "mse")) == 3
  with pytest.raises(ValueError, match="18 of the 21 runs of the stage rates are miss"):
    study("screen", "mse")
  assert len(study("rates")) == 18

  with pytest.raises(ValueError, match="14 of the 14 runs of the stage screen are"):
    study("cifar10")
  strength, *screened = study("screen")
  assert strength == ("strength", "cross_entropy", 100)
  assert {seed for _, _, seed in screened} == {101, 102}
  assert len(screened) == 14

  # Poly has not been chosen, and nothing of the rest is trained.
  with pytest.raises(
    ValueError, match=r"--losses: poly: .* not chosen .*full has cros"
  ):
    study("full", "cross_entropy", "poly")
  assert study("full", "mse") == [("full", "mse", seed) for seed in range(5)]
  # All intervals are narrow after five seeds, and what is there is not trained again.
  assert len(study("full")) == 5 * 5
  assert not study("full")
  others = study("fer_plus", "cross_entropy"), study("fer_plus")
  assert [len(each) for each in others] == [3, 15]
  assert study.folders.pop("fer_plus") == {"data"}
  assert set.union(*study.folders.values()) == {"data/fer2013.csv"}


def test_losses_that_are_not_chosen_do_not_wait_for_the_screening(study):
  fixed = loss_study.FIXED
  assert len(study("rates", *fixed)) == 12
  with pytest.raises(ValueError, match="9 of the 21 runs of the stage rates are miss"):
    study("full", "focal", "cross_entropy")
  strength, *trained = study("full", "cross_entropy", "mam_softmax")
  assert strength == ("strength", "cross_entropy", 100)
  assert trained == [("full", loss, seed) for seed in range(5) for loss in fixed[:2]]
  assert len(study("cifar10", "sce_loss")) == 3

  # The rest follows, and has the same result.
  assert len(study("rates")) == 9
  assert len(study("screen")) == 14
  assert len(study("full")) == 4 * 5


def test_cross_entropy_has_to_be_strong_before_anything_is_screened(study):
  study("rates")
  study.accuracies["cross_entropy"] = 0.49
  with pytest.raises(
    ValueError, match=r"59.00 % on PublicTest after 20 .*60 % are need"
  ):
    study("screen")


def test_what_diverges_is_counted_and_does_not_hold_up_the_study(study, tmp_path):
  for stage in ("rates", "screen"):
    study(stage)
  assert len(study("full", diverged=("full", "mse", 1))) == 6 * 5
  table = (tmp_path / "study" / "loss_study.md").read_text().partition("## Full")[2]
  assert re.search(r"\| mse +\| 55.0\d ± 0.0\d +\| +4 +\| +1 .*undecided", table)
  assert re.search(r"\| focal +\| 60.0\d ± 0.0\d +\| +5 +\| +0 .*better", table)
  assert not study("full")


def test_an_evaluation_that_depends_on_the_batch_ends_its_run_alone(study, monkeypatch):
  for stage in ("rates", "screen"):
    study(stage)

  def evaluate(config, folder, *, load):
    del load
    if (config.loss.name, config.seed) == ("mse", 1):
      # The report is written before, and does not count as finished.
      study.refused.add(folder)
      raise batch_invariance.BatchDependenceError(f"{folder}: depends on the batch")

  monkeypatch.setattr(command.evaluate, "evaluate_run", evaluate)
  assert len(study("full")) == 6 * 5
  assert not study("full")


def test_a_folder_of_other_settings_is_not_taken_for_a_result(study, tmp_path):
  study("rates")
  study.refused.add(tmp_path / "study/rates/mse/rate0.002-seed100")
  with pytest.raises(ValueError, match="config mismatch"):
    study("rates")


def test_a_wide_interval_asks_for_further_seeds(study, monkeypatch):
  comparison = loss_study.COMPARISONS["full"]._replace(most_seeds=7)
  monkeypatch.setitem(loss_study.COMPARISONS, "full", comparison)
  for stage in ("rates", "screen"):
    study(stage)
  found = study("full", noise="focal")
  assert {seed for _, _, seed in found} == set(range(7))
  assert len(found) == 6 * 7


def test_a_rehearsal_may_be_of_some_losses(study):
  # Poly is left out where it has not been chosen.
  only = ("cross_entropy", "mse", "focal", "poly")
  for stage, number in (("rates", 12), ("screen", 9), ("full", 15), ("cifar10", 9)):
    assert len(study(stage, *only, folder="rehearsal", epochs=1)) == number


def test_nothing_is_compared_where_cross_entropy_trains_at_no_rate(study, tmp_path):
  study("rates")
  for folder in (tmp_path / "study" / "rates" / "cross_entropy").iterdir():
    (folder / "diverged.json").write_text("{}")
  with pytest.raises(ValueError, match=r"cross_entropy, with .* diverged at all"):
    study("screen")


def _report(folder, accuracy):
  """The part of a run's report.json that the study reads."""
  measures = {"accuracy": accuracy, "balanced_accuracy": 0.4, "loss": 1.5, "macro": {}}
  report = {"best_epoch": 3, "splits": {"validation": measures, "test": measures}}
  report["splits"]["test"] = measures | {"deduplicated": {"accuracy": 0.3}}
  folder.mkdir(parents=True, exist_ok=True)
  report["trained_by"] = [{"commit": "b"}, {"commit": "a"}, {"commit": "b"}]
  (folder / "report.json").write_text(json.dumps(report))


def test_a_study_resumes_without_the_folders_of_earlier_runs(tmp_path):
  runs = [Run("focal", "rates", rate, 100) for rate in loss_study.RATES]
  settings = {"width": 0.125, "epochs": 0, "limit": 0}
  _report(tmp_path / runs[0].folder, 0.25)
  (tmp_path / runs[1].folder).mkdir(parents=True)
  (tmp_path / runs[1].folder / "diverged.json").write_text('{"error": "step 3"}')
  loss_study_report.write_report(tmp_path, settings)
  before = loss_study_records.read_results(tmp_path, runs)
  assert before[runs[0]]["test"]["deduplicated"] == 0.3
  assert before[runs[0]]["commits"] == ["a", "b"]
  assert before[runs[1]] == {"state": "diverged", "error": "step 3"}

  shutil.rmtree(tmp_path / "rates")
  assert loss_study_records.read_results(tmp_path, runs) == before
  _report(tmp_path / runs[2].folder, 0.5)
  text = loss_study_report.write_report(tmp_path, settings)
  assert re.search(r"focal +\| +25.00 +\| +diverged +\| +50.00 +\| +0.032", text)
  # They stay, and a folder counts more than what was noted of it.
  shutil.rmtree(tmp_path / "rates")
  assert len(loss_study_records.read_results(tmp_path, runs)) == 3
  _report(tmp_path / runs[2].folder, 0.75)
  found = loss_study_records.read_results(tmp_path, runs)[runs[2]]
  assert found["validation"]["accuracy"] == 0.75


def test_further_metrics_are_means_over_the_seeds_that_finished(tmp_path):
  for seed, value in enumerate((0.2, 0.4)):
    folder = tmp_path / Run("sce_loss", "full", 2e-3, seed).folder
    _report(folder, 0.6)
    (folder / "secondary.json").write_text(json.dumps({"silhouette": value}))
  rates = dict.fromkeys(loss_study.FIXED, 2e-3)
  runs = loss_study.full_runs(["sce_loss"], rates, 3)
  found = loss_study_records.read_results(tmp_path, runs)
  found[runs[2]] = COLLAPSED | {"test": {"balanced_accuracy": 0.9}}
  table = loss_study_report.further_metrics(found)
  cells = [cell.strip() for cell in table[-1].strip("|").split("|")]
  assert cells == ["sce_loss", "60.00", "40.00", "30.00", "", "0.300", ""]


def test_results_that_are_no_longer_chosen_stay(tmp_path):
  low, high = (Run("focal", "rates", rate, 100) for rate in loss_study.RATES[:2])
  screened = Run("focal", "screen", low.rate, 101)
  _report(tmp_path / low.folder, 0.2)
  _report(tmp_path / screened.folder, 0.4)
  loss_study_report.write_report(tmp_path, {"width": 0.125})
  shutil.rmtree(tmp_path / "screen")
  # Another rate is better now.
  _report(tmp_path / high.folder, 0.3)
  loss_study_report.write_report(tmp_path, {"width": 0.125})
  assert screened in loss_study_records.read_known(tmp_path)


def test_a_run_without_its_secondary_metrics_is_not_complete(tmp_path):
  run = Run("focal", "full", 2e-3, 0)
  _report(tmp_path / run.folder, 0.5)
  result = loss_study_records.read_result(tmp_path / run.folder)
  assert not loss_study_records.is_complete(run, result)
  assert loss_study_records.is_complete(run._replace(stage="screen"), result)
  assert loss_study_records.is_complete(run, DIVERGED)
  (tmp_path / run.folder / "secondary.json").write_text('{"silhouette": 0.1}')
  result = loss_study_records.read_result(tmp_path / run.folder)
  assert loss_study_records.is_complete(run, result)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"splits": {"validation": {}}}, r"report.json is damaged.*accuracy: missing"),
    ({"splits": {}}, r"report.json is damaged.*validation: missing"),
    ({"pixel_forms": {"validation": {"equalized": 9}}}, "trained on equalized images"),
  ],
)
def test_a_report_that_is_not_of_the_study_is_one_error(tmp_path, change, message):
  _report(tmp_path, 0.5)
  report = json.loads((tmp_path / "report.json").read_text())
  (tmp_path / "report.json").write_text(json.dumps(report | change))
  with pytest.raises(ValueError, match=message):
    loss_study_records.read_result(tmp_path)


def test_a_damaged_file_of_results_is_one_error(tmp_path):
  record = {**Run("focal", "full", 2e-3, 0)._asdict(), "state": "finished"}
  of_split = {"accuracy": 0.5, "balanced_accuracy": 0.5, "loss": 1.0}
  for part, message in (
    ({}, "validation: missing"),
    ({"state": "x"}, "state: exp"),
    ({"validation": of_split, "sharpness": 3}, "sharpness: exp"),
    ({"validation": of_split, "sharpness": {"sam": None}}, "sharpness.sam: exp"),
    ({"validation": {**of_split, "silhouette": None}}, "validation.silhouette: exp"),
  ):
    content = {"settings": {}, "runs": [record | part]}
    (tmp_path / "loss_study.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"loss_study.json is damaged.*{message}"):
      loss_study_records.read_known(tmp_path)


def test_runs_of_other_settings_do_not_mix(tmp_path):
  loss_study_records.check_settings(tmp_path, {"width": 0.5})
  _report(tmp_path / Run("focal", "rates", 2e-3, 100).folder, 0.2)
  loss_study_report.write_report(tmp_path, {"width": 0.125})
  loss_study_records.check_settings(tmp_path, {"width": 0.125})
  with pytest.raises(
    ValueError, match=r"runs with width 0.125, now 0.5; use another --work"
  ):
    loss_study_records.check_settings(tmp_path, {"width": 0.5})

  epochs = {"rates": 4, "full": 20}
  loss_study_report.write_report(tmp_path, {"width": 0.125, "epochs_by_stage": epochs})
  # A stage without runs, and a new one.
  changed = {"rates": 4, "full": 30, "cifar10": 3}
  loss_study_records.check_settings(tmp_path, {"epochs_by_stage": changed})
  with pytest.raises(ValueError, match=r"epochs_by_stage.rates 4, now 5; use another"):
    loss_study_records.check_settings(tmp_path, {"epochs_by_stage": {"rates": 5}})


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"width": math.nan}, "--width: expected a number above 0, got nan"),
    ({"losses": ["focal"], "limit": 9}, "--losses: expected cross_entropy among"),
    ({"stage": "report"}, r"--workdir: .*loss_study.json has no runs"),
  ],
)
def test_flags_that_do_not_match_are_one_error(tmp_path, change, message):
  values = {"stage": "rates", "width": 0.125, "losses": [], "workdir": str(tmp_path)}
  with pytest.raises(ValueError, match=message):
    command.run(_Flags(values | {"epochs": 0, "limit": 0} | change))
  assert not list(tmp_path.iterdir())


class _Flags(dict):
  """Flags by name and by attribute, as absl has them."""

  def __getattr__(self, name):
    return dict.__getitem__(self, name)

  def __getitem__(self, name):
    return types.SimpleNamespace(value=dict.__getitem__(self, name))


def test_settings_without_runs_bind_nothing_and_damaged_ones_are_one_error(tmp_path):
  loss_study_report.write_report(tmp_path, {"width": 0.125})
  loss_study_records.check_settings(tmp_path, {"width": 0.5})
  (tmp_path / "loss_study.json").write_text('{"settings": {"epochs": 0}, "runs": []}')
  with pytest.raises(ValueError, match=r"settings.width: missing.*restore the file"):
    loss_study_records.read_settings(tmp_path)


def test_secondary_metrics_are_those_of_the_test_split(tmp_path, monkeypatch):
  datasets = {
    split: tiny_workdir.dataset(40, seed=seed, split=split)
    for seed, split in enumerate(("train", "validation", "test"))
  }
  tiny_workdir.install(monkeypatch, lambda config, split: datasets[split])
  config = tiny_workdir.config(model__features=5)
  state = tiny_network.create_state(seed=3)
  tiny_workdir.write(tmp_path, config, state, datasets)
  found = command.measure_secondary(config, tmp_path, run_data.shared_loader(config))

  model = tiny_network.TinyNetwork(features=5, num_classes=3)
  logits, embeddings = {}, {}
  for split, dataset in datasets.items():
    inputs = dataset.images * np.float32(state.input_scale)
    logits[split], layers = model.apply(state.evaluation_variables, inputs, train=False)
    embeddings[split] = layers["pre_logits"]
  labels = {split: dataset.labels for split, dataset in datasets.items()}

  # The temperature by a search of its own.
  temperatures = np.geomspace(0.05, 20, 301)
  losses_of = [
    sklearn_metrics.log_loss(
      labels["validation"], special.softmax(logits["validation"] / t, -1)
    )
    for t in temperatures
  ]
  best = temperatures[np.argmin(losses_of)]
  expected = sklearn_metrics.log_loss(
    labels["test"], special.softmax(logits["test"] / best, -1)
  )
  assert found["calibrated_loss"] == pytest.approx(expected, rel=1e-3)
  silhouette = sklearn_metrics.silhouette_score(embeddings["test"], labels["test"])
  assert found["silhouette"] == pytest.approx(silhouette, rel=1e-4)

  x = embeddings["test"] / np.linalg.norm(embeddings["test"], axis=1, keepdims=True)
  centers = np.stack([x[labels["test"] == k].mean(axis=0) for k in range(3)])
  centers /= np.linalg.norm(centers, axis=1, keepdims=True)
  angles = np.degrees(np.arccos(x @ centers.T))
  is_own = labels["test"][:, None] == np.arange(3)
  others = np.where(is_own, np.inf, angles).min(axis=1)
  margin = others.mean() - angles[is_own].mean()
  assert found["angular_margin"] == pytest.approx(margin, rel=1e-3)


def test_sharpness_is_that_of_the_training_images(tmp_path, monkeypatch):
  splits = {
    split: tiny_workdir.dataset(40, seed=seed, split=split)
    for seed, split in enumerate(("train", "validation", "test"))
  }
  dataset = splits["train"]
  tiny_workdir.install(monkeypatch, lambda config, split: splits[split])
  config = tiny_workdir.config(model__features=5)
  state = tiny_network.create_state(seed=3)
  tiny_workdir.write(tmp_path, config, state, splits)
  # Below that of equal probabilities, ln 3.
  monkeypatch.setattr(command, "SHARPNESS_LOSS", 1.098)
  found = command.measure_sharpness(tmp_path)

  model = tiny_network.TinyNetwork(features=5, num_classes=3)
  inputs = dataset.images * np.float32(state.input_scale)
  logits, _ = model.apply(state.evaluation_variables, inputs, train=False)
  loss = sklearn_metrics.log_loss(dataset.labels, special.softmax(logits, -1))
  assert found["loss"] == pytest.approx(loss, rel=1e-5)
  assert all(found[measure] > 0 for measure in ("sam", "eigenvalue"))
  assert found.keys() > loss_study_claims.SHARPNESS_MEASURES.keys()


def test_a_run_whose_sharpness_is_missing_is_not_complete(tmp_path):
  for loss, needs in (("mam_softmax", True), ("sce_loss", False)):
    run = Run(loss, "full", 2e-3, 0)
    _report(tmp_path / run.folder, 0.5)
    (tmp_path / run.folder / "secondary.json").write_text('{"silhouette": 0.1}')
    result = loss_study_records.read_result(tmp_path / run.folder)
    assert loss_study_records.is_complete(run, result) != needs
    (tmp_path / run.folder / "sharpness.json").write_text('{"sam": 0.1}')
    result = loss_study_records.read_result(tmp_path / run.folder)
    assert result["sharpness"] == {"sam": 0.1}
    assert loss_study_records.is_complete(run, result)


def test_sharpness_is_compared_as_ratio_paired_by_seed():
  def of(loss, values):
    return {
      Run(loss, "full", 1.0, seed): {
        **WHOLE,
        "sharpness": {"sam": value, "rise": math.nan},
      }
      for seed, value in enumerate(values)
    }

  base = [0.2, 0.4, 0.1]
  results = of("cross_entropy", [*base, 0.5])
  results |= of("mam_softmax", [2 * base[0], 3 * base[1], 4 * base[2], -0.1, 7.0])
  results |= of("mam_softmax+sce_loss", [0.3, -0.1])
  compared = loss_study_claims.compare_sharpness(results)
  # The joint loss has one pair above 0; MAM-SoftMax's fifth seed has no pair.
  ((key, row),) = compared.items()
  assert key == ("sam", "mam_softmax")
  assert (row["pairs"], row["left_out"]) == (3, 1)
  assert row["ratio"] == pytest.approx(24 ** (1 / 3))
  # Student's interval of logarithms, by SciPy.
  logs = np.log([2, 3, 4])
  interval = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
  assert (row["low"], row["high"]) == pytest.approx(np.exp(interval).tolist())
  assert row["p_value"] == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
  assert "p_holm" not in row
  line, _, verdict = loss_study_report.sharpness_table(results)[2:]
  assert verdict.count("not finished") == 2
  assert line.startswith("| SAM's sharpness | mam_softmax | 2.88 [")
  assert "| 3 (1 left out) |" in line


def test_flatter_is_what_both_measures_at_equal_loss_show():
  def of(loss, **factors):
    return {
      Run(loss, "full", 1.0, seed): {
        **WHOLE,
        "sharpness": {
          measure: factors.get(measure, 1.0) * (1 + 0.01 * seed + 0.001 * (seed % 2))
          for measure in loss_study_claims.SHARPNESS_MEASURES
        },
      }
      for seed in range(5)
    }

  base = of("cross_entropy")
  for seed, run in enumerate(base):
    values = base[run]["sharpness"]
    base[run] = {
      **WHOLE,
      "sharpness": {k: v * (1 + 0.02 * (seed % 3)) for k, v in values.items()},
    }
  lower = of("mam_softmax", sam_at_target=0.5, rise_at_target=0.5)
  one = of("mam_softmax+sce_loss", sam_at_target=0.5)
  rows = loss_study_claims.compare_sharpness(base | lower | one)
  verdicts = {"mam_softmax": "flatter", "mam_softmax+sce_loss": "not shown"}
  assert loss_study_claims.flatness(rows) == verdicts
  # Holm over the four rows of the claim, by hand: the least p-value times four.
  claimed = [
    row for (measure, _), row in rows.items() if measure in loss_study_claims.FLATNESS
  ]
  least = min(claimed, key=lambda row: row["p_value"])
  assert least["p_holm"] == pytest.approx(4 * least["p_value"])
  assert (
    "Flatter minima: mam_softmax flatter,"
    in loss_study_report.sharpness_table(base | lower)[-1]
  )

  # Rows that are not there count as well.
  alone = loss_study_claims.compare_sharpness(base | lower)
  least = min(
    (alone[m, "mam_softmax"] for m in loss_study_claims.FLATNESS),
    key=lambda r: r["p_value"],
  )
  assert least["p_holm"] == pytest.approx(4 * least["p_value"])
  higher = of("mam_softmax", sam_at_target=2.0, rise_at_target=3.0)
  rows = loss_study_claims.compare_sharpness(base | higher)
  assert loss_study_claims.flatness(rows)["mam_softmax"] == "sharper"
  apart = of("mam_softmax", sam_at_target=0.5, rise_at_target=2.0)
  rows = loss_study_claims.compare_sharpness(base | apart)
  assert loss_study_claims.flatness(rows)["mam_softmax"] == "not shown"
  sixth = {
    Run(loss, "full", 1.0, 5): result
    for loss, result in (
      ("cross_entropy", base[Run("cross_entropy", "full", 1.0, 4)]),
      ("mam_softmax", lower[Run("mam_softmax", "full", 1.0, 4)]),
    )
  }
  rows = loss_study_claims.compare_sharpness(base | lower | sixth)
  assert loss_study_claims.flatness(rows)["mam_softmax"] == "flatter"
  # A seed that is left out, for whatever reason, supports no claim.
  last = Run("mam_softmax", "full", 1.0, 5)
  not_above_0 = {
    **WHOLE,
    "sharpness": {**sixth[last]["sharpness"], "sam_at_target": -0.1},
  }
  collapsed = {**sixth[last], **COLLAPSED}
  for result in (not_above_0, DIVERGED, collapsed):
    rows = loss_study_claims.compare_sharpness(base | lower | sixth | {last: result})
    assert rows["sam_at_target", "mam_softmax"]["left_out"] == 1
    assert loss_study_claims.flatness(rows)["mam_softmax"] == "not shown"


def test_numbers_that_are_not_finite_are_read_as_they_are_written(tmp_path):
  for seed in (0, 1):
    for loss in ("cross_entropy", "mam_softmax"):
      run = Run(loss, "full", 2e-3, seed)
      _report(tmp_path / run.folder, 0.5)
      for name in ("secondary.json", "sharpness.json"):
        values = {"angular_margin": math.nan, "sam": 0.1, "sam_at_target": math.nan}
        files.write_report(tmp_path / run.folder / name, values)
      # What the study finds again without the folders.
      _report(tmp_path / run._replace(stage="rates", seed=100).folder, 0.5)
      _report(tmp_path / run._replace(stage="screen", seed=101 + seed).folder, 0.5)
  settings = {"width": 0.125}
  before = loss_study_report.write_report(tmp_path, settings)
  assert re.search(
    r"SAM's sharpness \| mam_softmax \| 1.00 \[1.00, 1.00\] \| 2 \|", before
  )
  assert re.search(r"mam_softmax +\|.* nan \|", before)
  shutil.rmtree(tmp_path / "full")
  assert loss_study_report.write_report(tmp_path, settings) == before


def test_folders_tell_stage_loss_rate_and_seed():
  run = Run("mam_softmax+sce_loss", "full", 2e-3, 4)
  assert run.folder == pathlib.Path("full", "mam_softmax+sce_loss", "rate0.002-seed4")
