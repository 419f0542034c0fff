"""Sanity check and deletion on the page: of the epoch reported, with a caution."""

import html_rules
import made_up_run
import numpy as np
import pytest

from emosynth_jax.analysis import deletion
from emosynth_jax.report import (
  examples,
  run_files,
  run_page,
  run_summary,
  saliency_checks,
)


def _write(folder, **changes):
  """A run of best epoch 2 with both records."""
  made_up_run.write_run(folder)
  made_up_run.write_map_checks(folder, **changes)
  return run_files.read_run(folder)


def _page(run):
  html = run_page.build(
    run,
    audit=None,
    answered=None,
    options=examples.ExampleOptions(),
    made_by=made_up_run.provenance(),
  )
  return html_rules.check(html)


def _section(root):
  found = [e for e in root.iter("section") if e.get("id") == "map-checks"]
  return found[0] if found else None


def _rows(table):
  return [
    [html_rules.text_of(cell) for cell in row] for row in table.find("tbody").iter("tr")
  ]


def test_both_tables_are_printed_with_what_they_are_of(tmp_path):
  section = _section(_page(_write(tmp_path)))
  sanity, drops = section.iter("table")
  assert _rows(sanity) == [
    ["logits", "\u22120.03", "0.97"],
    ["dense1 & <b>", "\u2013", "0.50"],
  ]
  assert _rows(drops) == [
    ["block4 3 x 3", "0.304", "0.061", "+0.243 ± 0.019"],
    ["center of the image", "0.391", "0.040", "\u22120.351 ± 0.020"],
  ]
  text = html_rules.text_of(section)
  # What lies beyond the image is no part of the map.
  assert "Grad-CAM of layer block5 has 12 x 12 pixels" in text
  assert "Sanity check, 64 images of PublicTest:" in text
  assert "Deletion, 1,256 images of PublicTest:" in text
  assert "25 % of pixels" in text
  assert "is no evidence of what the network learned" in text


def test_records_of_another_epoch_are_left_out_and_not_taken_for_run(tmp_path):
  run = _write(tmp_path, epoch=1)
  root = _page(run)
  section = _section(root)
  assert not list(section.iter("table"))
  text = html_rules.text_of(section)
  assert "gradcam.json is of epoch 1, the report of epoch 2: skipped." in text
  assert "deletion.json is of epoch 1" in text
  checks = saliency_checks.map_checks(run)
  not_run = [
    title for title, _ in run_summary.not_run(run, {}, network=True, checks=checks)
  ]
  assert "Sanity check of Grad-CAM" in not_run
  assert "Deletion metric of Grad-CAM" in not_run


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({"training_seed": 7}, "of another run, with seed 7 instead of 0: skipped."),
    ({"variables_crc32": 5}, "of other parameters than the best checkpoint's: skipped"),
  ],
)
def test_records_of_another_network_are_left_out(tmp_path, changes, reason):
  run = _write(tmp_path, **changes)
  found = saliency_checks.map_checks(run, 6)
  assert found["sanity"] is None
  assert found["deletion"] is None
  assert [reason in sentence for sentence in found["left_out"]] == [True, True]
  own = {"training_seed": 0, "variables_crc32": 6}
  found = saliency_checks.map_checks(_write(tmp_path / "own", **own), 6)
  assert found["sanity"]
  assert found["deletion"]
  assert found["left_out"] == []


def test_maps_without_the_check_are_no_check(tmp_path):
  run = _write(tmp_path, sanity=None)
  checks = saliency_checks.map_checks(run)
  assert checks["sanity"] is None
  assert checks["deletion"]["rows"]
  not_run = [
    title for title, _ in run_summary.not_run(run, {}, network=True, checks=checks)
  ]
  assert "Sanity check of Grad-CAM" in not_run
  assert not [title for title in not_run if title.startswith("Deletion")]


def test_a_run_that_nobody_checked_has_no_such_section(tmp_path):
  made_up_run.write_run(tmp_path)
  root = _page(run_files.read_run(tmp_path))
  assert _section(root) is None
  assert "#map-checks" not in [a.get("href") for a in root.iter("a")]


@pytest.mark.parametrize("content", [{}, [1], {"best_epoch": 2}, {"best_epoch": 2.0}])
@pytest.mark.parametrize("name", ["gradcam", "deletion"])
def test_damaged_records_are_named(tmp_path, name, content):
  made_up_run.write_run(tmp_path)
  made_up_run.write_json(tmp_path / f"{name}.json", content)
  with pytest.raises(ValueError, match=rf"{name}\.json is damaged"):
    saliency_checks.map_checks(run_files.read_run(tmp_path))


def test_the_table_has_the_fields_that_the_command_writes():
  images = np.random.default_rng(0).random((2, 4, 4, 1))
  table = deletion.compare_maps(
    lambda x: x.reshape(len(x), -1)[:, :2],
    images,
    {"any": images[..., 0]},
    share=0.25,
  )
  assert set(table["any"]) == set(made_up_run.DROPS["block4 3 x 3"])
