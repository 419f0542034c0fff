"""Embeddings of trained runs: computed, projected, measured, written and plotted."""

import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.embeddings import comparison as embedding_comparison
from emosynth_jax.analysis.embeddings import embeddings as of_embeddings
from emosynth_jax.analysis.embeddings import plots as embedding_plots
from emosynth_jax.analysis.embeddings import separation
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.result_cache import Found
from emosynth_jax.config.stored import read_config
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import errors, files, npz, progress
from emosynth_jax.workdir import provenance


class _Subject(NamedTuple):
  """A loaded run, with all that is known before its embeddings are computed."""

  workdir: Any
  experiment: Any
  variables: Any
  input_scale: Any
  images: np.ndarray
  arrays: dict[str, np.ndarray]
  record: dict[str, Any]


def embed_runs(
  workdirs: Sequence[Any],
  *,
  split: str = "validation",
  images: int = 10_000,
  points: int = 2000,
  batch_size: int = 256,
  perplexity: float | None = None,
  seed: int = 0,
  data_dir: str | None = None,
) -> list[Found]:
  """Computes runs' embeddings, their projections and their separation.

  Args:
    workdirs: the runs' folders; nothing is written there.
    split: "train", "validation" or "test".
    images: maximum number of images, drawn with a separate seed, the same for every run
      on the data; 0 for all.
    points: maximum number of those to project; 0 for all.
    batch_size: images at a time.
    perplexity: see `embeddings.project`.
    seed: of t-SNE.
    data_dir: data set directory, if it moved since training; else None.

  Returns:
    For each run the content of separation.json, and the arrays of embeddings.npz:
    "rows", "labels" `(M,)`, "embeddings" `(M, D)`, "logits" `(M, K)`, "drawn" `(P,)`
    (indices into those) and "tsne" and "pca" `(P, 2)`.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `restore.load_network`, and
      ValueError for runs that cannot be compared and numbers out of range, all before
      anything is computed.
  """
  errors.refuse_twice(workdirs, "workdir")
  subjects: list[_Subject] = []
  for workdir in workdirs:
    one = _read(workdir, split, images, points, perplexity, seed, data_dir)
    # The images are checked to be the same: one copy of them is enough.
    first = subjects[0] if subjects else one
    crcs = (each.record["settings"]["images_crc32"] for each in (one, first))
    if len(set(crcs)) == 1:
      one = one._replace(images=first.images)
    subjects.append(one)

  embedding_comparison.group_runs([subject.record for subject in subjects])
  return [_embed(subject, batch_size) for subject in subjects]


def _read(workdir, split, images, points, perplexity, seed, data_dir) -> _Subject:
  network = load_network(workdir, split, data_dir, dtype="float32")
  config, experiment, state, dataset = network
  rows = draw_rows(len(dataset), images)
  drawn = draw_rows(len(rows), points, seed=1)
  of_embeddings.check_perplexity(perplexity, len(drawn))
  chosen = dataset.images[rows]
  settings = {
    **network.facts(),
    "workdir": str(workdir),
    "split": split,
    "num_images": len(rows),
    "of": len(dataset),
    "images_crc32": zlib.crc32(chosen.tobytes()),
    "labels_crc32": zlib.crc32(dataset.labels[rows].tobytes()),
    "num_points": len(drawn),
    "perplexity": perplexity,
    "projection_seed": seed,
  }

  # Includes the training dtype, which distinguishes kinds of runs.
  own = read_config(workdir).to_dict()
  record = {
    "settings": settings,
    "name": f"{config.model.name}, {config.loss.name}",
    "class_names": list(dataset.class_names),
    "config": own,
    "computed_in": cli.computed_in(),
  }
  return _Subject(
    workdir=workdir,
    experiment=experiment,
    variables=state.evaluation_variables,
    input_scale=state.input_scale,
    images=chosen,
    arrays={"rows": rows, "labels": dataset.labels[rows], "drawn": drawn},
    record=files.to_jsonable(record),
  )


def _embed(subject: _Subject, batch_size: int) -> Found:
  labels, drawn = subject.arrays["labels"], subject.arrays["drawn"]
  total = len(labels)
  bar = progress.Progress(first=0, total=total)
  found, logits = of_embeddings.compute_embeddings(
    gradcam_network.apply_fn_of(subject.experiment, modules=False),
    subject.variables,
    subject.input_scale,
    subject.images,
    preprocess=subject.experiment.preprocess,
    batch_size=batch_size,
    report=lambda done: bar.update(
      done, f"{subject.workdir}: image {done}/{total}", images_per_unit=1
    ),
  )
  arrays = subject.arrays | {"embeddings": found, "logits": logits}
  figures = {
    "accuracy": float((logits.argmax(axis=-1) == labels).mean()),
    **separation.separation(found, labels),
  }
  settings, kept = subject.record["settings"], {}

  for method in of_embeddings.METHODS:
    arrays[method] = of_embeddings.project(
      found[drawn],
      method,
      settings["projection_seed"],
      perplexity=settings["perplexity"],
    )
    kept[method] = of_embeddings.faithfulness(
      found[drawn], arrays[method], labels[drawn]
    )

  record = subject.record | {
    "separation": figures,
    "projections": kept,
    "computed_by": provenance.provenance(),
  }
  return files.to_jsonable(record), arrays


def draw_runs(path: Any, found: Sequence[Found]) -> None:
  """Plots one run's t-SNE and principal components, or several runs' t-SNE.

  Of several, a column for each kind of run and a row for each seed.

  Args:
    path: the PNG file.
    found: of `embed_runs`.
  """

  def panel(one, method, name):
    record, arrays = one
    settings = record["settings"]
    return embedding_plots.Panel(
      title=f"{record['name']}, seed {settings['training_seed']}{name}",
      points=arrays[method],
      labels=arrays["labels"][arrays["drawn"]],
      figures=embedding_plots.describe(
        record["separation"], record["projections"][method]
      ),
    )

  records = [record for record, _ in found]
  if len(found) == 1:
    names = {"tsne": "t-SNE", "pca": "principal components"}
    rows = [[panel(found[0], method, f": {name}") for method, name in names.items()]]
  else:
    groups = embedding_comparison.group_runs(records)
    seeds = sorted({record["settings"]["training_seed"] for record in records})
    rows = []
    for seed in seeds:
      own = [
        [i for i in group if records[i]["settings"]["training_seed"] == seed]
        for group in groups
      ]
      rows.append([panel(found[i[0]], "tsne", ": t-SNE") if i else None for i in own])

  settings = records[0]["settings"]
  embedding_plots.draw(
    path,
    rows,
    records[0]["class_names"],
    title=f"{settings['data_set']}, "
    f"{settings['official_split'] or settings['split']}: metrics of "
    f"{settings['num_images']:,} images, {settings['num_points']:,} drawn",
  )


def write_run(workdir: Any, found: Found) -> None:
  """Writes one run's embeddings.npz, embeddings.png and the records beside them."""
  folder = pathlib.Path(workdir)
  npz.write_npz(folder / "embeddings.npz", found[1])
  draw_runs(folder / "embeddings.png", [found])
  text = embedding_comparison.format_runs([found[0]])
  files.write_atomically(folder / "separation.txt", text.encode())
  files.write_report(folder / "separation.json", found[0])


def embed_all(args: Any) -> None:
  """Embeds the runs with the flags; writes and plots the results."""
  workdirs = args.workdir
  found = embed_runs(
    workdirs,
    split=args.split,
    images=args.images,
    points=args.points,
    batch_size=args.batch_size,
    perplexity=args.perplexity,
    seed=args.seed,
    data_dir=args.data_dir,
  )
  records = [record for record, _ in found]
  comparisons = embedding_comparison.compare(records)
  for workdir, one in zip(workdirs, found, strict=True):
    write_run(workdir, one)
  text = embedding_comparison.format_runs(records)

  if len(found) > 1:
    text += "\n" + embedding_comparison.format_comparison(comparisons)
    folder = pathlib.Path(workdirs[0])
    draw_runs(folder / "embeddings_comparison.png", found)
    files.write_atomically(folder / "separation_comparison.txt", text.encode())
    files.write_report(
      folder / "separation_comparison.json",
      {
        "runs": [record["settings"] for record in records],
        "comparisons": comparisons,
        "computed_by": records[0]["computed_by"],
      },
    )

  print(text, end="")
  print("Plots and metrics are in the workdirs: embeddings*.png, separation*.txt")
