"""Runs on eight devices of one process; tests/test_scale.py starts it and compares."""

import os
import pathlib
import shutil
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_config
import tiny_network
import tiny_workdir
from plane_flags import plane_flags

from emosynth_jax import losses, train_loop
from emosynth_jax.analysis.curvature import eigenvalues
from emosynth_jax.analysis.loss_landscape import surface
from emosynth_jax.models.ops import convolutions, layers
from emosynth_jax.parallel import concurrent_runs, mesh
from emosynth_jax.training.train_step import StepSetup, compile_train_steps
from emosynth_jax.workdir import record as run_record

_FOLDER = pathlib.Path(os.environ["SCALE_FOLDER"])


@pytest.fixture(scope="module", autouse=True)
def _tiny_model(tiny_networks):
  with pytest.MonkeyPatch.context() as patch:
    # So that the wide kernel of a tiny network is split as well.
    patch.setattr(mesh, "_WIDE", 60)
    yield


def _config(**changes):
  config = tiny_config.get_config()
  config.data.data_dir = str(_FOLDER / "images")
  return tiny_workdir.change(config, **changes)


def test_a_run_on_all_devices():
  assert jax.device_count() == 8
  assert train_loop.train(_config(), _FOLDER / "data_8")


def test_a_run_whose_devices_normalize_their_own_part_of_a_batch():
  assert train_loop.train(_config(batch_norm_groups=4), _FOLDER / "groups_8")


def test_two_runs_side_by_side_on_four_devices_each():
  changes = {
    "four": {},
    "grain": {"data__pipeline": "grain", "steps_per_call": 2, "mesh__model": 2},
  }
  tasks = {name: _config(**each) for name, each in changes.items()}
  groups = concurrent_runs.device_groups(jax.devices(), 2, batch_size=8, model=2)
  threads = {}

  def run(config, devices, stop):
    name = threading.current_thread().name
    threads[name] = devices
    return train_loop.train(config, _FOLDER / name, devices=devices, stop=stop)

  assert concurrent_runs.run_concurrently(run, tasks, groups) == [True, True]
  assert sorted(threads) == ["four", "grain"]
  assert not set(threads["four"]) & set(threads["grain"])
  (made,) = run_record.read_provenance(_FOLDER / "four")
  assert made["device_count"] == 4


@pytest.mark.parametrize(
  ("analyze", "changes"),
  [
    (surface.landscapes_of, {}),
    pytest.param(eigenvalues.maps_of, {}, marks=pytest.mark.slow),
    pytest.param(eigenvalues.spectra_of, {"grid": 1}, marks=pytest.mark.slow),
  ],
)
def test_points_of_a_plane_shared_out_are_those_of_one_device(
  tmp_path, analyze, changes
):
  # Nine points, and three probes, are no multiple of eight devices.
  sizes = {"images": 26, "batch_size": 13, "steps": 8, "probes": 3} | changes
  found = []
  for mapping in ("map", "devices"):
    # A workdir of its own: what is computed already would be read.
    workdir = tmp_path / mapping
    shutil.copytree(_FOLDER / "data_8", workdir)
    found += analyze([str(workdir)], plane_flags(mapping=mapping, **sizes))
  (_, alone), (_, shared) = found
  assert alone.keys() == shared.keys()
  for name, values in alone.items():
    scale = np.nanmax(np.abs(values.astype(float)))
    np.testing.assert_allclose(
      shared[name], values, rtol=1e-3, atol=1e-3 * scale, err_msg=name
    )


def test_a_failure_stops_the_runs_beside_it():
  begun, reasons = [], []

  def task(number, devices, stop):
    begun.append(number)
    if number == 1:
      while 0 not in begun:
        time.sleep(0.01)
      raise ValueError("of one run")
    while not stop.number:
      time.sleep(0.01)
    reasons.append(stop.reason)
    raise TypeError("on the way down")

  groups = [[device] for device in jax.devices()[:2]]
  tasks = {f"seed {i}": i for i in range(4)}
  with pytest.raises(ValueError, match="of one run"):
    concurrent_runs.run_concurrently(task, tasks, groups)
  assert sorted(begun) == [0, 1]  # nothing more is begun
  assert reasons == ["the failure of seed 1"]


def test_the_wide_kernel_and_its_moments_are_split_over_the_model_axis():
  placement = mesh.build_placement(2)
  assert dict(placement.mesh.shape) == {"data": 4, "model": 2}
  state = tiny_network.create_state()
  state = placement.put(state, placement.state(state))
  split = {
    jax.tree_util.keystr(path): leaf.addressable_shards[0].data.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    if not leaf.is_fully_replicated
  }
  assert len(split) == 3  # the kernel and Adam's two moments
  assert all("'Dense_0'" in name and shape == (8, 5) for name, shape in split.items())
  for leaf, placed in zip(
    jax.tree.leaves(tiny_network.create_state()), jax.tree.leaves(state), strict=True
  ):
    np.testing.assert_array_equal(mesh.whole(placed), leaf)


def test_images_are_padded_and_split_and_the_padding_is_never_drawn():
  placement = mesh.build_placement()
  images, _ = tiny_network.random_images(21)
  placed = placement.put_images(np.asarray(images))
  assert placed.shape == (24, 4, 4, 1)
  assert {shard.data.shape for shard in placed.addressable_shards} == {(3, 4, 4, 1)}
  np.testing.assert_array_equal(np.asarray(placed)[:21], images)
  assert not np.asarray(placed)[21:].any()
  assert placement.own_rows(21) == range(21)


def test_no_device_ever_holds_the_whole_split():
  """The batch is found by each device in its own part: no gathering of all images."""
  placement = mesh.build_placement()
  number = 8 * 100
  images, labels = tiny_network.random_images(number)
  state = tiny_network.create_state()
  shardings = placement.state(state)
  setup = StepSetup(
    model=tiny_network.TinyNetwork(),
    loss=losses.get_loss("cross_entropy"),
    evaluation_logits=losses.get_evaluation_logits("cross_entropy"),
    optimizer=tiny_network.build_optimizer(),
    augment=lambda key, x: x.astype(jnp.float32),
    class_weights=np.ones(3, np.float32),
  )
  steps = compile_train_steps(
    setup, batch_size=16, placement=placement, shardings=shardings
  )
  program = steps.lower(
    placement.put(state, shardings),
    placement.put_images(np.asarray(images)),
    placement.put(labels),
    num_steps=2,
  ).compile()
  text = program.as_text()
  assert "u8[100,4,4,1]" in text  # a device's own part
  assert "u8[800,4,4,1]" not in text
  assert "u8[16,4,4,1]" in text  # a batch, which they add up
  assert "all-reduce" in text


@pytest.mark.parametrize(
  "layer",
  [
    layers.Conv(48),  # by Winograd's products, parts of the batch in turn
    convolutions.Convolution(48, depthwise=True),
  ],
)
def test_each_device_convolves_its_own_images_alone(layer):
  """CPU forms have loops over images, which are not to be those of all devices."""
  placement = mesh.build_placement()
  images = jnp.asarray(np.random.default_rng(0).normal(size=(256, 16, 16, 48)), "f4")
  params = layer.init(jax.random.key(0), images[:1])

  def gradients(params, images):
    squares = lambda p, x: jnp.sum(layer.apply(p, x) ** 2)  # noqa: E731
    return jax.grad(squares, argnums=(0, 1))(params, images)

  everywhere, split = placement.replicate, placement.rows
  program = jax.jit(
    mesh.on_mesh(placement, gradients),
    in_shardings=(everywhere, split),
    out_shardings=(everywhere, split),
  )
  text = program.lower(params, images).compile().as_text()
  assert "while(" in text
  assert "all-reduce" in text  # of the kernel's gradient
  assert "all-gather" not in text
  assert "all-to-all" not in text
  placed = jax.device_put(params, everywhere), jax.device_put(images, split)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * abs(b).max()),
    program(*placed),
    jax.jit(gradients)(params, images),
  )


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
  with pytest.raises(
    ValueError, match=r"multiple of 8.*got 12; the nearest is 8 or 16"
  ):
    train_loop.train(_config(batch_size=12), tmp_path)
  with pytest.raises(ValueError, match=r"mesh\.model: expected a divisor of the 8"):
    train_loop.train(_config(mesh__model=3), tmp_path)


def test_a_model_group_that_lies_across_processes_is_refused():
  devices = [
    types.SimpleNamespace(process_index=i // 2, id=i % 2, platform="cpu")
    for i in range(6)
  ]
  with pytest.raises(ValueError, match=r"a multiple of the 2 devices of a process"):
    mesh.build_mesh(3, devices)


def test_tasks_run_concurrently_on_devices_of_their_own():
  groups = concurrent_runs.device_groups(jax.devices(), 3, batch_size=8)
  assert [len(group) for group in groups] == [4, 4]
  seen = []

  def task(number, devices, stop):
    seen.append(devices)
    (device,) = (jnp.ones(3) * number).devices()
    assert device == devices[0]
    return number * 10

  tasks = {f"seed {i}": i for i in range(3)}
  assert concurrent_runs.run_concurrently(task, tasks, groups) == [0, 10, 20]
  assert all(devices in groups for devices in seen)
