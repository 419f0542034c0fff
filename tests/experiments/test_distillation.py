"""Distillation: teachers judge what they have not seen; labels and answers mix."""

import types

import numpy as np
import pytest
import scipy.special

from emosynth_jax.config import recipes
from emosynth_jax.data import image_values, run_data
from emosynth_jax.utils import npz
from experiments import distillation as command
from experiments.lib import distillation


def _flags(workdir, **changes):
  config = recipes.synthetic_faces("small")
  config.data.options.num_examples = 60
  given = {"folds": 3, "teacher": [], "weight": 0.25, "temperature": 2.0}
  given |= {
    "views": "none",
    "logits": "",
    "average_duplicates": False,
    "data_dir": None,
    "workdir": str(workdir),
  }
  # Not "config": the command has to ask for the one with the changes of its flags.
  return types.SimpleNamespace(changed_config=config, **(given | changes))


def _config():
  return _flags("").changed_config


@pytest.fixture
def trained(monkeypatch):
  """The configs that were trained, by workdir; a teacher's logits are its number."""
  found = {}

  def train(config, folder, _):
    found[folder.name] = config.copy_and_resolve_references()

  def logits(config, folder, dataset, *, views):
    del config, views
    seen = run_data.load_data(found[folder.name], ("train",))["train"]
    assert not set(seen.sources) & set(dataset.sources)
    size = len(dataset.class_names)
    return np.tile(np.arange(size, dtype=np.float32), (len(dataset), 1)) * (
      1 + int(folder.name.removeprefix("teacher"))
    )

  monkeypatch.setattr(
    command.command_line, "config_of", lambda given: given.changed_config
  )
  monkeypatch.setattr(command, "_train", train)
  monkeypatch.setattr(distillation, "left_out_logits", logits)
  return found


def test_each_image_is_taught_by_the_teacher_that_has_not_seen_it(
  trained, tmp_path, caplog
):
  caplog.set_level("INFO")
  changes = ["model.width=0.0625", "num_epochs=2", "loss.name=cross_entropy"]
  given = _flags(tmp_path, teacher=changes)
  given.changed_config.loss.update(name="label_smoothing", smoothing=0.1)
  command.run(given)

  assert list(trained) == ["teacher0", "teacher1", "teacher2", "student"]
  found = npz.read_npz(tmp_path / "folds.npz")
  whole = run_data.load_data(_config(), ("train",))["train"]
  size = len(whole.class_names)
  steps = np.arange(size)[None, :] * (1 + found["folds"][:, None])
  expected = 0.75 * np.eye(size)[whole.labels]
  expected += 0.25 * scipy.special.softmax(steps / 2.0, axis=1)
  soft = npz.read_npz(tmp_path / "soft_labels.npz")["soft_labels"]
  np.testing.assert_allclose(soft, expected, atol=1e-6)

  # Every teacher here answers the last class.
  share = 100 * np.mean(whole.labels == size - 1)
  assert f"Out-of-fold accuracy of the teachers: {share:.2f} %." in caplog.text
  taught = scipy.special.log_softmax(steps.astype(float), axis=1)
  loss = -taught[np.arange(60), whole.labels].mean()
  assert f"Out-of-fold cross-entropy of the teachers: {loss:.4f}." in caplog.text

  for fold in range(3):
    teacher = trained[f"teacher{fold}"]
    assert (teacher.model.width, teacher.num_epochs) == (0.0625, 2)
    # The student's smoothing is no argument of the teacher's loss.
    assert teacher.loss.to_dict() == {"name": "cross_entropy"}
    # Only the student reads the test split.
    assert teacher.data.test_split == ""
    assert teacher.seed == fold
  student = trained["student"]
  assert student.data.test_split == "test"
  learned = run_data.load_data(student, ("train",))["train"]
  np.testing.assert_allclose(learned.targets, expected, atol=1e-6)

  # A second start keeps the folds, and refuses others and another mixture.
  command.run(_flags(tmp_path, teacher=["num_epochs=2"]))
  for name in ("weight", "temperature", "average_duplicates"):
    with pytest.raises(
      ValueError, match=f"made with --{name}=.*, now 1, .* another --w"
    ):
      command.run(_flags(tmp_path, **{name: 1.0}))
  with pytest.raises(ValueError, match=r"with --views=none, now flip, .* another --w"):
    command.run(_flags(tmp_path, views="flip"))
  with pytest.raises(ValueError, match=r"with --folds=3, now 2, .* use another --work"):
    command.run(_flags(tmp_path, folds=2))
  (tmp_path / "soft_labels.npz").unlink()
  with pytest.raises(ValueError, match="of another number of folds; use another"):
    command.run(_flags(tmp_path, folds=2))


def test_cores_are_divided_before_any_network(trained, monkeypatch, tmp_path):
  divided = []
  monkeypatch.setattr(
    command.cpu_devices, "split_cores", lambda size: divided.append((size, [*trained]))
  )
  given = _flags(tmp_path)
  command.run(given)
  assert divided == [(given.changed_config.batch_size, [])]


def test_another_weight_needs_no_teachers(trained, tmp_path):
  command.run(_flags(tmp_path / "one"))
  folds = npz.read_npz(tmp_path / "one/folds.npz")["folds"]
  trained.clear()

  written = tmp_path / "one/soft_labels.npz"
  given = {"logits": str(written), "weight": 0.5, "temperature": 1.0}
  command.run(_flags(tmp_path / "two", **given))
  assert list(trained) == ["student"]
  whole = run_data.load_data(_config(), ("train",))["train"]
  size = len(whole.class_names)
  taught = scipy.special.softmax(np.arange(size) * (1 + folds[:, None]), axis=1)
  expected = 0.5 * np.eye(size)[whole.labels] + 0.5 * taught
  learned = run_data.load_data(trained["student"], ("train",))["train"].targets
  np.testing.assert_allclose(learned, expected, atol=1e-6)

  # A second start, also by another name of the file, is none of another mixture.
  command.run(_flags(tmp_path / "two", **given))
  same = str(tmp_path / "two/../one/soft_labels.npz")
  command.run(_flags(tmp_path / "two", **given | {"logits": same}))
  with pytest.raises(ValueError, match="made with --logits=a file, now no file, and"):
    command.run(_flags(tmp_path / "two", **given | {"logits": ""}))
  with pytest.raises(ValueError, match="made with --logits=no file, now a file, and"):
    command.run(_flags(tmp_path / "one", **given))
  for changes in ({"teacher": ["num_epochs=2"]}, {"views": "flip"}):
    with pytest.raises(ValueError, match="--logits: no teacher is trained; leave out"):
      command.run(_flags(tmp_path / "three", **given, **changes))

  # Near-duplicates share their labels beside these teachers, too.
  command.run(_flags(tmp_path / "four", **given, average_duplicates=True))
  soft = npz.read_npz(tmp_path / "four/soft_labels.npz")
  assert (soft["folds"], soft["views"]) == (3, "none")
  groups = npz.read_npz(tmp_path / "four/folds.npz")["duplicates"]
  labels = distillation.average_labels(whole.labels, groups, size)
  np.testing.assert_allclose(
    soft["soft_labels"], 0.5 * labels + 0.5 * taught, atol=1e-6
  )

  # Teachers that were trained again.
  arrays = npz.read_npz(written)
  npz.write_npz(written, arrays | {"teacher_logits": arrays["teacher_logits"] + 1})
  with pytest.raises(
    ValueError, match=r"two/soft_labels\.npz has other logits of teach"
  ):
    command.run(_flags(tmp_path / "two", **given))


def test_logits_are_of_teachers(trained, tmp_path):
  no_teachers = {"folds": 0, "average_duplicates": True}
  command.run(_flags(tmp_path / "labels", **no_teachers))
  written = str(tmp_path / "labels/soft_labels.npz")
  with pytest.raises(ValueError, match=r"--logits: .*npz has no teacher_logits: it is"):
    command.run(_flags(tmp_path / "other", logits=written))
  with pytest.raises(FileNotFoundError, match=r"--logits: no file .*none\.npz"):
    command.run(_flags(tmp_path / "other", logits=str(tmp_path / "none.npz")))
  assert not (tmp_path / "other").exists()
  # Not a mixture of a uniform teacher at the second start, either.
  command.run(_flags(tmp_path / "labels", **no_teachers))


@pytest.mark.parametrize(
  ("changes", "section", "expected"),
  [
    (["loss.name=cross_entropy"], "loss", {"name": "cross_entropy"}),
    # The student's own loss keeps the student's argument.
    (["loss.name=label_smoothing"], "loss", {"smoothing": 0.3}),
    (["loss.name=poly", "loss.epsilon=2.0"], "loss", {"name": "poly", "epsilon": 2.0}),
    (["model.name=resnet18"], "model", {"name": "resnet18", "dtype": "float32"}),
    (["model.name=resnet18", "model.width=0.5"], "model", {"width": 0.5}),
  ],
)
def test_a_teacher_has_no_arguments_of_another_network_or_loss(
  tmp_path, changes, section, expected
):
  config = _config()
  config.loss.update(name="label_smoothing", smoothing=0.3)
  teacher = distillation.teacher_config(config, changes, tmp_path / "folds.npz", 0)
  found = teacher[section].to_dict()
  assert found == (expected if "name" in expected else found | expected)
  assert config.loss.smoothing == 0.3


def test_near_duplicates_share_a_fold_and_a_label(trained, monkeypatch, tmp_path):
  groups = np.arange(60) // 4
  monkeypatch.setattr(
    distillation.deduplicate, "duplicate_groups", lambda *_, **__: [groups]
  )
  command.run(_flags(tmp_path, folds=2))
  folds = npz.read_npz(tmp_path / "folds.npz")["folds"].reshape(-1, 4)
  assert (folds == folds[:, :1]).all()
  assert set(folds.ravel()) == {0, 1}

  command.run(_flags(tmp_path / "plain", folds=0, average_duplicates=True))
  file = tmp_path / "plain/soft_labels.npz"
  train = run_data.load_data(_config(), ("train",))["train"]
  soft = image_values.with_soft_labels(train, file).soft_labels
  one_hot = np.eye(soft.shape[1])[train.labels].reshape(15, 4, -1)
  expected = np.repeat(one_hot.mean(axis=1), 4, axis=0)
  np.testing.assert_allclose(soft, expected, atol=1e-6)


def test_soft_labels_from_before_there_were_views_are_of_one(tmp_path):
  path = tmp_path / "soft_labels.npz"
  np.savez(path, weight=np.asarray(0.25))
  distillation.check_mixture(path, {"weight": 0.25, "views": "none"})
  with pytest.raises(ValueError, match="with --views=none, now flip"):
    distillation.check_mixture(path, {"weight": 0.25, "views": "flip"})


def test_labels_of_near_duplicates_are_averaged():
  labels, groups = np.array([0, 2, 2, 1, 2]), np.array([5, 5, 9, 7, 5])
  third = [1 / 3, 0, 2 / 3]
  expected = [third, third, [0, 0, 1], [0, 1, 0], third]
  found = distillation.average_labels(labels, groups, 3)
  np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"teacher": ["num_epoch=1"]}, "--teacher: .* got 'num_epoch=1'"),
    ({"teacher": ["model.widht=1"]}, "no argument 'widht'; did you mean width"),
    ({"folds": 1}, "--folds: expected 2 or more"),
    ({"folds": 0}, "0 with --average_duplicates"),
    ({"teacher": ["model.=1"]}, "--teacher: .* got 'model.=1'"),
    ({"teacher": ["num_epochs=abc"]}, "--teacher: expected num_epochs of type int"),
    ({"teacher": ["seed=7"]}, "--teacher: seed cannot be changed"),
    ({"teacher": ["data.soft_labels=x.npz"]}, "data.soft_labels cannot be changed"),
    ({"teacher": ["data.options.name=x"]}, "data.options.name cannot be changed"),
  ],
)
def test_what_is_mistyped_is_named(trained, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    command.run(_flags(tmp_path, **changes))
  assert not trained
  assert not list(tmp_path.iterdir())


def test_an_argument_of_a_loss_may_be_of_another_type(tmp_path):
  config = _config()
  config.loss = {"name": "focal", "gamma": 2}
  changes = ["loss.gamma=2.5"]
  teacher = distillation.teacher_config(config, changes, tmp_path / "folds.npz", 0)
  assert teacher.loss.gamma == 2.5


def test_teachers_have_the_training_images_of_the_student(trained, tmp_path):
  given = _flags(tmp_path)
  given.changed_config.data.drop_duplicates = True
  with pytest.raises(ValueError, match=r"drop_duplicates: .*data\.test_split=,"):
    command.run(given)
  given.changed_config.data.test_split = ""
  command.run(given)
  assert "student" in trained
