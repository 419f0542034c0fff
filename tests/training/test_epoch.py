"""The ends of epochs: the best one, the last one, the rates that are logged."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax.config import defaults
from emosynth_jax.training import epoch, optimizers


def _config(**changes):
  return tiny_workdir.change(defaults.get_default_config(), **changes)


@pytest.mark.parametrize(
  ("second_scale_epoch", "expected"),
  [(0, [255, 255, 255]), (1, [512, 512, 512]), (3, [255, 255, 512])],
)
def test_the_second_input_scale_comes_with_its_epoch(second_scale_epoch, expected):
  config = _config(input__second_scale_epoch=second_scale_epoch)
  scales = [float(epoch.input_scale(config, e)) for e in range(3)]
  np.testing.assert_allclose(scales, 1 / np.array(expected), rtol=1e-6)


@pytest.mark.parametrize(
  ("done", "best_epoch", "num_epochs", "patience", "every", "expected"),
  [
    (0, 0, 10, 3, 1, False),
    (3, 3, 10, 3, 1, False),
    (5, 3, 10, 3, 1, False),
    (6, 3, 10, 3, 1, True),
    (9, 3, 10, 0, 1, False),
    (10, 10, 10, 3, 1, True),
    # Before the first validation, between two of them, and at the second.
    (4, 0, 20, 3, 5, False),
    (8, 5, 20, 3, 5, False),
    (10, 5, 20, 3, 5, True),
    (10, 10, 20, 3, 5, False),
  ],
)
def test_training_ends_with_the_epochs_or_the_patience(
  done, best_epoch, num_epochs, patience, every, expected
):
  state = tiny_network.create_state().replace(
    epoch=jnp.int32(done), best_epoch=jnp.int32(best_epoch)
  )
  config = _config(
    num_epochs=num_epochs, early_stop_patience=patience, evaluate_every=every
  )
  assert epoch.is_finished(state, config) == expected


def test_patience_counts_from_the_end_of_progressive_resizing():
  config = _config(
    num_epochs=20, early_stop_patience=3, progressive_resizing={"epochs": 8, "side": 24}
  )
  finished = [n for n in range(20) if epoch.is_last(n, 2, config)]
  assert finished == list(range(11, 20))


def _summary(value, metric):
  numbers = {"loss": 1.0, "accuracy": 0.5, "balanced_accuracy": 0.5, "f1_macro": 0.5}
  numbers[metric] = value
  return {
    **numbers,
    "macro": {"f1": numbers["f1_macro"]},
    "expected_calibration_error": 0.1,
  }


@pytest.mark.parametrize(
  ("metric", "values", "best_epochs"),
  [
    # The first of equals stays, also of those that float32 holds with rounding.
    ("accuracy", [0.1, 0.3, 0.3, 0.2, 0.7], [1, 2, 2, 2, 5]),
    ("balanced_accuracy", [0.0, 0.0, 0.1], [1, 1, 3]),
    ("f1_macro", [0.5, 0.4, 0.6], [1, 1, 3]),
    ("loss", [2.0, 2.1, 1.9, 1.9, 1.0], [1, 1, 3, 3, 5]),
  ],
)
def test_the_best_epoch_is_the_first_with_the_best_value(metric, values, best_epochs):
  config = _config(selection_metric=metric)
  plateau = tiny_network.build_plateau()
  state = tiny_network.create_state()
  state = state.replace(
    totals=state.totals
    | {
      "loss": jnp.float32(6),
      "cross_entropy": jnp.float32(4.5),
      "gradient_norm": jnp.float32(9),
      "steps": jnp.int32(3),
      "correct": jnp.int32(8),
      "count": jnp.int32(32),
    }
  )
  found = []
  for number, value in enumerate(values, start=1):
    summary = _summary(value, metric)
    state, record = epoch.end(state, summary, config, plateau)
    assert record["epoch"] == int(state.epoch) == number
    assert record[f"validation/{metric}"] == value
    assert record["train/loss"] == 2
    assert record["train/cross_entropy"] == 1.5
    assert record["train/gradient_norm"] == 3
    assert record["train/accuracy"] == 0.25
    found.append(int(state.best_epoch))
  assert found == best_epochs


def test_a_cross_entropy_that_is_not_known_is_not_recorded():
  state = tiny_network.create_state()
  totals = {"cross_entropy": jnp.float32(np.nan), "steps": jnp.int32(1)}
  state = state.replace(totals=state.totals | totals | {"count": jnp.int32(1)})
  summary = _summary(1.0, "loss")
  _, record = epoch.end(state, summary, _config(), tiny_network.build_plateau())
  assert "train/loss" in record
  assert "train/cross_entropy" not in record


def test_an_epoch_without_validation_has_no_values_of_it_and_is_not_chosen():
  state = tiny_network.create_state()
  totals = state.totals | {"steps": jnp.int32(1), "count": jnp.int32(1)}
  plateau, config = tiny_network.build_plateau(), _config(evaluate_every=2)
  before, record = epoch.end(state.replace(totals=totals), None, config, plateau)
  assert (int(before.epoch), int(before.best_epoch)) == (1, 0)
  assert before.plateau is state.plateau
  assert {name.partition("/")[0] for name in record} == {
    "epoch",
    "train",
    "learning_rate",
  }
  after, record = epoch.end(before, _summary(0.5, "accuracy"), config, plateau)
  assert int(after.best_epoch) == record["epoch"] == 2


def test_an_epochs_record_has_the_learning_rate_that_it_was_trained_with():
  config = _config()
  plateau = tiny_network.build_plateau()  # a tenth after five epochs without progress
  state = tiny_network.create_state()
  state = state.replace(
    totals=state.totals | {"steps": jnp.int32(1), "count": jnp.int32(1)}
  )
  rates = []
  for _ in range(8):
    summary = _summary(1.0, "loss")
    state, record = epoch.end(state, summary, config, plateau)
    rates.append(record["learning_rate"])
  np.testing.assert_allclose(rates, [1e-3] * 6 + [1e-4] * 2, rtol=1e-6)


def test_an_epochs_record_has_the_rate_of_its_last_step():
  config = _config(optimizer__learning_rate=0.5)
  schedule = optimizers.build_schedule(
    name="cosine", warmup_epochs=1, num_epochs=3, steps_per_epoch=4
  )
  state = tiny_network.create_state()
  state = state.replace(
    totals=state.totals | {"steps": jnp.int32(4), "count": jnp.int32(1)},
    plateau=state.plateau._replace(scale=jnp.float32(0.1)),
  )
  plateau = tiny_network.build_plateau()
  rates = []
  for done in (4, 8, 12):
    state, record = epoch.end(
      state.replace(step=jnp.int32(done)),
      _summary(1.0, "loss"),
      config,
      plateau,
      schedule,
    )
    rates.append(record["learning_rate"])
  # Steps 3, 7 and 11: the warm-up's end, then 3 and 7 of the cosine's 8 steps.
  cosine = [(1 + np.cos(np.pi * share)) / 2 for share in (3 / 8, 7 / 8)]
  np.testing.assert_allclose(rates, 0.05 * np.array([1, *cosine]), rtol=1e-5)


def test_what_was_not_finite_is_told_with_the_rate_of_its_step(tmp_path):
  schedule = optimizers.build_schedule(warmup_epochs=2, num_epochs=3, steps_per_epoch=5)
  state = tiny_network.create_state().replace(step=jnp.int32(5))
  epoch.raise_if_not_finite(state, _config(), tmp_path, schedule=schedule)
  bad = state.replace(totals=state.totals | {"bad_step": jnp.int32(2)})
  with pytest.raises(epoch.NonFiniteError, match=r"step 2: .* rate 0\.0003\."):
    epoch.raise_if_not_finite(bad, _config(), tmp_path, schedule=schedule)
  with pytest.raises(epoch.NonFiniteError, match=r"validation loss inf .* 0\.0005\."):
    epoch.raise_if_not_finite(
      state, _config(), tmp_path, float("inf"), schedule=schedule
    )


@pytest.mark.parametrize(
  ("confusion", "number", "expected"),
  [
    # All three classes are called "b".
    ([[0, 4, 0], [0, 5, 0], [0, 1, 0]], 3, "epoch 3: every .*'b'"),
    # The first epochs may be of averaged weights that have hardly moved.
    ([[0, 4, 0], [0, 5, 0], [0, 1, 0]], 2, None),
    ([[0, 4, 0], [0, 5, 0], [0, 0, 1]], 3, None),
    # A split of one class, all of it right.
    ([[0, 0, 0], [0, 5, 0], [0, 0, 0]], 3, None),
  ],
)
def test_a_network_that_gives_one_answer_is_reported(
  caplog, confusion, number, expected
):
  summary = {"confusion_matrix": confusion, "class_names": ["a", "b", "c"]}
  with caplog.at_level("WARNING"):
    epoch.warn_if_constant(summary, number)
  assert bool(caplog.records) == (expected is not None)
  assert expected is None or re.search(expected, caplog.text)
