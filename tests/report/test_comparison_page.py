"""Several runs: sorted into arms, paired by seed, on one page."""

import json

import html_rules
import jax
import made_up_run
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from emosynth_jax.metrics import classification
from emosynth_jax.report import comparison_page, config_groups, render, run_files

# Right answers of 100 test images, by seed.
_HITS = {
  "cross_entropy": {0: 60, 1: 66, 2: 63},
  "label_smoothing": {2: 70, 0: 64, 1: 67, 5: 90},
}


def _of(hits):
  """A summary of 100 images of which so many are right."""
  return made_up_run.summary([[hits - 40, 100 - hits, 0], [0, 20, 0], [0, 0, 20]])


def _write(folder):
  """Runs of both losses, in the order of `_HITS`."""
  runs = []
  for loss, seeds in _HITS.items():
    for seed, hits in seeds.items():
      workdir = folder / f"{loss}-{seed}"
      made_up_run.write_run(workdir, seed=seed, loss=loss, test=_of(hits))
      runs.append(run_files.read_run(workdir))
  return runs


def test_runs_that_differ_in_the_seed_alone_are_one_arm(tmp_path):
  first, second = config_groups.group(_write(tmp_path))
  assert [first.label, second.label] == list(_HITS)
  assert [run.report["seed"] for run in second.runs] == [2, 0, 1, 5]
  figure = first.summary["splits"]["test"]["figures"]["accuracy"]
  assert figure["mean"] == pytest.approx(0.63)
  assert figure["deviation"] == pytest.approx(0.03)


def test_differences_are_scipys_paired_test_of_the_common_seeds(tmp_path):
  (found,) = config_groups.differences(config_groups.group(_write(tmp_path)))
  assert found["label"] == "label_smoothing"
  assert found["seeds"] == [2, 0, 1]
  rows = {(row["split"], row["figure"]): row for row in found["rows"]}
  row = rows["test", "accuracy"]
  ours, theirs = np.array([70, 64, 67]) / 100, np.array([63, 60, 66]) / 100
  expected = scipy.stats.ttest_rel(ours, theirs)
  low, high = expected.confidence_interval(0.95)
  assert row["mean"] == pytest.approx(0.04)
  assert (row["low"], row["high"]) == pytest.approx((low, high))
  assert row["p_value"] == pytest.approx(expected.pvalue)
  # Ten tests on this page; those of validation, which is equal in all, have p = 1.
  assert len(rows) == 10
  assert rows["validation", "accuracy"]["p_value"] == 1
  tested = [r for r in found["rows"] if not np.isnan(r["p_value"])]
  smallest = min(tested, key=lambda r: r["p_value"])
  assert smallest["corrected"] == pytest.approx(
    min(1, len(tested) * smallest["p_value"])
  )


def test_without_a_common_seed_there_is_no_pair(tmp_path):
  made_up_run.write_run(tmp_path / "a", seed=0)
  made_up_run.write_run(tmp_path / "b", seed=1, loss="label_smoothing")
  runs = [run_files.read_run(tmp_path / name) for name in "ab"]
  assert config_groups.differences(config_groups.group(runs))[0]["rows"] == []
  html = comparison_page.build(runs, made_by=made_up_run.provenance())
  assert "No common seed" in html_rules.text_of(html_rules.check(html))


def test_other_images_are_refused_without_a_common_seed_too(tmp_path):
  made_up_run.write_run(tmp_path / "a", seed=0)
  made_up_run.write_run(tmp_path / "b", seed=1, loss="mse", data=8)
  runs = [run_files.read_run(tmp_path / name) for name in "ab"]
  with pytest.raises(ValueError, match=r"b was evaluated on other images of its val"):
    comparison_page.build(runs, made_by=made_up_run.provenance())


def test_what_differs_in_the_configs(tmp_path):
  changed = {"optimizer.learning_rate": 0.5, "data.data_dir": "elsewhere"}
  made_up_run.write_run(tmp_path / "a")
  made_up_run.write_run(tmp_path / "b", loss="label_smoothing", config=changed)
  groups = config_groups.group([run_files.read_run(tmp_path / name) for name in "ab"])
  different, shared = config_groups.config_differences(groups)
  # Where the data lies changes nothing.
  assert different == [
    ("loss.name", ["cross_entropy", "label_smoothing"]),
    ("optimizer.learning_rate", [0.001, 0.5]),
  ]
  assert ("batch_size", 64) in shared
  assert "optimizer.learning_rate" not in dict(shared)


@pytest.mark.parametrize(
  ("loss", "model", "expected"),
  [
    (("mse", "mae"), ("vgg19", "vgg19"), ["mse", "mae"]),
    (("mse", "mse"), ("vgg19", "resnet18"), ["vgg19", "resnet18"]),
    (("mse", "mse"), ("vgg19", "vgg19"), ["first", "second"]),
    (("mse", "mse"), ("vgg19", "vgg19"), ["a/run", "b/run"]),
  ],
)
def test_arms_are_called_by_what_tells_them_apart(tmp_path, loss, model, expected):
  names = expected if "a/run" in expected else ("first", "second")
  for i, name in enumerate(names):
    config = {"model.name": model[i], "batch_size": 32 * (i + 1)}
    made_up_run.write_run(tmp_path / name, loss=loss[i], config=config)
  runs = [run_files.read_run(tmp_path / name) for name in names]
  assert [arm.label for arm in config_groups.group(runs)] == expected


def test_what_can_not_be_compared_is_refused(tmp_path):
  made_up_run.write_run(tmp_path / "a")
  first = run_files.read_run(tmp_path / "a")

  def refused(message, name, **changes):
    made_up_run.write_run(tmp_path / name, **changes)
    with pytest.raises(ValueError, match=message):
      comparison_page.build(
        [first, run_files.read_run(tmp_path / name)], made_by=made_up_run.provenance()
      )

  refused("of mnist, .* of synthetic_faces", "mnist", data_set="mnist")
  refused("the seed 0 twice", "again")
  refused("other images of its validation split", "data", loss="mse", data=8)
  other = made_up_run.summary(np.eye(3, dtype=int), class_names=("a", "b", "c"))
  splits = {"validation": other, "test": other}
  refused("has the classes a, b, c", "classes", loss="mse", splits=splits)
  only = {"validation": first.report["splits"]["validation"]}
  refused("reports the split validation, .* test", "split", loss="mse", splits=only)
  made_up_run.write_run(tmp_path / "train", seed=1)
  data = json.loads((tmp_path / "train/data.json").read_text())
  made_up_run.write_json(tmp_path / "train/data.json", data | {"train": {"images": 8}})
  with pytest.raises(ValueError, match="trained on different data"):
    config_groups.group([first, run_files.read_run(tmp_path / "train")])
  made_up_run.write_run(tmp_path / "old", loss="mse")
  (tmp_path / "old/data.json").unlink()
  with pytest.raises(ValueError, match=r"old/data\.json is missing"):
    config_groups.group([first, run_files.read_run(tmp_path / "old")])


@jax.jit
def _statistics(logits, labels):
  return classification.batch_statistics(logits, labels, None, 3)


def test_seeds_together_are_all_their_answers(tmp_path):
  rng = np.random.default_rng(0)
  summaries, every = [], []
  for seed in (0, 1):
    logits = rng.normal(size=(50, 3)).astype(np.float32) * 3
    labels = rng.integers(0, 3, 50)
    every.append((logits, labels))
    statistics = _statistics(logits, labels)
    summaries.append(classification.summarize(statistics, made_up_run.CLASSES))
    made_up_run.write_run(tmp_path / str(seed), seed=seed, test=summaries[-1])
  (arm,) = config_groups.group([run_files.read_run(tmp_path / name) for name in "01"])
  found = comparison_page.pooled(arm, "test")
  logits, labels = (np.concatenate(part) for part in zip(*every, strict=True))
  expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1))
  np.testing.assert_array_equal(found["confusion_matrix"], expected)
  together = classification.summarize(_statistics(logits, labels), made_up_run.CLASSES)[
    "calibration"
  ]
  assert found["calibration"]["count"] == together["count"]
  for key in ("confidence", "accuracy"):
    for mine, theirs in zip(found["calibration"][key], together[key], strict=True):
      assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-5))


def test_the_page_says_all_of_it(tmp_path):
  html = comparison_page.build(_write(tmp_path), made_by=made_up_run.provenance())
  root = html_rules.check(html)
  text = html_rules.text_of(root.find("body"))
  head = html_rules.text_of(root.find("body/header"))
  assert "cross_entropy against label_smoothing" in head
  assert f"{render.percent(0.63)}" in "".join(root.find("body/header").itertext())
  assert "Paired by seeds 2, 0, 1" in text
  assert "loss.name" in text
  # Both arms' curves, a line for each seed.
  lines = [e.get("class") for e in root.iter("path") if "line s" in e.get("class", "")]
  assert lines.count("line s0") >= 4 * 3
  assert lines.count("line s1 dash") >= 4 * 4
  assert sum(e.get("class") == "confusion" for e in root.iter("table")) == 2
  assert "<i>&" in text
  assert "<b>sad</b>" in text


def test_seeds_alone_are_a_page_too(tmp_path):
  for seed in (0, 1):
    made_up_run.write_run(tmp_path / str(seed), seed=seed)
  runs = [run_files.read_run(tmp_path / name) for name in "01"]
  html = comparison_page.build(runs, made_by=made_up_run.provenance())
  text = html_rules.text_of(html_rules.check(html))
  assert "cross_entropy, 2 seeds" in text
  assert "The runs differ in the seed only." in text
  assert "Differences" not in text


def test_many_classes_scroll_inside_of_the_page(tmp_path):
  names = tuple(f"class {k}" for k in range(14))
  many = made_up_run.summary(np.eye(14, dtype=int), class_names=names)
  for loss in ("mse", "mae"):
    splits = {"validation": many, "test": many}
    made_up_run.write_run(tmp_path / loss, loss=loss, splits=splits)
  runs = [run_files.read_run(tmp_path / loss) for loss in ("mse", "mae")]
  root = html_rules.check(comparison_page.build(runs, made_by=made_up_run.provenance()))
  regions = [e for e in root.iter("div") if e.get("class") == "scroll"]
  inside = [table.get("class") for e in regions for table in e.findall("table")]
  assert inside.count("confusion many") == 2
