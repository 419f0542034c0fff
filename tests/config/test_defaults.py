"""Defaults, variants, and what check_config refuses."""

import importlib.util
import itertools
import pathlib
import re

import ml_collections
import pytest

from emosynth_jax import losses, models
from emosynth_jax.config import defaults, settings, types
from emosynth_jax.config import variants as config_variants
from emosynth_jax.training import build

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
_FILES = sorted(path.stem for path in _CONFIGS.glob("*.py"))
_VARIANTS = ("small", "strong", "thesis", "ce", "mse", "sce", "mam")


def _get_config(name, variants=None):
  spec = importlib.util.spec_from_file_location(name, _CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(variants)


def _with(path, value):
  """The default config with one setting changed, whatever its type."""
  config = defaults.get_default_config()
  parent, _, key = path.rpartition(".")
  holder = config
  for part in filter(None, parent.split(".")):
    holder = holder[part]
  with holder.ignore_type():
    holder[key] = value
  return config


def test_the_defaults_are_valid():
  defaults.check_config(defaults.get_default_config())


@pytest.mark.parametrize("name", _FILES)
def test_every_config_loads_with_every_variant(name):
  assert {"cifar10", "fer2013", "mnist", "svhn", "synthetic_faces"} <= set(_FILES)
  for variants in (None, "", *_VARIANTS, *itertools.combinations(_VARIANTS, 2)):
    if isinstance(variants, tuple):
      if {"strong", "thesis"} <= set(variants):  # Two recipes: refused below.
        continue
      variants = ",".join(variants)
    config = _get_config(name, variants)
    defaults.check_config(config)
    assert config.is_locked
    assert config.data.name == name
    losses.get_loss(**config.loss)
    # The docstring's promise of what fits two cores.
    assert (config.model.width < 0.5) == ("small" in (variants or ""))


def test_variants_apply_in_order_and_a_loss_is_replaced_whole():
  config = defaults.get_default_config()
  variants = config_variants.loss_variants() | {
    "focal": {"loss": {"name": "focal", "gamma": 1.0}},
    "wide": {"model": {"width": 2.0}, "batch_size": 8},
    "narrow": {"model": {"width": 0.5}},
  }
  config = config_variants.apply_variants(config, variants, "focal,wide,mam,narrow")
  assert config.loss.to_dict() == {"name": "mam_softmax"}
  assert (config.model.width, config.batch_size) == (0.5, 8)
  assert config.model.dropout_rate == (defaults.get_default_config().model.dropout_rate)


def test_the_modern_recipe_joins_a_small_network_and_a_loss():
  small, strong = _get_config("fer2013", "small"), _get_config("fer2013", "strong")
  both = _get_config("fer2013", "small,strong,mam")
  assert both.loss.to_dict() == {"name": "mam_softmax"}
  assert strong.loss.to_dict() == {"name": "label_smoothing", "smoothing": 0.1}
  for path in ("model", "num_epochs", "batch_size"):
    assert both[path] == small[path]
  for path in ("optimizer", "schedule", "augment", "ema_decay", "class_weights"):
    assert both[path] == strong[path]
  assert both.plateau.patience == both.early_stop_patience == 0


def test_every_network_is_a_variant_with_a_small_form():
  assert set(config_variants.network_variants()) == set(models.MODELS)
  for name in models.MODELS:
    for variants in (name, f"{name},small,strong,mam"):
      arguments = dict(_get_config("cifar10", variants).model)
      # An argument of another network would be refused.
      model = models.build_model(arguments.pop("name"), num_classes=10, **arguments)
      assert isinstance(model, models.MODELS[name])
      assert (model.width < 1) == ("small" in variants)


@pytest.mark.parametrize("name", ["mnist", "svhn"])
def test_digits_are_never_mirrored(name):
  for variants in (None, "strong", "thesis"):
    config = _get_config(name, variants)
    assert not config.augment.flip
    assert config.eval_augment == "none"


@pytest.mark.parametrize("name", ["fer2013", "raf_db", "ck_plus"])
def test_faces_are_trained_by_the_thesis_method_and_compared_with_cross_entropy(name):
  default = _get_config(name)
  assert default.loss.to_dict() == {"name": "mam_softmax+sce_loss"}
  assert _get_config(name, "ce").loss.to_dict() == {"name": "cross_entropy"}
  # One recipe for all widths, and for both losses.
  for variants in ("ce", "small", "small,ce"):
    config = _get_config(name, variants)
    for path in ("optimizer", "schedule", "augment", "ema_decay", "class_weights"):
      assert config[path] == default[path], path
    # What keeps the widest layer from diverging, see tests/training/test_optimizers.py.
    assert config.optimizer.learning_rate * config.optimizer.base_fan_in < 1


@pytest.mark.parametrize("name", ["fer2013", "cifar10", "mnist"])
def test_the_thesis_recipe_is_as_printed(name):
  """Section 3.3.2: Adam, 0.001, 0.1 after 5 epochs, 100 epochs, 0.2, 1/255, 1/512."""
  config = _get_config(name, "thesis")
  assert (config.optimizer.name, config.optimizer.b1) == ("adam", 0.9)
  assert config.optimizer.learning_rate == 0.001
  assert config.optimizer.base_fan_in == 0
  assert (config.schedule.name, config.schedule.warmup_epochs) == ("constant", 0)
  assert (config.plateau.factor, config.plateau.patience) == (0.1, 5)
  assert (config.num_epochs, config.early_stop_patience) == (100, 0)
  assert (config.input.scale, config.input.second_scale) == (1 / 255, 1 / 512)
  assert 0 < config.input.second_scale_epoch < config.num_epochs
  # Keras's shear_range is in degrees: rows 48 pixels apart move by a sixth of a pixel.
  assert config.augment.zoom == 0.2
  assert 48 * config.augment.shear == pytest.approx(
    48 * 0.2 * 3.14159265 / 180, rel=1e-4
  )
  assert config.augment.flip == (name != "mnist")
  for setting in ("shift", "rotation", "erasing_probability", "cutout_side"):
    assert not config.augment[setting]
  assert config.mixup_alpha == config.ema_decay == config.augment.crop_padding == 0
  assert config.class_weights == ("balanced" if name == "fer2013" else "none")


def test_two_recipes_at_once_are_refused():
  with pytest.raises(
    ValueError, match="strong and thesis are alternative recipes; choose one"
  ):
    _get_config("fer2013", "strong,thesis")


@pytest.mark.parametrize(
  ("names", "right"),
  [
    ("strong,small", "small,strong"),
    ("thesis,small", "small,thesis"),
    ("ce,thesis", "thesis,ce"),
    ("mam,strong", "strong,mam"),
    ("small,mam,strong", "small,strong,mam"),
    ("sce,strong,small", "small,strong,sce"),
    ("small,mam_sce,resnet18", "resnet18,small,mam_sce"),
  ],
)
def test_an_order_that_overrides_a_variant_is_refused_with_the_right_one(names, right):
  with pytest.raises(
    ValueError, match=rf"{names} would override .* the order {right} \("
  ):
    _get_config("cifar10", names)
  _get_config("cifar10", right)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"data.label_noise.rate": 0.1, "data.label_noise.confusion": ("a:b:0.1",)},
      r"config\.data\.label_noise: expected rate \(.*\) or confusion, got both",
    ),
    (
      {"optimizer.name": "adam", "optimizer.weight_decay": 1e-4},
      r"config\.optimizer\.weight_decay: expected 0 for \"adam\", got 0\.0001;",
    ),
    (
      {"num_epochs": 3, "schedule.warmup_epochs": 3.0},
      r"config\.schedule\.warmup_epochs: expected fewer than .*num_epochs, 3, got 3",
    ),
    (
      {"num_epochs": 3, "sam.radius": 0.05, "sam.first_epoch": 4},
      r"config\.sam\.first_epoch: expected at most config\.num_epochs, 3, got 4",
    ),
    (
      {"num_epochs": 3, "progressive_resizing.epochs": 3},
      r"config\.progressive_resizing\.epochs: expected fewer than .*num_epochs, 3, got",
    ),
    (
      {"schedule.name": "cosine"},
      r"config\.plateau\.patience: expected 0 \(off\) beside a cosine",
    ),
  ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
  config = defaults.get_default_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    defaults.check_config(config)


def test_settings_that_suit_each_other_pass():
  config = defaults.get_default_config()
  config.data.label_noise.confusion = ("a:b:0.1",)
  config.optimizer.update({"name": "adamw", "weight_decay": 1e-4})
  # A run of one epoch has a warm-up of half an epoch, whatever it is set to.
  config.update({"num_epochs": 1, "schedule": {"warmup_epochs": 3.0}})
  defaults.check_config(config)


@pytest.mark.parametrize("names", ["mma", "small,mma", "Mam"])
def test_an_unknown_variant_lists_the_known_ones(names):
  known = "all_cnn, ce, .*, small, strong, thesis, vgg19"
  with pytest.raises(ValueError, match=f"did you mean mam.* Known: {known}"):
    _get_config("mnist", names)


def test_a_typing_error_in_a_config_is_refused_at_once():
  config = _get_config("mnist")
  with pytest.raises((AttributeError, KeyError), match="learning_rat"):
    config.optimizer.learning_rat = 1e-3
  with pytest.raises(TypeError):
    config.batch_size = "many"


@pytest.mark.parametrize("path", ["bach_size", "optimizer.learning_rat", "data.dir"])
def test_an_unknown_setting_is_refused_and_the_known_ones_listed(path):
  where = "config." + path if "." in path else "config"
  parent, key = where.rpartition(".")[0] or where, path.rpartition(".")[2]
  with pytest.raises(ValueError, match=rf"{parent}: unknown settings \['{key}'\]; the"):
    defaults.check_config(_with(path, 3))


def test_a_missing_setting_is_refused():
  config = defaults.get_default_config()
  del config.plateau.patience
  with pytest.raises(ValueError, match=r"config.plateau: settings \['patience'\] are"):
    defaults.check_config(config)
  for part, key in (("model", "name"), ("model", "dtype"), ("loss", "name")):
    config = defaults.get_default_config()
    del config[part][key]
    with pytest.raises(ValueError, match=rf"config.{part}: settings \['{key}'\] are"):
      defaults.check_config(config)


def test_arguments_of_a_loss_a_model_or_a_loader_are_not_its_business():
  config = _get_config("mnist")
  for holder in (config.loss, config.model, config.data.options):
    holder.anything = 3
  defaults.check_config(config)


@pytest.mark.parametrize(
  ("path", "value", "expected"),
  [
    ("seed", -1, "at least 0"),
    ("seed", 2**32, "less than 4294967296"),
    ("data.seed", -1, "at least 0"),
    ("data.limit", -1, "at least 0"),
    ("data.test_split", "train", "one of"),
    ("model.dtype", "float16", "one of"),
    ("class_weights", "inverse", "one of"),
    ("optimizer.learning_rate", 0.0, "more than 0"),
    ("optimizer.learning_rate", float("nan"), "more than 0"),
    ("optimizer.learning_rate", float("inf"), "more than 0"),
    ("num_epochs", 10**30, "at least 1"),
    ("optimizer.b1", 1.0, "less than 1"),
    ("optimizer.b2", -0.1, "at least 0"),
    ("optimizer.gradient_clip", -1.0, "at least 0"),
    ("optimizer.base_fan_in", -1, "at least 0"),
    ("plateau.factor", 1.0, "less than 1"),
    ("plateau.factor", 0.0, "more than 0"),
    ("plateau.patience", -1, "at least 0"),
    ("optimizer.name", "adagrad", "one of"),
    ("optimizer.momentum", 1.0, "less than 1"),
    ("optimizer.weight_decay", -1e-4, "at least 0"),
    ("sam.radius", -0.05, "at least 0"),
    ("sam.first_epoch", 0, "at least 1"),
    ("schedule.name", "step", "one of"),
    ("schedule.warmup_epochs", -1.0, "at least 0"),
    ("schedule.final_scale", 1.5, "at least 0 and at most 1"),
    ("ema_decay", 1.0, "less than 1"),
    ("augment.crop_fill", "wrap", "one of"),
    ("eval_augment", "five_crop", "one of"),
    ("plateau.min_improvement", 0.0, "more than 0"),
    ("plateau.min_scale", 2.0, "less than 1"),
    ("input.scale", 0.0, "more than 0"),
    ("input.second_scale", -1.0, "more than 0"),
    ("input.second_scale_epoch", -1, "at least 0"),
    ("input.equalize", "sometimes", "one of .*'none', 'always', 'random'"),
    ("input.equalize", True, "one of"),
    ("input.equalize_share", 0.0, "more than 0"),
    ("input.equalize_share", 1.0, "less than 1"),
    ("input.equalize_share", float("nan"), "more than 0"),
    ("mixup_alpha", -0.2, "at least 0"),
    ("batch_size", 0, "at least 1"),
    ("eval_batch_size", 0, "at least 1"),
    ("num_epochs", 0, "at least 1"),
    ("early_stop_patience", -1, "at least 0"),
    ("selection_metric", "acc", "one of"),
    ("checkpoint.keep", 0, "at least 1"),
    ("checkpoint.minutes", -1.0, "at least 0"),
    ("steps_per_call", -1, "at least 0"),
    ("mesh.model", 0, "at least 1"),
    ("data.validation_fraction", 1.0, "less than 1"),
    ("data.near_duplicates.min_correlation", 1.5, "at most 1"),
    ("data.near_duplicates.max_distance", 32, "less than 32"),
    ("data.drop_duplicates", "yes", "True or False"),
    ("model.width", 0.0, "more than 0"),
    ("model.dense_features", (64, 0), "each value a whole number, at least 1"),
    ("input.std", (0.5, float("nan")), "each value a number, more than 0"),
    ("input.std", ("a",), r"got \('a',\)"),
    ("input.mean", ("a",), r"got \('a',\)"),
    ("augment.rotation", 200.0, "at most 180"),
    ("augment.flip", 1, "True or False"),
    ("batch_size", True, "a whole number"),
    ("init_from", None, "a string"),
  ],
)
def test_an_impossible_value_is_refused_by_name(path, value, expected):
  with pytest.raises(ValueError, match=rf"^config\.{path}: expected .*{expected}"):
    defaults.check_config(_with(path, value))


def test_every_setting_is_declared_with_a_check_and_one_sentence_of_help():
  values = defaults.flatten(defaults.get_default_config().to_dict())
  assert set(values) == set(settings.SETTINGS)
  for path, default, text in settings.describe():
    setting = settings.SETTINGS[path]
    assert values[path] == default, path
    assert setting.check.accepts(default), path
    assert not setting.check.accepts(None), path
    assert setting.affects in settings.AFFECTS, path
    # A sentence: no other one starts within it.
    assert re.fullmatch(r"[A-Z\"](?:(?!\. [A-Z]).)+\.", setting.help), path
    assert text.startswith(setting.help)
    assert setting.check.describe() in text


def test_settings_without_effect_on_a_training_are_these():
  """A run resumes with another value of them, and a seed's report is kept for cost's.

  A setting that changes the training must never come here.
  """
  assert settings.affecting("report") == {
    *("data.test_split", "early_stop_patience", "eval_augment"),
    *("evaluate_deduplicated", "num_epochs"),
  }
  assert settings.affecting("cost") == {
    *("checkpoint.keep", "checkpoint.min_seconds", "checkpoint.minutes"),
    *("data.data_dir", "data.pipeline", "data.resident_gib"),
    *("mesh.model", "steps_per_call", "tensorboard"),
    *(f"wandb.{name}" for name in ("entity", "group", "mode", "name", "project")),
  }


def test_an_argument_of_another_network_is_not_the_default_networks_business():
  config = _get_config("mnist", "resnet18")
  assert "dense_features" not in config.model
  defaults.check_config(config)
  config.model.dtype = "float16"
  with pytest.raises(ValueError, match="dtype: expected one of"):
    defaults.check_config(config)


def test_a_part_that_became_a_value_is_refused():
  config = _with("plateau", ml_collections.ConfigDict())
  with pytest.raises(ValueError, match=r"config.plateau: settings .* are missing"):
    defaults.check_config(config)


@pytest.mark.parametrize(
  ("section", "changes", "expected"),
  [
    ("model", {"dense_features": ("a", "b")}, r"model\.dense_features: .*whole number"),
    ("model", {"dense_features": 64}, r"model\.dense_features: .*, got 64"),
    ("model", {"width": "wide"}, r"model\.width: expected a number.*got 'wide'"),
    ("model", {"name": "resnet18", "norm_momentum": "a"}, r"model\.norm_momentum: "),
    ("loss", {"name": "arcface", "scale": "a"}, r"loss\.scale: expected a number"),
    ("loss", {"name": "arcface", "easy_margin": 3}, r"easy_margin: expected True or"),
  ],
)
def test_arguments_of_another_type_are_named(section, changes, expected):
  config = defaults.get_default_config()
  part = {} if "name" in changes else config[section].to_dict()
  if section == "model":
    part |= {"dtype": "float32"}
  config[section] = ml_collections.ConfigDict(part | changes)
  with pytest.raises(ValueError, match=expected):
    _build(config)


def _build(config):
  defaults.check_config(config)
  build.build_experiment(config, image_shape=(48, 48, 1), num_classes=7)


def test_a_number_for_each_class_is_an_argument_too():
  types.as_typed("config.loss", {"alpha": (0.1, 0.9)}, {"alpha": 1.0})
  types.as_typed("config.loss", {"scale": 30, "steps": [1]}, {"scale": 1.0})
