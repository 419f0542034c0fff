"""What table 3.2 says about the known networks."""

import csv

import pytest

from emosynth_jax import models
from emosynth_jax.models import cost
from experiments import table_3_2


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "vgg19"])
def test_a_known_network_is_counted_in_three_forms(name, monkeypatch):
  """The counts themselves: tests/models/test_cost.py."""
  monkeypatch.setattr(cost, "count", lambda model, shape: (model, shape))
  forms = table_3_2.count_forms(name)
  assert {
    form: (model.stem, model.num_classes, shape)
    for form, (model, shape) in forms.items()
  } == {
    "ImageNet: 224x224x3, 1000 classes": ("imagenet", 1000, (224, 224, 3)),
    "ImageNet stem at 32x32x3": ("imagenet", 1000, (32, 32, 3)),
    "small images: 32x32x3, 10 classes": ("small", 10, (32, 32, 3)),
  }
  assert {type(model) for model, _ in forms.values()} == {models.MODELS[name]}
  if name == "vgg19":
    # As it was published, without BatchNorm.
    assert [model.norm for model, _ in forms.values()] == [False, False, True]


def test_claimed_and_counted_stand_apart(monkeypatch):
  monkeypatch.setattr(
    table_3_2, "CLAIMED", {"emosynthnet": table_3_2.CLAIMED["emosynthnet"]}
  )
  markdown, table = table_3_2.format_tables()
  rows = {row["form"]: row for row in csv.DictReader(table.splitlines())}
  assert rows["claimed"]["parameters"] == "21000000"
  assert rows["claimed"]["depth"] == "34"
  own = rows["48x48x1, 7 classes"]
  # Four bytes a number.
  assert float(own["mebibytes"]) * 2**20 / 4 == pytest.approx(
    int(own["parameters"]), rel=1e-3
  )
  assert "| emosynthnet | claimed by the thesis | 21 | 1.120 | 82 | 34 |" in markdown
