"""The leaderboards of FER-2013 and FER+: finished runs, and published claims."""

import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.config import stored
from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import statistics
from emosynth_jax.report import run_files
from emosynth_jax.training import build, eval_step
from emosynth_jax.utils import text_table
from emosynth_jax.workdir import metric_writer, own_parts, provenance, seed_summary
from experiments.lib import comparison_report
from experiments.lib.literature import Claim

RULES = """\
- The epoch and every setting are chosen on PublicTest or on Training; PrivateTest is
  read once. FER+ is judged by the majority of its votes.
- The report is written by `emosynth_jax.main`, from a commit of this repository, and
  says which form of the pixels was evaluated.
- One line is one configuration. Three seeds or more are listed before fewer.
- "Mirrored" is the mean over a face and its mirror image. "Deduplicated" leaves out the
  images with a near-duplicate in Training or PublicTest.
- Original and equalized pixels are two data sets, whose accuracies are never compared.
- A claim is listed as its authors print it, with the doubt named, and is not ranked.
"""


# The data sets that have a leaderboard.
TITLES = {"fer2013": "FER-2013", "fer_plus": "FER+, accuracy by majority"}
_IMAGE_SHAPE = (48, 48, 1)

# Accuracies in percent to which trainings are timed.
SPEEDRUN = (60, 65, 70)


class Entry(NamedTuple):
  """One configuration, trained with one or more seeds.

  Attributes:
    data_set: a key of `TITLES`.
    network: name and width.
    parameters: number of parameters.
    loss: name of the loss.
    labels: what FER+'s votes were turned into, and of how many classes; else "".
    form: of the pixels of the reported split.
    chosen_on: what chose the epoch.
    seeds: the seeds.
    accuracies: of the reported split, one a seed, in percent.
    mirrored: the same with the mirror image, or empty.
    deduplicated: the same without near-duplicates, or empty.
    commits: of the trainings.
    folder: of the first seed's run.
    num_classes: K.
  """

  data_set: str
  network: str
  parameters: int
  loss: str
  labels: str
  form: str
  chosen_on: str
  seeds: tuple[int, ...]
  accuracies: tuple[float, ...]
  mirrored: tuple[float, ...]
  deduplicated: tuple[float, ...]
  commits: tuple[str, ...]
  folder: pathlib.Path
  num_classes: int


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
  # Of each data set and form of the reported pixels, the folders and reports.
  by_form: dict[tuple[str, str], list[tuple[pathlib.Path, Mapping[str, Any]]]] = {}
  for folder in run_files.expand_workdirs(workdirs):
    report = run_files.read_run(folder).report
    if report["data_set"] not in TITLES:
      raise ValueError(
        f"{folder}: expected {' or '.join(TITLES)}, got {report['data_set']}"
      )
    if "test" not in report["splits"]:
      raise ValueError(f"{folder}: the run reports no test split")
    key = report["data_set"], _form(report)
    by_form.setdefault(key, []).append((folder, report))

  entries = []
  for runs in by_form.values():
    folders, reports = zip(*runs, strict=True)
    configs = [report["config"] for report in reports]
    for group in seed_summary.group_by_settings(configs, folders):
      ordered = sorted(group, key=lambda i: reports[i]["seed"])
      first = folders[ordered[0]]
      entries.append(_entry([reports[i] for i in ordered], first))
  return sorted(entries, key=lambda e: (len(e.seeds) < 3, -np.mean(e.accuracies)))


def _entry(reports: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> Entry:
  seeds = tuple(report["seed"] for report in reports)
  config = reports[0]["config"]
  width = config["model"].get("width")
  found = [seed_summary.figures_of(report["splits"]["test"]) for report in reports]

  def all_of(metric: str) -> tuple[float, ...]:
    if any(metric not in figures for figures in found):
      return ()
    return tuple(100 * figures[metric] for figures in found)

  is_flip = config["eval_augment"] == "flip"
  options = config["data"].get("options", {})
  labels = options.get("labels", "")
  num_classes = len(reports[0]["splits"]["test"]["class_names"])
  if labels:
    labels += f", {num_classes} classes"
  return Entry(
    data_set=reports[0]["data_set"],
    network=config["model"]["name"] + (f", width {width:g}" if width else ""),
    parameters=reports[0]["num_parameters"],
    loss=config["loss"]["name"],
    labels=labels,
    form=_form(reports[0]),
    chosen_on=reports[0]["chosen_on"],
    seeds=seeds,
    accuracies=all_of("accuracy"),
    mirrored=all_of("accuracy with test-time augmentation") if is_flip else (),
    deduplicated=all_of("deduplicated accuracy"),
    commits=tuple(
      dict.fromkeys(line["commit"][:7] for r in reports for line in r["trained_by"])
    ),
    folder=folder,
    num_classes=num_classes,
  )


def milliseconds(entry: Entry, *, calls: int = 100) -> float:
  """Times an entry's network on one face, with random weights.

  Args:
    entry: of `read_entries`.
    calls: number of timed calls, after five more.

  Returns:
    The median of the calls, from the image on the host to logits on the host.
  """
  config = own_parts.of_run(stored.read_config(entry.folder), entry.folder)
  experiment = build.build_experiment(
    config, image_shape=_IMAGE_SHAPE, num_classes=entry.num_classes
  )
  variables = build.create_state(experiment, seed=0).variables
  program = jax.jit(eval_step.logits_of(experiment))
  scale = jnp.float32(config.input.scale)
  image = np.random.default_rng(0).integers(0, 256, (1, *_IMAGE_SHAPE), np.uint8)

  times = []
  for _ in range(calls + 5):
    began = time.perf_counter()
    jax.device_get(program(variables, scale, image))
    times.append(time.perf_counter() - began)
  return 1000 * float(np.median(times[5:]))


def minutes_to(run: run_files.RunFiles, percent: float) -> str:
  """Time until a run had an accuracy on the split that chooses its epoch.

  Args:
    run: the run.
    percent: the accuracy.

  Returns:
    Minutes of the epochs up to the first with this accuracy, with compilation,
    validation and checkpoints; "not reached", or "not recorded" for a run whose epochs
    were not all timed, as one that was interrupted.
  """
  reached = [
    record["step"]
    for record in run.records
    if 100 * record.get("validation/accuracy", 0) >= percent
  ]
  if run.records and not reached:
    return "not reached"
  if run.seconds is None:
    return "not recorded"
  timing = metric_writer.read_records(run.workdir / "timing.jsonl")
  seconds = sum(line["seconds"] for line in timing if line["step"] <= reached[0])
  minutes = seconds / 60
  return f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def _form(report: Mapping[str, Any]) -> str:
  """The form of most of the reported images."""
  counts = (report.get("pixel_forms") or {}).get("test")
  return pixel_form.main_form(counts) or ("unknown" if counts else "not recorded")


def _cell(values: Sequence[float]) -> str:
  if not values:
    return "not run"
  return comparison_report.mean_text(statistics.mean_and_deviation(values))


def format_page(
  entries: Sequence[Entry],
  claims: Sequence[Claim],
  provenance: Mapping[str, Any],
  times: Sequence[float] = (),
) -> str:
  """Formats the page.

  Args:
    entries: of `read_entries`.
    claims: published results on FER-2013.
    provenance: of `provenance.provenance`, of the command that makes the page.
    times: of `milliseconds`, one an entry; without any the column says "not run".

  Returns:
    Markdown.
  """
  lines = [
    "# Leaderboard: PrivateTest of FER-2013 and FER+",
    "",
    "Accuracy in percent: mean ± standard deviation over seeds.",
    f"One face: {provenance['hardware']}, a single image in JAX, median.",
    f"Made by `{provenance['command']}`, commit {provenance['commit'][:7]}.",
    "",
  ]
  known: Sequence[float | None] = times or [None] * len(entries)
  timed = list(zip(entries, known, strict=True))
  for data_set, title in TITLES.items():
    own = [pair for pair in timed if pair[0].data_set == data_set]
    if own:
      lines += [f"## {title}, measured here", "", *_measured(own), ""]

  lines += _speedrun([entry for entry in entries if entry.data_set == "fer2013"])
  claimed = [
    (
      claim.method,
      f"{claim.accuracy:.2f}",
      claim.pretrained,
      claim.protocol,
      claim.caveats,
      _with_links(claim.source),
    )
    for claim in claims
  ]
  lines += [
    "## FER-2013, claimed elsewhere",
    "",
    *text_table.markdown(
      [("method", "claimed", "pretrained", "protocol", "caveats", "source"), *claimed],
      left=(0, 2, 3, 4, 5),
    ),
    "",
    "## Rules",
    "",
    RULES,
  ]
  return "\n".join(lines)


def _measured(timed: Sequence[tuple[Entry, float | None]]) -> list[str]:
  """The table of entries and their times, one data set's."""
  # Accuracies first: a phone shows the first columns.
  columns = ["network", "seeds", "plain", "mirrored", "deduplicated", "loss", "labels"]
  columns += ["parameters", "ms", "pixels", "chosen on", "commits"]
  rows = [columns]
  rows += [
    [
      entry.network,
      ", ".join(map(str, entry.seeds)),
      _cell(entry.accuracies),
      _cell(entry.mirrored),
      _cell(entry.deduplicated),
      entry.loss,
      entry.labels,
      f"{entry.parameters:,}",
      "not run" if taken is None else f"{taken:.1f}",
      entry.form,
      entry.chosen_on,
      ", ".join(entry.commits),
    ]
    for entry, taken in timed
  ]
  left = ["network", "seeds", "loss", "labels", "pixels", "chosen on", "commits"]
  if not any(entry.labels for entry, _ in timed):
    rows = [row[:6] + row[7:] for row in rows]
  return text_table.markdown(
    rows, left=[i for i, name in enumerate(rows[0]) if name in left]
  )


def _speedrun(entries: Sequence[Entry]) -> list[str]:
  """The times to accuracies on PublicTest, of each entry's first seed."""
  if not entries:
    return []
  columns = [f"{percent} %" for percent in SPEEDRUN]
  columns += ["loss", "pixels", "hardware", "commits"]
  rows: list[list[str]] = [["network", "seed", *columns]]
  for entry in entries:
    run = run_files.read_run(entry.folder)
    hardware = provenance.each_once(run.report["trained_by"], "hardware")
    times = [minutes_to(run, percent) for percent in SPEEDRUN]
    rows.append(
      [
        entry.network,
        str(entry.seeds[0]),
        *times,
        entry.loss,
        entry.form,
        "; ".join(hardware),
        ", ".join(entry.commits),
      ]
    )
  table = text_table.markdown(rows, left=(0, 1, 5, 6, 7, 8))
  return [
    "## Speedrun: minutes of training to an accuracy on PublicTest",
    "",
    *table,
    "",
  ]


def _with_links(source: str) -> str:
  """Links the paper and the code of a claim."""
  source = re.sub(r"arXiv:([\d.]+\d)", r"[arXiv](https://arxiv.org/abs/\1)", source)
  return re.sub(r"(?:https://)?(github\.com/[\w./-]*\w)", r"[code](https://\1)", source)
