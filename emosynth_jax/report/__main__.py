"""Writes an HTML report of a trained run, or a comparison of several runs.

  python -m emosynth_jax.report --workdir=runs/ce
  python -m emosynth_jax.report --workdir=runs/ce --audit=runs/fer2013-audit
  python -m emosynth_jax.report --workdir=runs/ce --workdir=runs/mam

The page is one self-contained file, for screen, phone or print. Metrics are those of
report.json; the network is rerun for what the report does not contain: the hardest
images, Grad-CAM and the embedding of the reported split. A folder with a seeds.json
stands for its seeds. For several runs, metrics are compared with the first run's,
paired by seed, and no network is run; with --paired two runs are also tested against
each other image by image. See docs/guides/reports.md.
"""

from typing import Any

from absl import flags, logging

from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.report import report
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_multi_string(
    "workdir",
    None,
    "Workdir of a trained run, or of several seeds of one. May be given several "
    "times, to compare runs on one page.",
    required=True,
  )
  flags.DEFINE_string(
    "output",
    None,
    "Output HTML file. By default report.html, or comparison.html, in the first "
    "workdir.",
  )
  flags.DEFINE_string(
    "audit",
    None,
    "Output folder of emosynth_jax.audit for this data set. By default the workdir, "
    "if it has an audit.json.",
  )
  flags.DEFINE_bool(
    "images",
    True,
    "Run the network, for the hardest images, Grad-CAM and the embedding. --noimages "
    "needs neither checkpoint nor data.",
  )
  flags.DEFINE_bool(
    "paired",
    False,
    "For two runs, run both networks and test their difference over the images of the "
    "reported split: McNemar's test and a paired bootstrap.",
  )
  flags.DEFINE_integer(
    "mistakes",
    report.ONE_RUN_DEFAULTS["mistakes"],
    "Number of most confident errors to show. For the page of a single run only.",
    0,
  )
  flags.DEFINE_integer(
    "embedded",
    report.ONE_RUN_DEFAULTS["embedded"],
    "Number of images in the plot of the embedding; 0 for all. For the page of a "
    "single run only.",
    0,
  )
  flags.DEFINE_string("layer", None, gradcam_network.LAYER_HELP)
  flags.DEFINE_integer(
    "batch_size",
    report.ONE_RUN_DEFAULTS["batch_size"],
    "Batch size in images. For the page of a single run only.",
    1,
  )
  cli.define_data_dir()


def write_page(args: Any) -> None:
  """Writes the page that the flags ask for."""
  file = report.write_page(args)
  logging.info("Wrote %s, %s kB.", file, f"{file.stat().st_size / 1e3:,.0f}")
  print(file)


if __name__ == "__main__":
  cli.run(define_flags, write_page)
