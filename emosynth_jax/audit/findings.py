"""Findings of an audit, as counts and as text."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.data import duplicates
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import pixel_form
from emosynth_jax.utils import text_table

_KINDS = ("exact", "near", "mirrored")


def describe_datasets(
  datasets: Mapping[str, Dataset], found: duplicates.Duplicates
) -> dict[str, Any]:
  """Counts duplicates, label conflicts, classes and blank images.

  Args:
    datasets: by split, S of them, N images in all.
    found: of the N images of all splits, concatenated.

  Returns:
    A dictionary:

    - ``splits``: by split ``official_split``, ``num_images``, ``class_counts`` (by
      name), ``pixel_forms`` (images of each form, None where it is not known),
      ``blank_images`` (their sources), and ``images_with_near_duplicate``: how many of
      its images have a near-duplicate in each split, by split, and in any other split
      (``elsewhere``);
    - ``pairs``: number of pairs of each kind ("exact", "near", "mirrored"), within a
      split ("train") and across two ("train and test");
    - ``label_conflicts``: ``exact`` (equal pixels) and ``all`` (any duplicates), each
      with ``groups`` and ``images`` in groups of more than one label; ``by_classes``,
      the number of such groups of any kind by their classes ("fear and surprise");
    - ``groups``: every group of duplicates, a list of ``split``, ``source`` and
      ``label``.
  """
  first = next(iter(datasets.values()))
  names = list(datasets)
  split_of = np.repeat(np.arange(len(names)), [len(d) for d in datasets.values()])
  labels = np.concatenate([dataset.labels for dataset in datasets.values()])

  # (N, S): number of images in each split for each group, named by its first image.
  members = _count(found.groups, split_of, len(names))
  splits = {}
  for s, (name, dataset) in enumerate(datasets.items()):
    # For each image of this split, the number of other images in its group.
    others = members[found.groups[split_of == s]]
    others[:, s] -= 1
    blank = np.flatnonzero(duplicates.is_blank(dataset.images))
    splits[name] = {
      "official_split": dataset.official_split,
      "num_images": len(dataset),
      "class_counts": dict(
        zip(dataset.class_names, dataset.class_counts.tolist(), strict=True)
      ),
      "pixel_forms": dataset.form_counts,
      "blank_images": [dataset.sources[i] for i in blank],
      "images_with_near_duplicate": {
        **{other: int((others[:, k] > 0).sum()) for k, other in enumerate(names)},
        "elsewhere": int((np.delete(others, s, axis=1) > 0).any(axis=1).sum()),
      },
    }

  return {
    "splits": splits,
    "pairs": _count_pairs(found, split_of, names),
    "label_conflicts": {
      "exact": _count_conflicts(found.exact, labels),
      "all": _count_conflicts(found.groups, labels),
      "by_classes": _conflicting_classes(found.groups, labels, first.class_names),
    },
    "groups": _list_groups(datasets, found.groups),
  }


def format_report(report: Mapping[str, Any]) -> str:
  """Formats the report as text, without the list of groups.

  Args:
    report: of `describe_datasets`, with ``data_set``, ``config`` and
      ``unreadable_files``.

  Returns:
    Lines that end in a newline.
  """
  thresholds = report["config"]["near_duplicates"]
  lines = [
    f"data set  {report['data_set']}",
    f"near-duplicates: equal pixels, or at most {thresholds['max_distance']} of 64 "
    f"bits of pHash and a correlation of at least {thresholds['min_correlation']:g}, "
    "as they are or mirrored",
    "",
    *_images_tables(report["splits"]),
    *_duplicates_tables(report["splits"], report["pairs"]),
    *_conflicts_tables(report["label_conflicts"]),
  ]
  for name, split in report["splits"].items():
    lines += [f"blank in {name}: {source}" for source in split["blank_images"]]
  for name, counts in (report.get("fer_plus") or {}).items():
    share = 100 * counts["equal"] / counts["faces"] if counts["faces"] else 0.0
    lines.append(
      f"{name}: the label equals FER+'s majority for {counts['equal']:,} of "
      f"{counts['faces']:,} images that have one ({share:.1f} %)"
    )
  unreadable = report["unreadable_files"]
  lines.append(f"files that cannot be decoded: {len(unreadable) or 'none'}")
  return "\n".join(lines) + "\n"


def _images_tables(splits: Mapping[str, Any]) -> list[str]:
  """Images of each split by class and, for gray faces, by pixel form."""
  lines = _table(
    ["images by class", *splits],
    [
      [label, *(split["class_counts"][label] for split in splits.values())]
      for label in next(iter(splits.values()))["class_counts"]
    ]
    + [
      ["all", *(split["num_images"] for split in splits.values())],
      ["blank", *(len(split["blank_images"]) for split in splits.values())],
    ],
  )
  forms = [split["pixel_forms"] for split in splits.values()]
  if any(forms):
    lines += _table(
      ["images by pixel form", *splits],
      [
        [form, *(counts[form] if counts else "" for counts in forms)]
        for form in pixel_form.FORMS
      ],
    )
  return lines


def _duplicates_tables(
  splits: Mapping[str, Any], pairs: Mapping[str, Any]
) -> list[str]:
  """Pairs of duplicates by kind, and the images of each split that have one."""
  lines = _table(
    ["pairs", *_KINDS],
    [[where, *(pairs[kind][where] for kind in _KINDS)] for where in pairs["exact"]],
  )
  rows = []
  for name, split in splits.items():
    counts = split["images_with_near_duplicate"]
    share = 100 * counts["elsewhere"] / split["num_images"]
    rows.append(
      [
        f"of {name}",
        *(counts[other] for other in splits),
        f"{counts['elsewhere']:,} ({share:.1f} %)",
      ]
    )
  return lines + _table(
    ["images with a near-duplicate", *(f"in {name}" for name in splits), "elsewhere"],
    rows,
  )


def _conflicts_tables(conflicts: Mapping[str, Any]) -> list[str]:
  """Duplicates with different labels, and the classes of these labels."""
  lines = _table(
    ["label conflicts", "groups", "images"],
    [
      [text, conflicts[key]["groups"], conflicts[key]["images"]]
      for key, text in (("exact", "exact duplicates"), ("all", "any duplicates"))
    ],
  )
  if conflicts["by_classes"]:
    rows = [*map(list, conflicts["by_classes"].items())]
    lines += _table(["conflicting classes", "groups"], rows)
  return lines


def _count(groups: np.ndarray, split_of: np.ndarray, num_splits: int) -> np.ndarray:
  members = np.zeros((len(groups), num_splits), np.int64)
  np.add.at(members, (groups, split_of), 1)
  return members


def _count_pairs(
  found: duplicates.Duplicates, split_of: np.ndarray, names: list[str]
) -> dict[str, dict[str, int]]:
  """Counts pairs of images of each kind, within and across splits."""
  members = _count(found.exact, split_of, len(names))
  # All pairs between the images of the two groups of equal pixels.
  first, second = members[found.pairs[:, 0]], members[found.pairs[:, 1]]
  crossed = np.einsum("pa,pb->pab", first, second)
  tables = {
    # All ordered pairs of a group, except of an image with itself.
    "exact": (members.T @ members - np.diag(members.sum(axis=0))) / 2,
    "near": crossed[~found.mirrored].sum(axis=0),
    "mirrored": crossed[found.mirrored].sum(axis=0),
  }
  counts: dict[str, dict[str, int]] = {}

  for kind, table in tables.items():
    counts[kind] = {name: int(table[a, a]) for a, name in enumerate(names)}
    for a in range(len(names)):
      for b in range(a + 1, len(names)):
        counts[kind][f"{names[a]} and {names[b]}"] = int(table[a, b] + table[b, a])

  return counts


def _groups_of_several(groups: np.ndarray) -> list[np.ndarray]:
  """The images of each group of two or more, in order of their first images."""
  order = np.argsort(groups, kind="stable")
  starts = np.flatnonzero(np.diff(groups[order])) + 1
  return [part for part in np.split(order, starts) if len(part) > 1]


def _count_conflicts(groups: np.ndarray, labels: np.ndarray) -> dict[str, int]:
  conflicting = [
    part for part in _groups_of_several(groups) if np.ptp(labels[part]) > 0
  ]
  return {"groups": len(conflicting), "images": sum(map(len, conflicting))}


def _conflicting_classes(
  groups: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
) -> dict[str, int]:
  counts = collections.Counter(
    " and ".join(class_names[label] for label in np.unique(labels[part]))
    for part in _groups_of_several(groups)
    if np.ptp(labels[part]) > 0
  )
  return dict(counts.most_common())


def _list_groups(
  datasets: Mapping[str, Dataset], groups: np.ndarray
) -> list[list[dict[str, str]]]:
  rows = [
    {"split": name, "source": source, "label": dataset.class_names[label]}
    for name, dataset in datasets.items()
    for source, label in zip(dataset.sources, dataset.labels, strict=True)
  ]
  return [[rows[i] for i in part] for part in _groups_of_several(groups)]


def _table(header: list[Any], rows: list[list[Any]]) -> list[str]:
  """Formats aligned lines, the first column left-aligned; ends with an empty line."""
  lines = text_table.align(
    [
      [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row]
      for row in [header, *rows]
    ]
  )
  return [lines[0], "-" * len(lines[0]), *lines[1:], ""]
