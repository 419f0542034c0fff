"""A network with NaN is refused before anything is computed with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax import train_loop
from emosynth_jax.analysis import cross_dataset, deletion, trained_run
from emosynth_jax.analysis.embeddings import command as embeddings_command
from emosynth_jax.analysis.gradcam import command as gradcam_command
from emosynth_jax.bundle import calibrate
from emosynth_jax.report import predictions
from emosynth_jax.training import build, finite, initialization, restore
from emosynth_jax.workdir.checkpoints import Checkpoints


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_that_is_not_finite_is_named(value):
  tree = {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)).at[1, 2].set(value)}}}
  message = r"^runs/a: params/Dense_0/kernel has 1 of 6 numbers that are not finite"
  with pytest.raises(ValueError, match=message):
    finite.check_finite(tree, "runs/a")
  finite.check_finite({"params": {"kernel": jnp.ones(2), "none": jnp.zeros(0)}}, "x")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, tiny_networks):
  """A run whose best checkpoint has NaN in a kernel."""
  folder = tmp_path_factory.mktemp("nan")
  config = tiny_workdir.config(num_epochs=1)
  train_loop.train(config, folder)
  built = build.build_experiment(config, image_shape=(48, 48, 1), num_classes=7)
  checkpoints = Checkpoints(folder, keep=2)
  state = checkpoints.restore("best", build.state_shapes(built))
  params = jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params)
  checkpoints.rewind(0)
  checkpoints.save("best", state.replace(params=params))
  checkpoints.close()
  return folder


@pytest.mark.parametrize(
  "compute",
  [
    lambda w: restore.load_network(w, "test", None, dtype=None),
    lambda w: trained_run.load_run(w),
    lambda w: calibrate.read_workdir(w),
    lambda w: predictions.compute_answers(w, "test", data_dir=None, batch_size=7),
    lambda w: initialization.init_from(
      w,
      tiny_network.create_state(),
      class_names=("angry",),
      model={"name": "tiny", "features": 4, "dtype": "float32"},
    ),
  ],
  ids=["network", "landscape and curvature", "bundle", "report", "init_from"],
)
def test_nothing_is_computed_with_such_a_network(workdir, compute):
  before = sorted(workdir.rglob("*"))
  with pytest.raises(ValueError, match="numbers that are not finite: the training di"):
    compute(workdir)
  assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize(
  "module", [cross_dataset, deletion, embeddings_command, gradcam_command]
)
def test_the_other_analyses_load_it_by_the_same_function(module):
  """Those that load a network by themselves would have to check it themselves."""
  assert module.load_network is restore.load_network
  assert not hasattr(module, "Checkpoints")
