"""Losses by name, margins under losses, and what a training step asks of them."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax import losses
from emosynth_jax.losses import (
  LOSSES,
  MARGINS,
  call_loss,
  get_evaluation_logits,
  get_loss,
  init_state,
  loss_inputs,
  select_inputs,
  under_margin,
)


def everything(data, **others):
  return {
    "logits": data.logits,
    "labels": data.labels,
    "embeddings": data.embeddings,
    "weights": data.weights,
    "class_counts": data.counts,
    "step": 3,
    "state": None,
  } | others


def test_an_unknown_name_lists_the_known():
  with pytest.raises(ValueError, match=r"'arcfase'.*arcface.*cross_entropy.*mse"):
    get_loss("arcfase")
  with pytest.raises(ValueError, match=r"unknown margin 'arcfase'.*arcface"):
    get_loss("arcfase+focal")
  with pytest.raises(ValueError, match=r"no loss 'fokal'.*focal"):
    get_loss("arcface+fokal")
  with pytest.raises(ValueError, match=r"no loss 'cosface' can follow a margin"):
    get_loss("arcface+cosface")


def test_an_unknown_argument_lists_the_loss_s_own():
  with pytest.raises(ValueError, match=r"mam_softmax.*'kapa'.*margin_fn, kappa"):
    get_loss("mam_softmax", kapa=2.0)
  with pytest.raises(ValueError, match=r"'mse'.*'margin'\. Known: none"):
    get_loss("mse", margin=2.0)
  with pytest.raises(ValueError, match=r"'logits'"):
    get_loss("mse", logits=1)


def test_a_missing_argument_is_named():
  with pytest.raises(ValueError, match=r"small_loss.*noise_rate, warmup_steps"):
    get_loss("small_loss_cross_entropy")


def test_arguments_are_bound(data):
  given = data.embeddings, data.weights, data.labels
  np.testing.assert_array_equal(
    jax.jit(get_loss("arcface", margin=0.3))(*given),
    jax.jit(functools.partial(losses.arcface, margin=0.3))(*given),
  )


def test_inputs_are_those_of_the_signature():
  assert loss_inputs(get_loss("cross_entropy")) == ("logits", "labels")
  assert loss_inputs(get_loss("arcface", scale=8.0)) == (
    "embeddings",
    "weights",
    "labels",
  )
  assert loss_inputs(get_loss("mam_softmax_class_count+focal")) == (
    "logits",
    "labels",
    "class_counts",
  )
  assert loss_inputs(get_loss("sphereface+center_loss")) == (
    "embeddings",
    "weights",
    "labels",
    "step",
    "state",
  )


def test_a_missing_input_is_named(data):
  with pytest.raises(
    ValueError, match=r"arcface needs embeddings, weights.*available: logits, labels"
  ):
    call_loss(get_loss("arcface"), logits=data.logits, labels=data.labels, weights=None)


def test_the_thesis_s_main_method(data):
  """MAM-SoftMax + SCE: arguments of both, and SCE of the logits with the margin."""
  loss = get_loss("mam_softmax+sce_loss", kappa=0.5, reading="intent", ce_weight=1.0)

  def by_parts(logits, labels):
    logits = losses.mam_softmax_logits(logits, labels, kappa=0.5)
    return losses.sce_loss(logits, labels, reading="intent", ce_weight=1.0)

  np.testing.assert_allclose(
    jax.jit(loss)(data.logits, data.labels),
    jax.jit(by_parts)(data.logits, data.labels),
    rtol=1e-5,
  )


def test_the_thesis_s_main_method_in_float64(data):
  """Value and gradient from the formulas, margin and factors held constant."""
  x = data.z - data.z.mean(-1, keepdims=True)
  margins = np.clip(np.log(np.maximum(x.max(-1) + 0.2, 1e-9)), 0, 4)
  log_p = special.log_softmax(data.z - margins[:, None] * data.y, axis=-1)
  p, ce = np.exp(log_p), -(data.y * log_p).sum(-1)
  alpha = ((data.y - p) ** 2).sum(-1).mean()
  factor = 0.5 + 0.5 * alpha * np.linalg.norm(1 - data.y - p, axis=-1)

  def total(z):
    values = get_loss("mam_softmax+sce_loss")(z, data.labels)
    return values.sum(), values

  grad, values = jax.jit(jax.grad(total, has_aux=True))(data.logits)
  np.testing.assert_allclose(values, factor * ce, rtol=1e-5)
  np.testing.assert_allclose(grad, factor[:, None] * (p - data.y), atol=3e-5)


def test_any_margin_goes_with_any_loss(data):
  loss = get_loss("arcface+label_smoothing", smoothing=0.2, scale=8.0)
  logits = losses.arcface_logits(data.embeddings, data.weights, data.labels, scale=8.0)
  np.testing.assert_allclose(
    loss(data.embeddings, data.weights, data.labels),
    losses.label_smoothing(logits, data.labels, smoothing=0.2),
    rtol=1e-6,
  )


def test_losses_without_state_hand_the_state_on(data):
  values, state = call_loss(get_loss("mse"), **everything(data, state="kept"))
  assert values.shape == (5,)
  assert state == "kept"


@pytest.mark.parametrize("name", ["mam_softmax_class_ema+focal", "cosface+center_loss"])
def test_one_state_of_two_parts(data, name):
  state = init_state(name, 7, 4)
  _, new = call_loss(get_loss(name), **everything(data, state=state))
  assert new.shape == state.shape
  assert (new != state).any()


def test_two_states_are_a_pair(data):
  name = "mam_softmax_class_ema+center_loss"
  state = init_state(name, 7, 4)
  values, (margins, centers) = call_loss(
    get_loss(name), **everything(data, state=state)
  )
  logits, expected_margins = losses.mam_softmax_class_ema_logits(
    data.logits, data.labels, state[0]
  )
  expected, expected_centers = losses.center_loss(
    logits, data.embeddings, data.labels, state[1]
  )
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  np.testing.assert_array_equal(margins, expected_margins)
  np.testing.assert_array_equal(centers, expected_centers)


def test_most_losses_keep_no_state():
  keepers = {n for n in LOSSES if init_state(n, 7, 4) is not None}
  assert keepers == {
    "adaface",
    "center_loss",
    "curricularface",
    "mam_softmax_class_ema",
  }
  assert keepers == {n for n in LOSSES if "state" in loss_inputs(LOSSES[n])}
  with pytest.raises(ValueError, match="unknown loss 'centre_loss'"):
    init_state("centre_loss", 7, 4)


# Each margin with the margin off, which is what evaluation has to use.
WITHOUT_MARGIN = {
  "a_softmax": {"margin": 1},
  "adaface": {"margin": 0.0},
  "aam_softmax": {"margin": 0.0},
  "am_softmax": {"margin": 0.0},
  "arcface": {"margin": 0.0},
  "cosface": {"margin": 0.0},
  "double_am_softmax": {"margin": 0.0},
  "dynamic_am_softmax": {"margin": 0.0},
  "elastic_arcface": {"margin": 0.0, "sigma": 0.0},
  "elastic_cosface": {"margin": 0.0, "sigma": 0.0},
  "l_softmax": {"margin": 1},
  "ldam": {"max_margin": 0.0},
  "lmcl": {"margin": 0.0},
  "mam_softmax": {"kappa": 0.0},
  "mam_softmax_class_count": {"kappa": 0.0},
  "mam_softmax_class_ema": {"kappa": 0.0},
  "sm_softmax": {"margin": 0.0},
  "sphereface": {"margin": 1},
  "subcenter_arcface": {"margin": 0.0, "sub_centers": 1},
}
REQUIRED = {"subcenter_arcface": {"sub_centers": 1}}


def test_only_one_margin_cannot_be_switched_off():
  """CurricularFace modulates hard negatives whatever its margin is."""
  assert set(MARGINS) - set(WITHOUT_MARGIN) == {"curricularface"}


@pytest.mark.parametrize("name", WITHOUT_MARGIN)
def test_evaluation_logits_carry_no_margin(data, name):
  available = everything(data, state=init_state(name, 7, 4))
  margin = MARGINS[name]
  expected = margin(**select_inputs(margin, **available), **WITHOUT_MARGIN[name])
  if "state" in loss_inputs(margin):
    expected = expected[0]
  evaluate = get_evaluation_logits(name, **REQUIRED.get(name, {}))
  assert "labels" not in loss_inputs(evaluate)
  np.testing.assert_allclose(
    evaluate(**select_inputs(evaluate, **available)), expected, rtol=1e-5, atol=1e-5
  )


def test_evaluation_logits_take_the_loss_s_scale_and_ignore_what_follows(data):
  given = data.embeddings, data.weights
  evaluate = get_evaluation_logits("arcface+focal", scale=8.0, margin=0.2, gamma=1.0)
  np.testing.assert_allclose(
    evaluate(*given), losses.cosine_logits(*given, scale=8.0), rtol=1e-6
  )
  np.testing.assert_array_equal(
    get_evaluation_logits("focal", gamma=1.0)(data.logits), data.logits
  )
  with pytest.raises(ValueError, match="'gama'"):
    get_evaluation_logits("focal", gama=1.0)


@pytest.mark.parametrize("name", ["curricularface", "magface", "adaface+focal"])
def test_what_adapts_is_evaluated_by_scaled_cosines(data, name):
  given = data.embeddings, data.weights
  np.testing.assert_allclose(
    get_evaluation_logits(name, scale=8.0)(*given),
    losses.cosine_logits(*given, scale=8.0),
    rtol=1e-6,
  )


def test_a_margin_and_a_loss_of_one_s_own(data):
  def half(logits, labels, *, strength=0.5):
    """A margin of `strength`."""
    return logits - strength * jax.nn.one_hot(labels, logits.shape[-1])

  loss = under_margin(half, functools.partial(losses.focal, gamma=1.0), "half_focal")
  assert loss.__name__ == "half_focal"
  np.testing.assert_allclose(
    call_loss(loss, **everything(data))[0],
    losses.focal(data.logits - 0.5 * data.y.astype(np.float32), data.labels, gamma=1.0),
    rtol=1e-5,
  )


def test_what_cannot_be_composed_is_refused():
  with pytest.raises(ValueError, match=r"only a loss of logits"):
    under_margin(losses.sm_softmax_logits, losses.arcface)
  with pytest.raises(ValueError, match=r"both take margin"):
    under_margin(losses.arcface_logits, losses.sm_softmax)


def test_a_wrong_call_of_a_composed_loss_is_a_type_error(data):
  with pytest.raises(TypeError, match="labels"):
    losses.arcface(data.embeddings, data.weights)
  with pytest.raises(TypeError, match="margins"):
    losses.arcface(data.embeddings, data.weights, data.labels, margins=1)


def test_the_training_step_can_be_jitted_over_everything(data):
  loss = get_loss("mam_softmax_class_ema+center_loss")
  available = everything(
    data, state=init_state("mam_softmax_class_ema+center_loss", 7, 4)
  )
  jitted = jax.jit(functools.partial(call_loss, loss))(**available)
  plain = call_loss(loss, **available)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), jitted, plain)
  assert jnp.isfinite(jitted[0]).all()


_DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def test_the_docs_examples_run(data):
  names = everything(data) | {"kernel": data.weights}
  examples = re.findall(
    r"```python\n(.*?)```", (_DOCS / "guides" / "losses.md").read_text(), re.DOTALL
  )
  assert len(examples) == 2
  for example in examples:
    exec(example, names)
    assert "loss" in names
  top = np.sort(data.z, axis=-1)
  np.testing.assert_allclose(
    names["margin"](jnp.asarray(data.logits)),
    (top[:, -1] - top[:, -2]) / 2,
    rtol=1e-4,
  )


def test_the_docs_name_every_loss():
  text = (_DOCS / "reference" / "losses.md").read_text()
  assert {name for name in LOSSES if f"`{name}`" not in text} == set()
