"""Groups runs into arms: the seeds of one config each."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emosynth_jax.data import fingerprints
from emosynth_jax.metrics import statistics
from emosynth_jax.report.run_files import RunFiles
from emosynth_jax.workdir import seed_summary

# Metrics that are tested; the others are only in the table.
TESTED = ("accuracy", "balanced accuracy", "macro F1", "calibration error", "loss")


class Arm(NamedTuple):
  """The seeds of one config.

  Attributes:
    label: label that distinguishes it from the other arms.
    runs: one per seed.
    summary: of `seed_summary.summarize`.
  """

  label: str
  runs: list[RunFiles]
  summary: dict[str, Any]


def group(runs: Sequence[RunFiles]) -> list[Arm]:
  """Groups runs into arms, in the order of their first runs.

  Args:
    runs: at least two.

  Returns:
    The arms.

  Raises:
    ValueError: if the runs are of several data sets, have other classes or were
      evaluated on other images, if an arm has a seed twice or seeds with other training
      data, or if a run's training data is unknown.
  """
  first = runs[0]
  for run in runs:
    if run.data is None:
      raise ValueError(
        f"{run.workdir / 'data.json'} is missing: cannot verify that {run.workdir} "
        "and the other runs were trained on the same data"
      )
    if run.report["data_set"] != first.report["data_set"]:
      raise ValueError(
        f"{run.workdir} is of {run.report['data_set']}, {first.workdir} of "
        f"{first.report['data_set']}: results on different data sets are not "
        "comparable"
      )

    names = [_class_names(one) for one in (run, first)]
    if names[0] != names[1]:
      raise ValueError(
        f"{run.workdir} has the classes {', '.join(names[0])}, {first.workdir} has "
        f"{', '.join(names[1])}"
      )

    for split in first.report["splits"]:
      if split in run.report["splits"] and _has_other_images(run, first, split):
        raise ValueError(
          f"{run.workdir} was evaluated on other images of its {split} split than "
          f"{first.workdir}: their results are not comparable"
        )

  groups = seed_summary.group_by_settings(
    [run.report["config"] for run in runs], [run.workdir for run in runs]
  )
  sorted_runs = [[runs[i] for i in own] for own in groups]
  return [
    Arm(
      label,
      own,
      seed_summary.summarize([run.report for run in own], [run.workdir for run in own]),
    )
    for label, own in zip(_labels(sorted_runs), sorted_runs, strict=True)
  ]


def differences(arms: Sequence[Arm]) -> list[dict[str, Any]]:
  """Differences of each arm from the first one, paired by seed.

  Args:
    arms: at least two.

  Returns:
    For each arm but the first: "label", "seeds" (common ones, may be none) and
    "rows", for each split and metric tested "split", "figure", "mean", "low", "high",
    "p_value" (None for one pair) and "corrected", the p-value corrected by Holm's
    method for all tests here.

  Raises:
    ValueError: if the evaluated splits differ in their images.
  """
  found = []
  for arm in arms[1:]:
    rows: list[dict[str, Any]] = []
    common = [s for s in arm.summary["seeds"] if s in arms[0].summary["seeds"]]
    if common:
      compared = seed_summary.compare(arm.summary, arms[0].summary)
      rows = [
        {"split": split, "figure": figure, **difference}
        for split, figures in compared["splits"].items()
        for figure, difference in figures.items()
        if figure in TESTED
      ]
    found.append({"label": arm.label, "seeds": common, "rows": rows})

  every = [row for difference in found for row in difference["rows"]]
  p_values = [
    float("nan") if row["p_value"] is None else row["p_value"] for row in every
  ]
  for row, corrected in zip(every, statistics.holm(p_values), strict=True):
    row["corrected"] = corrected
  return found


def config_differences(
  arms: Sequence[Arm],
) -> tuple[list[tuple[str, list[Any]]], list[tuple[str, Any]]]:
  """Separates the settings in which the arms differ from the common ones.

  Args:
    arms: at least one.

  Returns:
    Path and each arm's value (None where it has no such setting); path and value.
  """
  flat = [seed_summary.settings_of(arm.summary["config"]) for arm in arms]
  paths = sorted(set().union(*flat))
  different, shared = [], []
  for path in paths:
    values = [settings.get(path) for settings in flat]
    if all(value == values[0] for value in values):
      shared.append((path, values[0]))
    else:
      different.append((path, values))

  return different, shared


def _has_other_images(run: RunFiles, first: RunFiles, split: str) -> bool:
  ours, others = ((one.data or {}).get(split) for one in (run, first))
  if ours is None or others is None:
    return True
  return bool(fingerprints.different_data(ours, others))


def _class_names(run: RunFiles) -> list[str]:
  return next(iter(run.report["splits"].values()))["class_names"]


def _labels(members: Sequence[Sequence[RunFiles]]) -> list[str]:
  """The shortest labels that distinguish the arms."""
  configs = [own[0].report["config"] for own in members]
  folders = [own[0].workdir for own in members]
  common = os.path.commonpath([str(folder.resolve()) for folder in folders])
  candidates = [
    [config["loss"]["name"] for config in configs],
    [config["model"]["name"] for config in configs],
    [f"{c['model']['name']}, {c['loss']['name']}" for c in configs],
    [folder.name for folder in folders],
    [os.path.relpath(folder.resolve(), common) for folder in folders],
  ]
  return next(names for names in candidates if len(set(names)) == len(names))


def figure_labels(arms: Sequence[Arm], split: str) -> list[str]:
  """The metrics that any arm has of a split, in the order of reports."""
  found: dict[str, None] = {}
  for arm in arms:
    figures: Mapping[str, Any] = arm.summary["splits"].get(split, {}).get("figures", {})
    found |= dict.fromkeys(figures)
  return list(found)
