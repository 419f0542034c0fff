"""Workdirs of runs that nobody trained, with the figures that a test wants."""

import json

import numpy as np

from emosynth_jax.config import defaults
from emosynth_jax.metrics import classification
from emosynth_jax.utils import files

CLASSES = ("angry", "<b>sad</b>", 'fear & "x"')


# What checks of the maps found, as their commands write it.
SANITY = {
  "logits": {"grad_cam": -0.034, "guided_backprop": 0.968},
  "dense1 & <b>": {"grad_cam": None, "guided_backprop": 0.5},
}
DROPS = {
  "block4 3 x 3": {
    "highest": 0.3041,
    "lowest": 0.0612,
    "difference": 0.2429,
    "standard_error": 0.0187,
  },
  "center of the image": {
    "highest": 0.391,
    "lowest": 0.04,
    "difference": -0.351,
    "standard_error": 0.02,
  },
}


def summary(confusion, *, bins=None, class_names=CLASSES):
  """`metrics.summarize` of a confusion matrix; `bins` are (confidence, correct, n)."""
  confusion = np.asarray(confusion)
  total = int(confusion.sum())
  if bins is None:
    bins = [(0.0, 0, 0)] * 14 + [(0.97, int(np.trace(confusion)), total)]
  confidence, correct, count = map(np.array, zip(*bins, strict=True))
  return classification.summarize(
    {
      "confusion_matrix": confusion,
      "loss_sum": np.float64(0.5 * total),
      "count": np.int64(total),
      "bin_confidence": confidence * count,
      "bin_correct": correct,
      "bin_count": count,
    },
    class_names,
  )


def provenance(commit="a" * 40, **changes):
  found = {
    "command": "python -m emosynth_jax.main --config=configs/x.py --note='<i>&'",
    "commit": commit,
    "packages": {"python": "3.11.7", "jax": "0.10.2"},
    "jax_backend": "cpu",
    "device_kind": "cpu",
    "device_count": 1,
    "cpu_model": "Some CPU",
    "cpu_cores": 2,
    "hardware": "Some CPU, 2 cores",
    "date": "2026-01-02T03:04:05+00:00",
  }
  return found | changes


def report_of(config, **changes):
  """A report of a run with these settings, of three epochs.

  Args:
    config: the settings, as `ConfigDict.to_dict` has them.
    **changes: of the report.
  """
  report = {
    "data_set": config["data"]["name"],
    "chosen_on": "validation accuracy",
    "best_epoch": 2,
    "epochs_trained": 3,
    "seed": config["seed"],
    "num_parameters": 1234,
    "config": config,
    "trained_by": [{"step": 0, **provenance()}],
    "evaluated_by": provenance(),
    "official_splits": {"validation": "PublicTest", "test": "PrivateTest"},
    "batch_invariance": {
      "split": "validation",
      "passed": True,
      "num_images": 8,
      "batch_size": 2,
      "num_images_one_at_a_time": 4,
      "max_abs_difference_of_logits": {"shuffled": 0.0, "one_at_a_time": 1e-6},
      "max_abs_logit": 3.0,
      "tolerance": 3e-4,
      "changed_predictions": 0,
    },
    "splits": {
      "validation": summary([[3, 1, 0], [0, 3, 0], [1, 0, 2]]),
      "test": summary([[3, 1, 0], [0, 2, 1], [1, 0, 2]]),
    },
  }
  return report | changes


def write_run(
  workdir, *, seed=0, loss="cross_entropy", test=None, data=7, config=None, **changes
):
  """Writes report.json, metrics.jsonl, timing.jsonl and data.json.

  Args:
    workdir: the folder; made.
    seed: the run's.
    loss: its name.
    test: summary of the test split; None for one of 10 images, 7 of them right.
    data: what tells the images of the splits from others.
    config: changed settings, by path.
    **changes: of the report.

  Returns:
    The report.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  settings = defaults.get_default_config()
  settings.seed = seed
  settings.num_epochs = 3
  settings.loss = {"name": loss}
  settings.data.data_dir = "</style><script>alert(1)</script>"
  for path, value in (config or {}).items():
    part, _, leaf = path.rpartition(".")
    holder = defaults.get(settings, part) if part else settings
    holder[leaf] = value
  report = report_of(settings.to_dict(), **changes)
  if test:
    report["splits"]["test"] = test
  files.write_report(workdir / "report.json", report)
  records = [
    {
      "step": 10 * epoch,
      "epoch": epoch,
      "train/loss": 1 / epoch,
      "validation/loss": 1.5 / epoch,
      "train/accuracy": 0.2 * epoch,
      "validation/accuracy": 0.25 * epoch,
      "learning_rate": 1e-3,
    }
    for epoch in (1, 2, 3)
  ]
  _write_lines(workdir / "metrics.jsonl", records)
  _write_lines(
    workdir / "timing.jsonl", [{"step": r["step"], "seconds": 20.5} for r in records]
  )
  fingerprint = {name: {"images": data} for name in ("train", "validation", "test")}
  (workdir / "data.json").write_text(json.dumps(fingerprint))
  return report


def write_audit(folder, report, *, elsewhere=4):
  """Writes an audit.json that fits a report."""
  folder.mkdir(parents=True, exist_ok=True)
  splits = {}
  for name, summary_ in report["splits"].items():
    counts = {label: row["support"] for label, row in summary_["per_class"].items()}
    splits[name] = {
      "official_split": "",
      "num_images": sum(counts.values()),
      "class_counts": counts,
      "blank_images": [],
      "images_with_near_duplicate": {
        "validation": 1,
        "test": 2,
        "elsewhere": elsewhere,
      },
    }
  audit = {
    "data_set": "synthetic_faces",
    "config": {"near_duplicates": {"max_distance": 12, "min_correlation": 0.9}},
    "audited_by": provenance(),
    "splits": splits,
    "pairs": {
      kind: {"validation": 1, "test": 2, "validation and test": 3}
      for kind in ("exact", "near", "mirrored")
    },
    "label_conflicts": {
      "exact": {"groups": 5, "images": 11},
      "all": {"groups": 6, "images": 13},
      "by_classes": {"angry and <b>sad</b>": 6},
    },
    "groups": [],
    "unreadable_files": [],
  }
  (folder / "audit.json").write_text(json.dumps(audit))
  return audit


def write_map_checks(folder, *, epoch=2, sanity=SANITY, **changes):
  """Writes gradcam.json and deletion.json of maps of 12 x 12 pixels and a margin."""
  common = {
    "split": "validation",
    "official_split": "PublicTest",
    "num_images": 1256,
    "best_epoch": epoch,
  }
  gradcam = common | {
    "sanity_check": sanity,
    "sanity_check_of": {"num_images": 64},
    "layer": "block5",
    "layer_shape": [24, 24, 64],
    "margin": 6,
  }
  drops = common | {"share": 0.25, "probability_drop": DROPS}
  write_json(folder / "gradcam.json", gradcam | changes)
  write_json(folder / "deletion.json", drops | changes)


def _write_lines(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))


def json_of(path):
  """A JSON file's content."""
  return json.loads(path.read_text())


def write_json(path, content):
  """Writes a JSON file."""
  path.write_text(json.dumps(content))
