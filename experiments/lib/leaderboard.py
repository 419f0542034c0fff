"""The leaderboard of FER-2013: entries of finished runs, and published claims."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emosynth_jax.config import renamed
from emosynth_jax.metrics import statistics
from emosynth_jax.report import run_files
from emosynth_jax.utils import text_table
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import report_fields, seed_summary
from experiments.lib import comparison_report
from experiments.lib.literature import Claim

RULES = """\
- The epoch and every setting are chosen on PublicTest or on Training; PrivateTest is
  read once.
- The report is written by `emosynth_jax.main`, from a commit of this repository, and
  says which form of the pixels was evaluated.
- One line is one configuration. Three seeds or more are listed before fewer.
- "Mirrored" is the mean over a face and its mirror image. "Deduplicated" leaves out the
  images with a near-duplicate in Training or PublicTest.
- Original and equalized pixels are two data sets, whose accuracies are never compared.
- A claim is listed as its authors print it, with the doubt named, and is not ranked.
"""


class Entry(NamedTuple):
  """One configuration, trained with one or more seeds.

  Attributes:
    network: name and width.
    parameters: number of parameters.
    loss: name of the loss.
    form: of the pixels of the reported split.
    chosen_on: what chose the epoch.
    seeds: the seeds.
    accuracies: of the reported split, one a seed, in percent.
    mirrored: the same with the mirror image, or empty.
    deduplicated: the same without near-duplicates, or empty.
    commits: of the trainings.
  """

  network: str
  parameters: int
  loss: str
  form: str
  chosen_on: str
  seeds: tuple[int, ...]
  accuracies: tuple[float, ...]
  mirrored: tuple[float, ...]
  deduplicated: tuple[float, ...]
  commits: tuple[str, ...]


def read_entries(workdirs: Sequence[str]) -> list[Entry]:
  """Reads runs and groups those that differ in their seed alone.

  Args:
    workdirs: folders of runs, or with a seeds.json.

  Returns:
    The entries, the best mean accuracy first; those of three seeds or more first.

  Raises:
    FileNotFoundError, ValueError: for a folder without a finished run, or a run of
      another data set or without a test split.
  """
  # Of each form of the reported pixels, the folders and reports.
  by_form: dict[str, list[tuple[pathlib.Path, Mapping[str, Any]]]] = {}
  for folder in run_files.expand_workdirs(workdirs):
    report = _read_report(folder)
    if report["data_set"] != "fer2013":
      raise ValueError(f"{folder}: expected FER-2013, got {report['data_set']}")
    if "test" not in report["splits"]:
      raise ValueError(f"{folder}: the run reports no test split")
    by_form.setdefault(_form(report), []).append((folder, report))

  entries = []
  for runs in by_form.values():
    folders, reports = zip(*runs, strict=True)
    configs = [report["config"] for report in reports]
    for group in seed_summary.group_by_settings(configs, folders):
      seeds = sorted((reports[i] for i in group), key=lambda r: r["seed"])
      entries.append(_entry(seeds))
  return sorted(entries, key=lambda e: (len(e.seeds) < 3, -_mean(e.accuracies)))


def _read_report(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / "report.json"
  if not path.is_file():
    raise FileNotFoundError(f"{path} is missing: the run is not finished")
  report = renamed.with_new_names(read_json(path))
  report_fields.check_report(report, f"{path} is damaged")
  return report


def _entry(reports: Sequence[Mapping[str, Any]]) -> Entry:
  seeds = tuple(report["seed"] for report in reports)
  config = reports[0]["config"]
  width = config["model"].get("width")
  found = [seed_summary.figures_of(report["splits"]["test"]) for report in reports]

  def all_of(metric: str) -> tuple[float, ...]:
    if any(metric not in figures for figures in found):
      return ()
    return tuple(100 * figures[metric] for figures in found)

  is_flip = config["eval_augment"] == "flip"
  return Entry(
    network=config["model"]["name"] + (f", width {width:g}" if width else ""),
    parameters=reports[0]["num_parameters"],
    loss=config["loss"]["name"],
    form=_form(reports[0]),
    chosen_on=reports[0]["chosen_on"],
    seeds=seeds,
    accuracies=all_of("accuracy"),
    mirrored=all_of("accuracy with test-time augmentation") if is_flip else (),
    deduplicated=all_of("deduplicated accuracy"),
    commits=tuple(
      dict.fromkeys(line["commit"][:7] for r in reports for line in r["trained_by"])
    ),
  )


def _form(report: Mapping[str, Any]) -> str:
  """The form of most of the reported images."""
  counts = (report.get("pixel_forms") or {}).get("test")
  if not counts:
    return "not recorded"
  return max(counts, key=lambda form: counts[form])


def _mean(values: Sequence[float]) -> float:
  return statistics.mean_and_deviation(values)[0] if values else float("-inf")


def _cell(values: Sequence[float]) -> str:
  if not values:
    return "not run"
  return comparison_report.mean_text(statistics.mean_and_deviation(values))


def format_page(
  entries: Sequence[Entry], claims: Sequence[Claim], provenance: Mapping[str, Any]
) -> str:
  """Formats the page.

  Args:
    entries: of `read_entries`.
    claims: published results.
    provenance: of `provenance.provenance`, of the command that makes the page.

  Returns:
    Markdown.
  """
  header = ("network", "parameters", "loss", "pixels", "chosen on", "seeds", "plain")
  measured = [
    (
      entry.network,
      f"{entry.parameters:,}",
      entry.loss,
      entry.form,
      entry.chosen_on,
      ", ".join(map(str, entry.seeds)),
      _cell(entry.accuracies),
      _cell(entry.mirrored),
      _cell(entry.deduplicated),
      ", ".join(entry.commits),
    )
    for entry in entries
  ]
  claimed = [
    (
      claim.method,
      claim.source,
      f"{claim.accuracy:.2f}",
      claim.protocol,
      claim.pretrained,
      claim.caveats,
    )
    for claim in claims
  ]
  return "\n".join(
    [
      "# Leaderboard: FER-2013, PrivateTest",
      "",
      "Accuracy in percent on all 3,589 images: mean ± standard deviation over seeds.",
      f"Made by `{provenance['command']}`, commit {provenance['commit'][:7]}.",
      "",
      "## Measured here",
      "",
      *text_table.markdown(
        [(*header, "mirrored", "deduplicated", "commits"), *measured],
        left=(0, 2, 3, 4, 5, 9),
      ),
      "",
      "## Claimed elsewhere",
      "",
      *text_table.markdown(
        [
          ("method", "source", "claimed", "protocol", "pretrained", "caveats"),
          *claimed,
        ],
        left=(0, 1, 3, 4, 5),
      ),
      "",
      "## Rules",
      "",
      RULES,
    ]
  )
