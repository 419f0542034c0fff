"""The leaderboards of FER-2013 and FER+: finished runs, and published claims."""

import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emosynth_jax.config import stored
from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import statistics
from emosynth_jax.report import render, run_files
from emosynth_jax.training import build, epoch, eval_step
from emosynth_jax.utils import text_table
from emosynth_jax.utils.json_files import check_fields, read_json
from emosynth_jax.workdir import metric_writer, own_parts, provenance, seed_summary
from experiments.lib import comparison_report
from experiments.lib.literature import Claim

RULES = """\
- The epoch and every setting are chosen on PublicTest or on Training, and nothing on
  PrivateTest. A run that was evaluated on it before its end says so. FER+ is judged by
  the majority of its votes.
- All images of PrivateTest, and labels as they are: no `data.limit`, no
  `data.label_noise`, no other protocol. Training may leave images out.
- The report is written by `emosynth_jax.main`, from a commit of this repository, and
  says which form of the pixels was evaluated.
- One line is one configuration. Three seeds or more are listed before fewer.
- "Mirrored" is the mean over a face and its mirror image. "Deduplicated" leaves out the
  images with a near-duplicate in Training or PublicTest.
- Original and equalized pixels are two data sets, and so are FER+'s seven and eight
  classes: their accuracies are never compared.
- A published claim is listed as its authors print it, with its caveats, and is not
  ranked.
- To add a run: `python -m experiments.leaderboard --workdirs=RUN
  --output=docs/results/leaderboard.md`, and a pull request with the page,
  leaderboard.json and the run's report.json.
"""


# The data sets that have a leaderboard.
TITLES = {"fer2013": "FER-2013", "fer_plus": "FER+, accuracy by majority"}
_IMAGE_SHAPE = (48, 48, 1)

# Accuracies in percent to which trainings are timed.
SPEEDRUN = (60, 65, 70)


_PART = {"name": str}
# Fields of a run's record in the file of runs; "mirrored" and "deduplicated" may lack.
_RECORD = {
  "data_set": tuple(TITLES),
  "config": {"seed": int, "model": _PART, "loss": _PART, "data": dict},
  "parameters": int,
  "num_classes": int,
  "form": str,
  "chosen_on": str,
  "accuracy": float,
  "commits": [str],
  "hardware": [str],
  "minutes": dict.fromkeys(map(str, SPEEDRUN), str),
}


class Entry(NamedTuple):
  """One configuration, trained with one or more seeds.

  Attributes:
    data_set: a key of `TITLES`.
    network: name and width.
    parameters: number of parameters.
    loss: name of the loss, and whether it is of soft labels.
    start: "random", or what the training started from.
    labels: what FER+'s votes were turned into; else "".
    form: of the pixels of the reported split.
    chosen_on: what chose the epoch.
    seeds: the seeds.
    accuracies: of the reported split, one a seed, in percent.
    mirrored: the same with the mirror image, or empty.
    deduplicated: the same without near-duplicates, or empty.
    commits: of the trainings.
    first: the first seed's record.
  """

  data_set: str
  network: str
  parameters: int
  loss: str
  start: str
  labels: str
  form: str
  chosen_on: str
  seeds: tuple[int, ...]
  accuracies: tuple[float, ...]
  mirrored: tuple[float, ...]
  deduplicated: tuple[float, ...]
  commits: tuple[str, ...]
  first: Mapping[str, Any]


def read_runs(workdirs: Sequence[str]) -> list[dict[str, Any]]:
  """Reads what the page needs of finished runs.

  Args:
    workdirs: folders of runs, or with a seeds.json.

  Returns:
    A record of JSON values for each run.

  Raises:
    FileNotFoundError, ValueError: for a folder without a finished run, a run that was
      evaluated before its end, of another data set, with images or labels left out or
      changed, or without PrivateTest.
  """
  records = []
  for folder in run_files.expand_workdirs(workdirs):
    run = run_files.read_run(folder)
    report = run.report
    if report["data_set"] not in TITLES:
      raise ValueError(
        f"{folder}: expected {' or '.join(TITLES)}, got {report['data_set']}"
      )
    _check_images(folder, report)

    test, config = report["splits"]["test"], report["config"]
    trained, settings = report["epochs_trained"], ml_collections.ConfigDict(config)
    if not epoch.is_last(trained, report["best_epoch"], settings):
      raise ValueError(
        f"{folder}: evaluated after {trained} of {config['num_epochs']} epochs; finish "
        "its training"
      )
    metrics = seed_summary.metrics_of(test)
    counts = (report.get("pixel_forms") or {}).get("test")
    unknown = "unknown" if counts else "not recorded"
    record = {
      "data_set": report["data_set"],
      "config": config,
      "parameters": report["num_parameters"],
      "num_classes": len(test["class_names"]),
      "form": pixel_form.main_form(counts) or unknown,
      "chosen_on": report["chosen_on"],
      "accuracy": metrics["accuracy"],
      "commits": provenance.each_once(report["trained_by"], "commit"),
      "hardware": provenance.each_once(report["trained_by"], "hardware"),
      "minutes": {f"{percent}": minutes_to(run, percent) for percent in SPEEDRUN},
    }
    mirrored = metrics.get("accuracy with test-time augmentation")
    if config["eval_augment"] == "flip" and mirrored is not None:
      record["mirrored"] = mirrored
    if (deduplicated := metrics.get("deduplicated accuracy")) is not None:
      record["deduplicated"] = deduplicated
    records.append(record)

  # Refuses a seed that is given twice.
  _group(records)
  return records


def _check_images(folder: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
  """Checks that all of PrivateTest was evaluated, and no label was changed."""
  if "test" not in report["splits"]:
    raise ValueError(f"{folder}: the run reports no test split")

  data = report["config"]["data"]
  noise = data.get("label_noise", {})
  changed = {
    "data.limit": data.get("limit"),
    "data.label_noise": noise.get("rate") or noise.get("confusion"),
  }
  if settings := [setting for setting, value in changed.items() if value]:
    raise ValueError(
      f"{folder}: trained with config.{settings[0]}, not on the data as it is"
    )

  # FER+'s has the number of its images behind the name.
  split = report["official_splits"]["test"]
  if split.partition(",")[0] != "PrivateTest":
    raise ValueError(f"{folder}: expected a report on PrivateTest, got {split!r}")


def read_known(path: pathlib.Path) -> tuple[list[dict[str, Any]], str]:
  """Reads the file of runs that the page was made from.

  Returns:
    The records, and the notes that stand above the tables; none without the file.

  Raises:
    ValueError: if it is damaged.
  """
  if not path.is_file():
    return [], ""
  content = read_json(path, {"notes": str, "runs": [_RECORD]})
  for record in content["runs"]:
    record["config"] = run_files.complete_config(record["config"])
    optional = record.keys() & {"mirrored", "deduplicated"}
    check_fields(record, f"{path} is damaged", dict.fromkeys(optional, float))
  return content["runs"], content["notes"]


def merge(
  known: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
  """Adds records to those that are known, in place of those of equal settings and seed.

  Args:
    known: of `read_known`.
    new: of `read_runs`.

  Returns:
    The records.
  """

  def key(record: Mapping[str, Any]) -> tuple[str, ...]:
    settings = seed_summary.settings_of(record["config"])
    return record["data_set"], record["form"], repr(sorted(settings.items()))

  return list({key(record): record for record in (*known, *new)}.values())


def _group(records: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
  """Groups runs that differ in their seed alone, each in the order of its seeds."""
  # Accuracies on different pixels are of different data sets.
  by_form: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for record in records:
    by_form.setdefault((record["data_set"], record["form"]), []).append(record)

  groups = []
  for runs in by_form.values():
    configs = [run["config"] for run in runs]
    names = [f"run {i} of {run['data_set']}" for i, run in enumerate(runs)]
    for group in seed_summary.group_by_settings(configs, names):
      groups.append(sorted((runs[i] for i in group), key=_seed))
  return groups


def _seed(record: Mapping[str, Any]) -> int:
  return record["config"]["seed"]


def entries_of(records: Sequence[Mapping[str, Any]]) -> list[Entry]:
  """Groups runs that differ in their seed alone.

  Args:
    records: of `read_runs`.

  Returns:
    The entries, the best mean accuracy first; those of three seeds or more first.
  """
  entries = map(_entry, _group(records))
  return sorted(entries, key=lambda e: (len(e.seeds) < 3, -np.mean(e.accuracies)))


def _entry(records: Sequence[Mapping[str, Any]]) -> Entry:
  first = records[0]
  config = first["config"]
  width = config["model"].get("width")

  def all_of(metric: str) -> tuple[float, ...]:
    if any(metric not in record for record in records):
      return ()
    return tuple(100 * record[metric] for record in records)

  taught = " on soft labels" if config["data"].get("soft_labels") else ""
  commits = [render.commit(text, 7) for record in records for text in record["commits"]]
  return Entry(
    data_set=first["data_set"],
    network=config["model"]["name"] + (f", width {width:g}" if width else ""),
    parameters=first["parameters"],
    loss=config["loss"]["name"] + taught,
    start=_start(config),
    labels=config["data"].get("options", {}).get("labels", ""),
    form=first["form"],
    chosen_on=first["chosen_on"],
    seeds=tuple(map(_seed, records)),
    accuracies=all_of("accuracy"),
    mirrored=all_of("mirrored"),
    deduplicated=all_of("deduplicated"),
    commits=tuple(dict.fromkeys(commits)),
    first=first,
  )


def _start(config: Mapping[str, Any]) -> str:
  if config.get("init_from"):
    return "another run"
  file = config.get("pretrained", {}).get("file")
  return pathlib.PurePath(file).name if file else "random"


def milliseconds(entry: Entry, *, calls: int = 100) -> float | None:
  """Times an entry's network on one face, with random weights.

  Args:
    entry: of `entries_of`.
    calls: number of timed calls, after five more.

  Returns:
    The median of the calls, from the image on the host to logits on the host; None for
    a network that is not the package's.
  """
  if "model.name" in own_parts.names_of(entry.first["config"]):
    return None
  config = own_parts.without_code(stored.parse_config(dict(entry.first["config"])))
  experiment = build.build_experiment(
    config, image_shape=_IMAGE_SHAPE, num_classes=entry.first["num_classes"]
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


def _cell(values: Sequence[float]) -> str:
  if not values:
    return "not run"
  return comparison_report.mean_text(statistics.mean_and_deviation(values))


def format_page(
  entries: Sequence[Entry],
  claims: Sequence[Claim],
  provenance: Mapping[str, Any],
  times: Sequence[float | None] = (),
  notes: str = "",
) -> str:
  """Formats the page.

  Args:
    entries: of `entries_of`.
    claims: published results on FER-2013.
    provenance: of `provenance.provenance`, of the command that makes the page.
    times: of `milliseconds`, one an entry; without any the column says "not run".
    notes: Markdown above the tables.

  Returns:
    Markdown.
  """
  lines = [
    "# Leaderboard: PrivateTest of FER-2013 and FER+",
    "",
    "Accuracy in percent: mean ± standard deviation over seeds.",
    "ms: a single face in JAX with random weights, median of 100 calls, "
    f"{provenance['hardware']}; more beside other work.",
    "Minutes of the speedrun are of each training's own hardware, with compilation, "
    'validation and checkpoints; "not recorded": not all epochs were timed.',
    f"Made by `{provenance['command']}`, "
    f"commit {render.commit(provenance['commit'], 7)}, {provenance['date'][:10]}.",
    "",
    *([notes, ""] if notes else []),
  ]
  known: Sequence[float | None] = times or [None] * len(entries)
  timed = list(zip(entries, known, strict=True))

  # Other classes are other images, whose accuracies are not compared.
  def kind_of(entry: Entry) -> tuple[str, int]:
    return entry.data_set, entry.first["num_classes"]

  for data_set, title in TITLES.items():
    kinds = {kind_of(entry) for entry in entries if entry.data_set == data_set}
    for kind in sorted(kinds, reverse=True):
      own = [pair for pair in timed if kind_of(pair[0]) == kind]
      classes = f" of {kind[1]} classes" if own[0][0].labels else ""
      lines += [f"## {title}{classes}, measured here", "", *_measured(own), ""]

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
  columns += ["start", "parameters", "ms", "pixels", "chosen on", "commits"]
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
      entry.start,
      f"{entry.parameters:,}",
      "not run" if taken is None else f"{taken:.1f}",
      entry.form,
      entry.chosen_on,
      ", ".join(entry.commits),
    ]
    for entry, taken in timed
  ]
  left = ["network", "seeds", "loss", "labels", "start", "pixels", "chosen on"]
  left.append("commits")
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
  rows += [
    [
      entry.network,
      str(entry.seeds[0]),
      *(entry.first["minutes"][f"{percent}"] for percent in SPEEDRUN),
      entry.loss,
      entry.form,
      "; ".join(entry.first["hardware"]),
      ", ".join(entry.commits),
    ]
    for entry in entries
  ]
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
