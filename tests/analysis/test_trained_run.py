"""From a workdir to landscape and curvature: files, reuse, refusals."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from absl import flags
from PIL import Image
from plane_flags import plane_flags

from emosynth_jax.analysis import cli, directions, trained_run
from emosynth_jax.analysis.curvature import command as curvature_command
from emosynth_jax.analysis.curvature import eigenvalues
from emosynth_jax.analysis.loss_landscape import command as landscape_command
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.analysis.loss_landscape import surface
from emosynth_jax.config import defaults
from emosynth_jax.config.stored import read_config
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.parallel import batched_map
from emosynth_jax.training.restore import load_network
from emosynth_jax.workdir import record as run_record


def _dataset(seed):
  return tiny_workdir.dataset(50, seed=seed, split="train")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: _dataset(config.data.seed))


def _write_run(workdir, *, seed, loss="cross_entropy", data_seed=0):
  config = defaults.get_default_config()
  config.model = {
    "name": "tiny",
    "features": 5,
    "dropout_rate": 0.9,
    "dtype": "bfloat16",
  }
  config.loss = {"name": loss}
  config.data.seed = data_seed
  state = tiny_network.create_state(seed=seed)
  # Statistics that are no batch's own.
  statistics = jax.tree.map(lambda x: x + 0.5, state.batch_stats)
  state = state.replace(batch_stats=statistics, best_epoch=jnp.int32(4))
  tiny_workdir.write(workdir, config, state, {"train": _dataset(data_seed)})


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory, tiny_networks):
  folders = [tmp_path_factory.mktemp(name) for name in ("ce", "mam", "other")]
  _write_run(folders[0], seed=0)
  _write_run(folders[1], seed=1, loss="mam_softmax")
  _write_run(folders[2], seed=1, data_seed=1)
  return [str(folder) for folder in folders]


def _logits(params, statistics, images):
  """TinyNetwork in NumPy; without statistics, by those of the batch."""
  x = np.asarray(images, np.float64).reshape(len(images), -1) / 255
  x = x @ np.float64(params["Dense_0"]["kernel"])
  mean, var = (
    (x.mean(axis=0), x.var(axis=0))
    if statistics is None
    else (statistics["mean"], statistics["var"])
  )
  x = (x - mean) / np.sqrt(var + 1e-5) * params["BatchNorm_0"]["scale"]
  x = x + params["BatchNorm_0"]["bias"]
  x = np.where(x > 0, x, np.expm1(x))
  return x @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]


@pytest.mark.parametrize("batch_norm", trained_run.BATCH_NORMS)
def test_loss_and_accuracy_are_those_of_plain_numpy(workdirs, batch_norm):
  run = trained_run.load_run(
    workdirs[0], num_images=40, batch_size=16, batch_norm=batch_norm
  )
  # 40 images in batches of one size, the largest up to 16 that leaves none over.
  assert run.batches[1].shape == (4, 10)
  assert run.facts["num_images"] == 40
  assert run.facts["best_epoch"] == 4
  measure = jax.jit(run.measure)
  statistics = jax.device_get(run.constants["batch_stats"]["BatchNorm_0"])
  params = jax.device_get(run.params)
  for images, labels in zip(*map(np.asarray, run.batches), strict=True):
    found = measure(run.params, run.constants, (images, labels))
    logits = _logits(params, None if batch_norm == "batch" else statistics, images)
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(10), labels]
    assert float(found["loss"]) == pytest.approx(loss.mean(), rel=1e-4)
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    assert float(found["accuracy"]) == pytest.approx(accuracy, abs=1e-6)


def test_images_are_drawn_once_and_alike(workdirs):
  dataset = _dataset(0)
  images, labels = trained_run.choose_images(dataset, 30, 8)
  assert images.shape[:2] == labels.shape == (5, 6)
  again, _ = trained_run.choose_images(dataset, 30, 8)
  np.testing.assert_array_equal(again, images)
  assert len(np.unique(images.reshape(30, -1), axis=0)) == 30
  everything, _ = trained_run.choose_images(dataset, 1000, 1000)
  assert everything.shape[:2] == (1, 50)


@pytest.mark.parametrize(
  ("total", "batch", "shape"),
  [
    (1024, 10, (128, 8)),
    (1024, 256, (4, 256)),
    (1021, 10, (102, 10)),
    (300, 256, (2, 150)),
    (3, 256, (1, 3)),
    (7, 1, (7, 1)),
  ],
)
def test_fewer_images_than_a_batch_are_left_over(total, batch, shape):
  names = tuple(map(str, range(total)))
  dataset = from_arrays(np.zeros((total, 1, 1), np.uint8), np.arange(total), names)
  _, labels = trained_run.choose_images(dataset, total, batch)
  assert labels.shape == shape
  assert len(np.unique(labels)) == labels.size > total - batch


def test_a_comparison_has_each_network_at_its_middle_and_the_same_scale(workdirs):
  given = plane_flags(workdir=workdirs[0], compare=[workdirs[1]])
  landscape_command.draw_all(given)
  found = surface.landscapes_of(workdirs[:2], given)
  for workdir, (record, arrays) in zip(workdirs, found, strict=False):
    run = trained_run.load_run(workdir, num_images=40, batch_size=16)
    each = [
      run.measure(run.params, run.constants, (images, labels))
      for images, labels in zip(*run.batches, strict=True)
    ]
    expected = np.mean([float(one["loss"]) for one in each])
    assert arrays["loss"].shape == (3, 3)
    assert arrays["loss"][1, 1] == pytest.approx(expected, rel=1e-5)
    assert record["loss_at_network"] == pytest.approx(expected, rel=1e-5)
    assert len(np.unique(arrays["loss"])) == 9
    np.testing.assert_array_equal(arrays["axis"], np.float32([-0.5, 0, 0.5]))
    assert record["settings"]["batch_norm"] == "running"
    assert "commit" in record["computed_by"]
  # Rows belong to the first direction: a line along it is the middle column.
  ((line, values),) = surface.landscapes_of(
    [workdirs[1]], plane_flags(dimensions=1, directions=_directions(workdirs[1]))
  )
  np.testing.assert_allclose(values["loss"], found[1][1]["loss"][:, 1], rtol=1e-5)
  assert line["settings"]["dimensions"] == 1
  levels = landscape_plots.common_levels([arrays["loss"] for _, arrays in found])
  losses = np.stack([arrays["loss"] for _, arrays in found])
  assert levels[0] <= losses.min()
  assert levels[-1] >= losses.max()
  folder = pathlib.Path(workdirs[0])
  for kind in ("", "_comparison"):
    for plot in ("contour", "surface"):
      with Image.open(folder / f"loss_landscape{kind}_{plot}.png") as image:
        assert image.width > 400


def test_other_settings_and_a_line_leave_a_finished_plane_as_it_is(
  workdirs, monkeypatch
):
  workdir, folder = workdirs[1], pathlib.Path(workdirs[1])
  given = plane_flags(workdir=workdir, seed=7)
  landscape_command.draw_all(given)
  first, values = surface.landscapes_of([workdir], given)[0]
  names = ("loss_landscape.json", "loss_landscape.npz", "loss_landscape_contour.png")
  before = [(folder / name).read_bytes() for name in names]
  landscape_command.draw_all(plane_flags(workdir=workdir, seed=7, dimensions=1))
  assert (folder / "loss_line.png").is_file()
  assert [(folder / name).read_bytes() for name in names] == before
  surface.landscapes_of([workdir], plane_flags(workdir=workdir, seed=8))
  # Drawn of the new plane or not at all.
  assert not (folder / "loss_landscape_contour.png").exists()
  monkeypatch.setattr(batched_map, "run_in_chunks", None)
  again, found = surface.landscapes_of([workdir], given)[0]
  assert again == json.loads(json.dumps(first))
  np.testing.assert_array_equal(found["loss"], values["loss"])


def test_the_screen_says_how_many_images(workdirs, capsys):
  landscape_command.draw_all(plane_flags(workdir=workdirs[0], images=47, dimensions=1))
  # Three batches of 15 leave the fewest over.
  assert "on 45 images of train" in capsys.readouterr().out


def _directions(workdir):
  return f"{workdir}/loss_landscape_directions.npz"


def test_a_landscape_of_the_same_settings_is_read_and_of_others_is_not(
  workdirs, monkeypatch
):
  given = plane_flags(workdir=workdirs[2], dimensions=1)
  first, _ = surface.landscapes_of([workdirs[2]], given)[0]

  def computed(*args, **kwargs):
    raise InterruptedError

  monkeypatch.setattr(batched_map, "run_in_chunks", computed)
  again, _ = surface.landscapes_of([workdirs[2]], given)[0]
  assert again == json.loads(json.dumps(first))
  for change in ({"seed": 1}, {"range": 0.25}, {"batch_norm": "batch"}, {"grid": 5}):
    with pytest.raises(InterruptedError):
      surface.landscapes_of([workdirs[2]], plane_flags(dimensions=1, **change))


def test_runs_on_other_images_are_refused_before_anything_is_computed(
  workdirs, monkeypatch
):
  def computed(*args, **kwargs):
    raise InterruptedError

  monkeypatch.setattr(batched_map, "run_in_chunks", computed)
  given = {"workdir": workdirs[0], "compare": [workdirs[2]], "seed": 5}
  for draw, changes in (
    (landscape_command.draw_all, {"dimensions": 1}),
    (landscape_command.draw_all, {}),
    (curvature_command.draw_all, {"grid": 1}),
    (curvature_command.draw_all, {}),
  ):
    with pytest.raises(ValueError, match="has different images in its train split"):
      draw(plane_flags(**given, **changes))
    with pytest.raises(InterruptedError):
      draw(plane_flags(**given | {"compare": [workdirs[1]]}, **changes))
    with pytest.raises(ValueError, match=r"--compare: .* is given twice"):
      draw(plane_flags(**given | {"compare": [f"{workdirs[0]}/"]}, **changes))


def test_directions_that_do_not_fit_are_refused_before_anything_is_computed(
  workdirs, monkeypatch, tmp_path
):
  monkeypatch.setattr(batched_map, "run_in_chunks", None)
  directions.save_directions(tmp_path / "other.npz", {"kernel": np.zeros((2, 3))})
  given = plane_flags(workdir=workdirs[0], directions=str(tmp_path / "other.npz"))
  for draw in (landscape_command.draw_all, curvature_command.draw_all):
    with pytest.raises(ValueError, match="is of another network"):
      draw(given)


def test_other_labels_of_the_same_images_are_refused():
  facts = {"images_crc32": 1, "labels_crc32": 2, "workdir": "a", "split": "train"}
  cli.check_same_images([facts, facts | {"workdir": "b"}], "compare")
  with pytest.raises(ValueError, match="b has different labels in its train split"):
    cli.check_same_images(
      [facts, facts | {"workdir": "b", "labels_crc32": 3}], "compare"
    )


def test_flags_without_effect_are_refused_if_they_were_given():
  given = flags.FlagValues()
  for name in ("range", "vectors"):
    flags.DEFINE_string(name, "as it is", "", flag_values=given)
  given(["command", "--vectors=normalized"])
  cli.refuse_idle(given, ("range",), "--grid=1")
  with pytest.raises(ValueError, match="--vectors has no effect with --grid=1: omit"):
    cli.refuse_idle(given, ("range", "vectors"), "--grid=1")


def test_curvature_at_the_network_and_over_the_plane(workdirs, capsys):
  # 108 parameters: 30 steps need not be enough, and the files say which.
  curvature_command.draw_all(plane_flags(workdir=workdirs[0], grid=1))
  record = json.loads((pathlib.Path(workdirs[0]) / "curvature.json").read_text())
  assert record["settings"]["num_parameters"] == 80 + 10 + 18
  assert record["smallest"] < record["largest"]
  assert record["absolute_tolerance"] < 1e-4 * record["largest"]
  assert record["computed_in"]["dtype"] == "float32"
  assert record["steps_of_probes"] == [30, 30]
  given = plane_flags(workdir=workdirs[0], compare=[workdirs[1]])
  curvature_command.draw_all(given)
  middle, arrays = eigenvalues.maps_of([workdirs[0]], given)[0]
  assert arrays["converged"].shape == (3, 3)
  # The same Hessian from other start vectors.
  assert arrays["largest"][1, 1] == pytest.approx(record["largest"], rel=0.01)
  assert middle["points_not_converged"] == np.sum(~arrays["converged"])
  # Far too few products: said in numbers and on the screen.
  given = plane_flags(workdir=workdirs[1], steps=2)
  capsys.readouterr()
  curvature_command.draw_all(given)
  assert "9 of 9 points NOT converged" in capsys.readouterr().out
  few, arrays = eigenvalues.maps_of([workdirs[1]], given)[0]
  assert few["points_not_converged"] == 9
  np.testing.assert_array_equal(arrays["num_steps"], np.full((3, 3), 2))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"split": "training"}, "train, validation, test; got 'training'"),
    ({"batch_norm": "off"}, "running, batch; got 'off'"),
    ({"num_images": 0}, "at least 1 image"),
  ],
)
def test_arguments_out_of_range_are_refused(workdirs, arguments, message):
  with pytest.raises(ValueError, match=message):
    trained_run.load_run(workdirs[0], **arguments)


def test_a_folder_that_is_no_run_is_refused(tmp_path, workdirs):
  with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
    trained_run.load_run(tmp_path)
  run_record.keep_config(defaults.get_default_config(), tmp_path)
  with pytest.raises(FileNotFoundError, match="no best checkpoint"):
    trained_run.load_run(tmp_path)
  (tmp_path / "config.json").write_text('{"data": 3}')
  with pytest.raises(ValueError, match="damaged or of another version"):
    trained_run.load_run(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist"):
    cli.plane_settings(plane_flags(directions=str(tmp_path / "none.npz")))


@pytest.mark.parametrize("name", [None, "angular"])
def test_a_stored_config_is_read_as_it_was(tmp_path, name):
  config = defaults.get_default_config()
  config.model.dense_features = (16, 8)
  config.num_epochs = 7
  if name:
    config.loss = {"name": "arcface", "margin": 0.3}
    config.data.options = {"image_size": 48}
  run_record.keep_config(config, tmp_path)
  assert read_config(tmp_path).to_dict() == config.to_dict()


def test_a_network_computes_in_the_type_asked_for(workdirs):
  for dtype, expected in ((None, "bfloat16"), ("float32", "float32")):
    found = load_network(workdirs[0], "train", None, dtype=dtype)
    assert found.config.model.dtype == expected
    assert jnp.dtype(found.experiment.model.dtype) == jnp.dtype(expected)


@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_a_grid_without_the_network_is_refused(size):
  with pytest.raises(ValueError, match=f"odd number.*got {size}"):
    surface.axis_coordinates(1.0, size)


def test_the_axis_has_the_network_in_its_exact_middle():
  axis = surface.axis_coordinates(0.3, 51)
  assert axis[25] == 0
  np.testing.assert_allclose(axis, np.linspace(-0.3, 0.3, 51), atol=1e-7)
  with pytest.raises(ValueError, match="above 0, got -1"):
    surface.axis_coordinates(-1, 3)


def test_points_that_are_not_finite_are_left_out_of_the_levels():
  loss = np.ma.masked_invalid(np.array([[0.5, np.inf], [np.nan, 2.0]]))
  levels = landscape_plots.common_levels([loss])
  np.testing.assert_allclose(levels[[0, 10, -1]], [0.5, 1.0, 2.0], rtol=1e-5)
  assert (np.diff(levels) > 0).all()
  flat = landscape_plots.common_levels([np.ma.masked_invalid(np.zeros((2, 2)))])
  assert (np.diff(flat) > 0).all()
  with pytest.raises(ValueError, match="expected a finite one"):
    landscape_plots.common_levels([np.ma.masked_invalid(np.full((2, 2), np.inf))])
