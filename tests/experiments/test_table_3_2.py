"""What table 3.2 says about the known networks."""

import csv

import pytest

from experiments import table_3_2


@pytest.mark.parametrize(
  ("name", "parameters", "multiply_adds"),
  [
    # torchvision's own documentation: num_params and GFLOPS, which are multiply-adds.
    ("resnet50", 25_557_032, 4.09e9),
    ("mobilenet_v2", 3_504_872, 0.30e9),
  ],
)
def test_imagenet_forms_are_torchvisions(name, parameters, multiply_adds):
  form = table_3_2.count_forms(name)["ImageNet: 224x224x3, 1000 classes"]
  assert form.parameters == parameters
  assert form.multiply_adds == pytest.approx(multiply_adds, rel=0.01)


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
