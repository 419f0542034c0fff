"""Runs that start from a file of torch's weights, behind normalized inputs."""

import gzip
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_weights

from emosynth_jax.config import defaults
from emosynth_jax.models import build_model, from_torch
from emosynth_jax.models.normalized_inputs import NormalizedInputs
from emosynth_jax.training import build, initialization

_GOLDEN = pathlib.Path(__file__).parent / "golden" / "small.json.gz"
_MEAN, _STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def small():
  network = build_model("fer_vgg", num_classes=3, width=1 / 32, dense_features=(4,))
  images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
  return network, images


def test_normalized_inputs_are_the_networks_own_with_its_variables(small):
  network, images = small
  init = lambda m: jax.jit(lambda k: m.init(k, images, train=False))  # noqa: E731
  normalized = NormalizedInputs(network, _MEAN, _STD)
  variables = init(normalized)(jax.random.key(0))
  jax.tree.map(
    np.testing.assert_array_equal, variables, init(network)(jax.random.key(0))
  )
  by_hand = np.stack(
    [(np.asarray(images[..., c]) - _MEAN[c]) / _STD[c] for c in range(3)], axis=-1
  )
  ours, _ = jax.jit(lambda x: normalized.apply(variables, x, train=False))(images)
  expected, _ = jax.jit(lambda x: network.apply(variables, x, train=False))(by_hand)
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("mean", "std", "message"),
  [
    ((0.5,), (0.2,), r"input\.mean: expected 3 numbers"),
    (_MEAN, (0.2, 0.0, 0.3), r"input\.std: expected numbers above 0"),
  ],
)
def test_numbers_that_fit_no_image_are_refused(small, mean, std, message):
  network, images = small
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda x: NormalizedInputs(network, mean, std).init(
        jax.random.key(0), x, train=False
      ),
      images,
    )


def test_a_run_starts_from_the_file(tmp_path, caplog):
  cases = json.loads(gzip.decompress(_GOLDEN.read_bytes()))["cases"]
  case = next(c for c in cases if c["oracle"] == "torchvision resnet18, small")
  state_dict = torch_weights.weights(case["shapes"])
  np.savez(tmp_path / "resnet18.npz", **state_dict)
  config = defaults.get_default_config()
  config.model = {"name": case["network"], "dtype": "float32", **case["arguments"]}
  config.input.mean, config.input.std = _MEAN, _STD
  config.ema_decay = 0.9
  config.pretrained.file = str(tmp_path / "resnet18.npz")
  defaults.check_config(config)
  # Seven classes, where the file has another number.
  built = build.build_experiment(config, image_shape=(32, 32, 3), num_classes=7)
  # Drawn, since compiling the network's own initial values takes seconds.
  rng = np.random.default_rng(0)
  state = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype),
    build.state_shapes(built),
  )
  with caplog.at_level("INFO", logger="absl"):
    started = initialization.start_from_file(
      config.pretrained.file, state, model=built.model, keep=("stem_conv",)
    )
  assert "Randomly initialized: logits, stem_conv;" in caplog.text
  for layer in ("logits", "stem_conv"):
    jax.tree.map(
      np.testing.assert_array_equal, started.params[layer], state.params[layer]
    )
  expected = from_torch.convert(
    built.model.network, state_dict, state.variables, keep=("stem_conv",)
  ).variables
  jax.tree.map(np.testing.assert_array_equal, dict(started.params), expected["params"])
  jax.tree.map(
    np.testing.assert_array_equal, dict(started.batch_stats), expected["batch_stats"]
  )
  # The averages start anew from there.
  for leaf, other in zip(
    jax.tree.leaves(started.evaluation_variables["params"]),
    jax.tree.leaves(started.params),
    strict=True,
  ):
    np.testing.assert_array_equal(leaf, other)
  assert isinstance(jax.tree.leaves(started.params)[0], jnp.ndarray)


def test_settings_that_contradict_each_other_are_refused():
  config = defaults.get_default_config()
  config.init_from, config.pretrained.file = "runs/one", "weights.npz"
  with pytest.raises(ValueError, match=r"config\.pretrained\.file"):
    defaults.check_config(config)
  config = defaults.get_default_config()
  config.input.mean = (0.5,)
  with pytest.raises(ValueError, match=r"config\.input\.std"):
    defaults.check_config(config)
