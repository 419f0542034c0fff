"""Old names of settings, in files, on the command line and in config files."""

import pytest

from emosynth_jax.config import defaults, renamed, stored


def test_a_stored_config_has_its_values_under_the_new_names():
  old = defaults.get_default_config().to_dict()
  old["data"]["twins"] = old["data"].pop("near_duplicates") | {"max_distance": 5}
  del old["evaluate_deduplicated"]
  old["evaluate_without_twins"] = True
  config = stored.parse_config(old)
  assert config.data.near_duplicates.max_distance == 5
  assert config.evaluate_deduplicated is True


def test_a_new_name_has_precedence_at_every_depth():
  document = [{"splits": {"test": {"without_twins": 1, "deduplicated": 2}}, "n": (3,)}]
  assert renamed.with_new_names(document) == [
    {"splits": {"test": {"deduplicated": 2}}, "n": (3,)}
  ]


def test_classes_and_arguments_are_no_names():
  report = {"per_class": {"falls": {"f1": 1.0}}, "class_counts": {"pictures": 3}}
  config = {"loss": {"name": "mine.py:loss", "falls": 2}, "model": {"twins": 1}}
  assert renamed.with_new_names(report) == report
  assert renamed.with_new_names(config) == config


def test_results_of_earlier_versions_have_the_new_names():
  record = {"falls": 1, "centre_angle": 2, "projections": {"centre_distances": 3}}
  assert renamed.with_new_names(record) == {
    "probability_drop": 1,
    "center_angle": 2,
    "projections": {"center_distances": 3},
  }


@pytest.mark.parametrize(
  ("old", "new"),
  [
    (
      "--config.data.twins.max_distance=8",
      "--config.data.near_duplicates.max_distance=8",
    ),
    ("-config.evaluate_without_twins", "-config.evaluate_deduplicated"),
    ("--noconfig.evaluate_without_twins", "--noconfig.evaluate_deduplicated"),
    ("--config.data.twinset=8", "--config.data.twinset=8"),
    ("--config.data.data_dir=data.twins", "--config.data.data_dir=data.twins"),
    ("--workdir=evaluate_without_twins", "--workdir=evaluate_without_twins"),
  ],
)
def test_arguments_keep_all_but_an_old_name(old, new):
  assert renamed.update_arguments(["program", old]) == ["program", new]


def test_a_config_file_with_an_old_name_is_told_the_new_one():
  config = defaults.get_default_config()
  with config.unlocked():
    config.evaluate_without_twins = True
  with pytest.raises(ValueError, match=r"is now config\.evaluate_deduplicated"):
    defaults.check_config(config)
