"""Protocol, caveats and omissions: each is there when it should be, and only then."""

import json

import html_rules
import made_up_run
import pytest
import scipy.stats

from emosynth_jax.config import defaults
from emosynth_jax.report import (
  data_section,
  loss_surface,
  run_files,
  run_page,
  run_summary,
)


def _run(folder, **changes):
  made_up_run.write_run(folder, **changes)
  return run_files.read_run(folder)


def test_the_headline_is_the_test_splits(tmp_path):
  head = run_summary.headline(_run(tmp_path))
  # 3 + 2 + 2 of 10.
  assert head["summary"]["accuracy"] == 0.7
  assert head["described"] == "test (PrivateTest)"
  assert not head["chosen_on"]
  expected = scipy.stats.binomtest(7, 10).proportion_ci(method="wilson")
  assert head["interval"] == pytest.approx((expected.low, expected.high))


def test_the_protocol_says_split_epoch_seed_and_loss(tmp_path):
  rows = dict(run_summary.protocol(_run(tmp_path, seed=3)))
  assert rows["Split"] == "test (PrivateTest), 10 images"
  assert rows["Epoch"] == "2 of 3, chosen by validation accuracy"
  assert rows["Seeds"] == "3 (one run)"
  assert rows["Network"] == "emosynthnet, 1,234 parameters"
  assert rows["Initialization"] == "random"
  assert "Limited to" not in rows
  config = {"init_from": "runs/other", "ema_decay": 0.9, "data.limit": 50}
  rows = dict(run_summary.protocol(_run(tmp_path / "b", config=config)))
  assert rows["Initialization"] == "runs/other"
  assert rows["Network"].endswith("averaged with decay 0.9")
  assert rows["Limited to"] == "50 images of each split"


def test_the_pixel_form_of_the_split_reported_is_said_where_it_is_known(tmp_path):
  run = _run(tmp_path)
  assert "Pixel form" not in dict(run_summary.protocol(run))
  assert data_section.forms(run) == []
  counts = {
    "validation": None,
    "test": {"original": 3574, "equalized": 15, "unknown": 0},
  }
  run = _run(tmp_path / "b", pixel_forms=counts)
  rows = dict(run_summary.protocol(run))
  assert rows["Pixel form"] == "3,574 original and 15 equalized"
  assert data_section.forms(run) == [("test", "3,574 original and 15 equalized")]
  # The other splits' are in the fingerprint.
  train = {"pixel_forms": {"original": 0, "equalized": 7, "unknown": 2}}
  run = run._replace(data={"train": train, "test": {}})
  assert data_section.forms(run) == [
    ("train", "7 equalized and 2 unknown"),
    ("test", "3,574 original and 15 equalized"),
  ]


def test_the_origin_is_that_of_the_training(tmp_path):
  two = [
    {"step": 0, **made_up_run.provenance("b" * 40)},
    {"step": 5, **made_up_run.provenance("c" * 40, hardware="Another CPU")},
  ]
  rows = dict(run_summary.origin(_run(tmp_path, trained_by=two)))
  assert rows["Commit"] == ["b" * 40, "c" * 40]
  assert rows["Hardware"] == "Some CPU, 2 cores, Another CPU"
  assert len(rows["Command"]) == 1
  rows = dict(run_summary.origin(_run(tmp_path / "b")))
  # Three epochs of 20.5 seconds.
  assert rows["Time"] == "0:01:02 for 3 epochs (wall clock)"
  rows = dict(run_summary.origin(_run(tmp_path / "c", trained_by=[])))
  assert rows["Commit"] == rows["Command"] == rows["Hardware"] == "not recorded"


def test_a_sound_run_has_one_seed_and_no_other_doubt(tmp_path):
  assert run_summary.caveats(_run(tmp_path)) == [run_summary.ONE_SEED]


def _failed():
  config = defaults.get_default_config().to_dict()
  return made_up_run.report_of(config)["batch_invariance"] | {"passed": False}


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"batch_invariance": _failed()}, "all metrics on this page are"),
    ({"epochs_trained": 2}, "before the end of training: 2 of 3 epochs"),
    ({"trained_by": []}, "are not recorded"),
    ({"evaluated_by": made_up_run.provenance("e" * 40)}, "code of another commit than"),
    ({"config": {"data.limit": 2000}}, "limited to 2,000 images"),
    (
      {"label_noise": "symmetric, 20 %"},
      "Labels of the training split were changed: s",
    ),
  ],
)
def test_each_doubt_has_its_reason(tmp_path, changes, expected):
  found = run_summary.caveats(_run(tmp_path, **changes))
  assert len(found) == 2
  assert expected in found[0]


@pytest.mark.parametrize(
  ("damage", "missing"),
  [
    (lambda lines: lines[:2], "3"),
    (lambda lines: [*lines[:2], lines[2][:20]], "3"),
    (lambda lines: lines[1:], "1"),
    (lambda lines: lines[1:2], "1, 3"),
    (lambda lines: [], "1 to 3"),
    (None, "1 to 3"),
  ],
  ids=["cut", "cut in a line", "first", "middle only", "emptied", "deleted"],
)
def test_epochs_without_a_record_are_named(tmp_path, damage, missing):
  run = _run(tmp_path)
  assert run.missing_epochs == ""
  path = tmp_path / "metrics.jsonl"
  if damage is None:
    path.unlink()
  else:
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
  run = run_files.read_run(tmp_path)
  assert run_summary.caveats(run)[0].startswith(
    f"metrics.jsonl has no record of epochs {missing}: curves"
  )
  # The epochs whose times are known are not all of them.
  assert run.seconds is None


def test_doubts_of_commits(tmp_path):
  def caveats(name, *commits):
    trained = [{"step": 0, **made_up_run.provenance(commit)} for commit in commits]
    run = _run(
      tmp_path / name,
      trained_by=trained,
      evaluated_by=made_up_run.provenance(commits[-1]),
    )
    return [
      sentence
      for sentence in run_summary.caveats(run)
      if sentence != run_summary.ONE_SEED
    ]

  assert [s for s in caveats("dirty", "a+dirty") if "+dirty" in s]
  assert caveats("unknown", "unknown") == ["Trained with code of an unknown commit."]
  assert "resumed with code of another commit" in caveats("two", "a", "b")[0]
  assert caveats("same", "a", "a") == []


def test_without_a_test_split_the_headline_was_chosen_on(tmp_path):
  report = made_up_run.write_run(tmp_path)
  del report["splits"]["test"]
  (tmp_path / "report.json").write_text(json.dumps(report))
  run = run_files.read_run(tmp_path)
  assert run_summary.headline(run)["chosen_on"]
  assert run_summary.caveats(run)[0].startswith(
    "There is no test split: the epoch was chosen"
  )


def test_a_missing_deduplicated_accuracy_is_a_doubt(tmp_path):
  report = made_up_run.write_run(tmp_path)
  audit = made_up_run.write_audit(tmp_path, report, elsewhere=4)
  run = run_files.read_run(tmp_path)
  assert (
    "4 images of this split have a near-duplicate"
    in run_summary.caveats(run, audit)[-1]
  )
  assert len(run_summary.caveats(run, None)) == 1
  made_up_run.write_audit(tmp_path, report, elsewhere=0)
  none = run_files.read_audit(tmp_path, run)
  assert len(run_summary.caveats(run, none)) == 1
  run.report["splits"]["test"]["deduplicated"] = {"accuracy": 0.6}
  assert len(run_summary.caveats(run, audit)) == 1


def test_what_was_not_run_is_said_until_it_was(tmp_path):
  run = _run(tmp_path)
  none = {"sanity": None, "deletion": None}
  titles = [
    title for title, _ in run_summary.not_run(run, None, network=False, checks=none)
  ]
  assert titles == [
    "Other seeds",
    "Deduplicated accuracy",
    "Audit of the data set",
    "Test-time augmentation",
    "Hardest images, Grad-CAM, embedding",
    "Loss landscape",
    "Curvature",
    "Curvature over the landscape",
    "Sanity check of Grad-CAM",
    "Deletion metric of Grad-CAM",
  ]
  settings = {
    "best_epoch": 2,
    "model": run.report["config"]["model"]["name"],
    "training_loss": run.report["config"]["loss"],
    "training_seed": 0,
    "num_images": 64,
    "official_split": "",
    "split": "train",
    "batch_norm": "running",
    "seed": 0,
  }
  for name in ("loss_landscape", "curvature", "curvature_map"):
    made_up_run.write_json(tmp_path / f"{name}.json", {"settings": settings})
  run.report["splits"]["test"] |= {
    "deduplicated": None,
    "test_time_augmentation": {"accuracy": 0.5},
  }
  both = {"sanity": {"rows": []}, "deletion": {"rows": []}}
  _, _, surfaces = loss_surface.stored_plots(run)
  found = run_summary.not_run(
    run, {"any": "audit"}, network=True, checks=both, surfaces=surfaces
  )
  assert [title for title, _ in found] == ["Other seeds"]


def test_an_epoch_without_validation_has_empty_cells_on_the_page(tmp_path):
  run = _run(tmp_path, config={"evaluate_every": 2})
  first = run.records[0]
  for name in ("validation/loss", "validation/accuracy"):
    del first[name]
  html = run_page.build(
    run, audit=None, answered=None, options=None, made_by=made_up_run.provenance()
  )
  page = html_rules.check(html)
  rows = [[html_rules.text_of(cell) for cell in row] for row in page.iter("tr")]
  assert ["1", "1.0000", "", "20.00 %", "", "1.00e-03"] in rows
  assert ["2", "0.5000", "0.7500", "40.00 %", "50.00 %", "1.00e-03"] in rows
  assert [title for title, _ in run_page.training_curves(run)][:2] == [
    "Loss",
    "Accuracy (%)",
  ]


def test_votes_of_raters_and_label_noise_are_on_the_page(tmp_path):
  noise = "training only, symmetric, 20 %, seed 0: 4 of 20 labels changed"
  votes = {
    "expected_accuracy": 0.61,
    "highest_expected_accuracy": 0.875,
    "rater_agreement": None,
    "kl_divergence": 0.25,
    "num_votes": 1200,
  }
  test = made_up_run.summary([[3, 1, 0], [0, 2, 1], [1, 0, 2]]) | {"votes": votes}
  run = _run(tmp_path, test=test, label_noise=noise)
  assert dict(run_summary.protocol(run))["Label noise"] == noise
  html = run_page.build(
    run, audit=None, answered=None, options=None, made_by=made_up_run.provenance()
  )
  page = html_rules.check(html)
  rows = [[html_rules.text_of(cell) for cell in row] for row in page.iter("tr")]
  # Of validation, which has no votes, and of test.
  for row in (
    ["expected accuracy", "\u2013", "61.00 %"],
    ["highest possible", "\u2013", "87.50 %"],
    ["agreement of two raters", "\u2013", "\u2013"],
    ["KL divergence from the votes", "\u2013", "0.2500"],
    ["votes", "\u2013", "1,200"],
    ["Epoch", "selected, 2", "last, 3"],
    ["train loss", "0.5000", "0.3333"],
  ):
    assert row in rows, row
