"""Context of a result: protocol, provenance, caveats, omissions."""

import functools
from collections.abc import Collection, Mapping
from typing import Any

import ml_collections
import numpy as np

from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import batch_invariance, statistics
from emosynth_jax.metrics.table import describe_split
from emosynth_jax.report.run_files import RunFiles
from emosynth_jax.training import epoch
from emosynth_jax.utils import progress
from emosynth_jax.workdir import provenance

ONE_SEED = "One seed: the variation over seeds is unknown."
_NOT_RECORDED = "not recorded"


def headline(run: RunFiles) -> dict[str, Any]:
  """The headline result of a report.

  Args:
    run: the run.

  Returns:
    "split" (its name), "described" (its name in reports), "summary" (see
    `classification.summarize`), "interval" (of the accuracy, over samples of images),
    and "chosen_on" (whether the epoch was selected on this split).
  """
  name = run.reported_split
  summary = run.report["splits"][name]
  hits = int(np.trace(np.asarray(summary["confusion_matrix"])))
  return {
    "split": name,
    "described": described(run.report, name),
    "summary": summary,
    "interval": statistics.proportion_interval(hits, summary["num_examples"]),
    "chosen_on": name == "validation",
  }


def described(report: Mapping[str, Any], split: str) -> str:
  """A split as `table.describe_split` names it."""
  return describe_split(split, report["official_splits"].get(split, ""))


def protocol(run: RunFiles) -> list[tuple[str, str]]:
  """Protocol: data, split, epoch selection, network, loss, as label and value."""
  report = run.report
  config = report["config"]
  name = run.reported_split
  averaged = config["ema_decay"]
  started = config["init_from"] or config["pretrained"]["file"]
  rows = [
    ("Data set", report["data_set"]),
    (
      "Split",
      f"{described(report, name)}, {report['splits'][name]['num_examples']:,} images",
    ),
    (
      "Epoch",
      f"{report['best_epoch']} of {report['epochs_trained']}, chosen by "
      f"{report['chosen_on']}",
    ),
    ("Seeds", f"{report['seed']} (one run)"),
    (
      "Network",
      f"{config['model']['name']}, {report['num_parameters']:,} parameters"
      + (f", averaged with decay {averaged}" if averaged else ""),
    ),
    ("Loss", config["loss"]["name"]),
    ("Initialization", started or "random"),
  ]

  if noise := report.get("label_noise"):
    rows.insert(2, ("Label noise", noise))

  # Reports of earlier runs do not include the form.
  if counts := report.get("pixel_forms", {}).get(name):
    rows.insert(2, ("Pixel form", pixel_form.describe_counts(counts)))
  if config["data"]["limit"]:
    rows.insert(1, ("Limited to", f"{config['data']['limit']:,} images of each split"))

  return rows


def origin(run: RunFiles) -> list[tuple[str, Any]]:
  """Provenance of training and evaluation: label and value, or values."""
  trained, evaluated = run.report["trained_by"], run.report["evaluated_by"]
  each = functools.partial(provenance.each_once, trained)
  time = _NOT_RECORDED
  if run.seconds is not None:
    time = f"{progress.clock(run.seconds)} for {len(run.records)} epochs (wall clock)"
  packages = (trained or [evaluated])[-1]["packages"]
  return [
    ("Command", each("command") or _NOT_RECORDED),
    ("Commit", each("commit") or _NOT_RECORDED),
    ("Evaluation commit", [evaluated["commit"]]),
    ("Hardware", ", ".join(each("hardware")) or _NOT_RECORDED),
    ("Time", time),
    ("Started", ", ".join(each("date")) or _NOT_RECORDED),
    ("Versions", ", ".join(f"{name} {number}" for name, number in packages.items())),
    ("Batch invariance", batch_invariance.describe(run.report["batch_invariance"])),
  ]


def caveats(run: RunFiles, audit: Mapping[str, Any] | None = None) -> list[str]:
  """Caveats of the result, in sentences.

  Args:
    run: the run.
    audit: of its data set, if there is one.

  Returns:
    Sentences, the most serious first.
  """
  report = run.report
  config = ml_collections.ConfigDict(report["config"])
  found = []
  if not report["batch_invariance"]["passed"]:
    found.append(
      "An image's prediction depends on the other images of its batch: all metrics on "
      "this page are invalid."
    )

  if run.reported_split == "validation":
    found.append(
      "There is no test split: the epoch was chosen on the reported split, so its "
      "accuracy is biased upward."
    )

  if not epoch.is_last(report["epochs_trained"], report["best_epoch"], config):
    found.append(
      f"The run was evaluated before the end of training: {report['epochs_trained']} "
      f"of {config.num_epochs} epochs."
    )

  if run.missing_epochs:
    found.append(
      f"metrics.jsonl has no record of epochs {run.missing_epochs}: curves and the "
      "values by epoch omit them."
    )

  found += _caveats_of_origin(run)
  if config.data.limit:
    found.append(
      f"Each split was limited to {config.data.limit:,} images: these are not "
      "results on the whole data set."
    )

  if noise := report.get("label_noise"):
    found.append(f"Labels of the training split were changed: {noise}.")

  found.append(ONE_SEED)
  duplicated = _near_duplicates_elsewhere(run, audit)
  if "deduplicated" not in report["splits"][run.reported_split] and duplicated:
    found.append(
      f"{duplicated:,} images of this split have a near-duplicate in another "
      "split; the deduplicated accuracy was not computed."
    )

  return found


def not_run(
  run: RunFiles,
  audit: Mapping[str, Any] | None,
  *,
  network: bool,
  checks: Mapping[str, Any],
  surfaces: Collection[str] = (),
) -> list[tuple[str, str]]:
  """Analyses that were not computed: name and command.

  Args:
    run: the run.
    audit: of its data set, if there is one.
    network: whether the network was run for the page.
    checks: of `saliency_checks.map_checks`, those of the reported epoch.
    surfaces: the names of `loss_surface.stored_plots`.

  Returns:
    Pairs of texts; the second may be "".
  """
  summary = run.report["splits"][run.reported_split]
  at = f"--workdir={run.workdir}"
  again = f"python -m emosynth_jax.main --mode=eval {at}"
  analysis = "python -m emosynth_jax.analysis"

  commands = (
    ("Other seeds", "The run's command with --seeds=0,1,2", False),
    (
      "Deduplicated accuracy",
      f"{again} --config.evaluate_deduplicated=True",
      "deduplicated" in summary,
    ),
    (
      "Audit of the data set",
      f"python -m emosynth_jax.audit --config=... {at}",
      audit is not None,
    ),
    (
      "Test-time augmentation",
      f"{again} --config.eval_augment=flip",
      "test_time_augmentation" in summary,
    ),
    (
      "Hardest images, Grad-CAM, embedding",
      "This page's command without --noimages",
      network,
    ),
    ("Loss landscape", f"{analysis}.loss_landscape {at}", "loss_landscape" in surfaces),
    ("Curvature", f"{analysis}.curvature {at}", "curvature" in surfaces),
    (
      "Curvature over the landscape",
      f"{analysis}.curvature {at} --grid=21",
      "curvature_map" in surfaces,
    ),
    (
      "Sanity check of Grad-CAM",
      f"{analysis}.gradcam {at} --sanity_check",
      checks["sanity"] is not None,
    ),
    (
      "Deletion metric of Grad-CAM",
      f"{analysis}.deletion {at}",
      checks["deletion"] is not None,
    ),
  )
  return [(title, command) for title, command, is_done in commands if not is_done]


def _caveats_of_origin(run: RunFiles) -> list[str]:
  trained, evaluated = run.report["trained_by"], run.report["evaluated_by"]
  commits = [line["commit"] for line in trained]
  found = []
  if not trained:
    found.append("The commit and hardware of the training are not recorded.")
  dirty = sorted({commit for commit in commits if commit.endswith("+dirty")})

  if dirty:
    found.append(
      "Trained with uncommitted changes (+dirty): the commit does not identify the "
      "code."
    )

  if "unknown" in commits:
    found.append("Trained with code of an unknown commit.")
  if len(set(commits)) > 1:
    found.append("The training was resumed with code of another commit.")
  if trained and evaluated["commit"] not in commits:
    found.append("Evaluated with code of another commit than trained.")
  return found


def _near_duplicates_elsewhere(run: RunFiles, audit: Mapping[str, Any] | None) -> int:
  if audit is None:
    return 0
  return audit["splits"][run.reported_split]["images_with_near_duplicate"]["elsewhere"]
