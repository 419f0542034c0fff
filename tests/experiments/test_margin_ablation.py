"""The ablation's command: records, resumption, the user's own parts, its report."""

import csv
import dataclasses
import functools
import itertools
import json
import pathlib
import pickle
import re
import types

import jax
import numpy as np
import pytest
import tiny_network
from absl import flags

from emosynth_jax import bundle, data
from emosynth_jax.parallel import cpu_devices
from emosynth_jax.utils import cli
from emosynth_jax.workdir import record as run_record
from experiments import margin_ablation
from experiments.lib import (
  ablation_curves,
  ablation_grids,
  ablation_groups,
  ablation_members,
  ablation_records,
  ablation_report,
  ablation_weights,
)

_RESULTS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "results"

_PARTS = """
import jax
import jax.numpy as jnp
import numpy as np
from helper import half

import emosynth_jax as ej

def levels(data_dir, split):
  rng = np.random.default_rng(len(split))
  labels = np.arange(24 if split == "train" else 12) % 3
  images = rng.integers(0, 100, (len(labels), 4, 4, 1))
  images += 60 * labels[:, None, None, None]
  return ej.data.from_arrays(images.astype(np.uint8), labels, "abc", split=split)

levels.has_validation = True

def gap(logits, factor=0.5):
  top = jax.lax.top_k(logits, 2)[0]
  return jax.lax.stop_gradient(half(factor) * (top[:, 0] - top[:, 1]))

def not_finite(logits):
  return jax.lax.stop_gradient(jnp.log(jnp.minimum(logits.min(1), -1)))

def by_class(logits):
  return logits @ jnp.array([1.0, 2.0, 3.0])

def shaped(logits):
  return logits

def branch(logits):
  if logits.sum() > 0:
    return logits[:, 0]
  return logits[:, 1]

def squared(logits, labels):
  return (logits ** 2).mean(1)
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
  """A file with a data set of three classes and margins, and a module beside it."""
  folder = tmp_path_factory.mktemp("own")
  (folder / "helper.py").write_text("def half(x):\n  return x / 2\n")
  (folder / "parts.py").write_text(_PARTS)
  return folder / "parts.py"


def _parse(*arguments):
  """The command's flags, parsed without a trace in those of the process."""
  values = flags.FlagValues()
  with pytest.MonkeyPatch.context() as patch:
    for name in dir(flags):
      if name.startswith("DEFINE"):
        define = functools.partial(getattr(flags, name), flag_values=values)
        patch.setattr(flags, name, define)
    margin_ablation.define_flags()
  values(["margin_ablation", *arguments])
  return values


def _command(parts, workdir, *arguments):
  """Runs the command on the tiny data set and network."""
  margin_ablation.run(
    _parse(
      f"--data={parts}:levels",
      f"--model={tiny_network.__file__}:TinyNetwork",
      *("--side=0", "--grid=mine", "--mapping=map", "--batch_size=8"),
      f"--workdir={workdir}",
      *arguments,
    )
  )


@pytest.fixture(scope="module")
def workdir(parts, tmp_path_factory):
  """An ablation of two formulas, two numbers of epochs and two learning rates."""
  folder = tmp_path_factory.mktemp("workdir")
  _command(
    parts,
    folder,
    f"--margins={parts}:gap,{parts}:not_finite",
    *("--vary=kappa=1", "--vary=factor=0.3,0.5"),
    *("--seeds=0,1", "--epochs=1,2", "--learning_rate=1e-2,1e-1"),
    *("--keep_weights", "--validation_curves"),
  )
  return folder


def _records(folder):
  return ablation_records.read_records(folder / "results.jsonl")


def test_formulas_and_training_settings_are_rows_of_one_table(workdir):
  records = _records(workdir)
  assert len(records) == 4 * 2 * 2 * 2
  hashes = {r["setting"].get("margin_fn", "@").partition("@")[2] for r in records}
  copies = workdir / "own_parts"
  assert {path.name for path in copies.iterdir()} >= hashes - {""}
  assert len(list(copies.glob("*/helper.py"))) == 1

  table = (workdir / "table.txt").read_text()
  labels = [line.split("  ")[0] for line in table.splitlines()]
  for setting in (
    "cross_entropy",
    "mam_softmax factor=0.3 kappa=1 parts.py:gap",
    "mam_softmax factor=0.5 kappa=1 parts.py:gap",
    "mam_softmax kappa=1 parts.py:not_finite",
  ):
    for epochs in (1, 2):
      for rate in (0.01, 0.1):
        label = f"{setting} epochs={epochs} learning_rate={rate}"
        assert labels.count(label) == 1


def test_a_loss_that_is_not_finite_is_no_collapse(workdir):
  found = [r for r in _records(workdir) if "not_finite" in str(r["setting"])]
  assert len(found) == 8
  assert {r["first_bad_step"] for r in found} == {0}
  assert {r["train_loss"] for r in found} == {"NaN"}
  table = (workdir / "table.txt").read_text()
  lines = [line for line in table.splitlines() if "not_finite" in line]
  assert len(lines) == 4
  assert all(line.endswith("not finite from step 0") for line in lines)


def test_each_seed_rate_and_number_of_epochs_is_another_training(workdir):
  losses = {
    (r["setting"]["loss"], r["epochs"], r["learning_rate"], r["seed"]): r["train_loss"]
    for r in _records(workdir)
    if r["setting"] == {"loss": "cross_entropy"}
  }
  assert len(set(losses.values())) == len(losses) == 8


def test_curves_end_with_the_members_result(workdir):
  records = _records(workdir)
  for record in records:
    curves = record["curves"]
    assert {len(curve) for curve in curves.values()} == {record["epochs"]}
    for name in ("train_loss", "train_accuracy", "accuracy", "loss"):
      assert curves[name][-1] == record[name]
  with (workdir / "curves.csv").open() as file:
    lines = list(csv.DictReader(file))
  assert len(lines) == sum(record["epochs"] for record in records)
  assert lines[0]["validation_accuracy"] == str(records[0]["curves"]["accuracy"][0])
  assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_weights_of_a_member_give_its_accuracy(workdir, parts):
  """Loads them as docs/guides/ablations.md does."""
  record = next(r for r in _records(workdir) if "gap" in str(r["setting"]))
  validation = ablation_groups.own_code.load(f"{parts}:levels")("", "validation")
  page = (_RESULTS.parent / "guides" / "ablations.md").read_text()
  (code,) = re.findall(r"^```python\n(import flax.*?)^```", page, re.DOTALL | re.M)
  code = re.sub(r'"runs/.*\.npz"', repr(str(workdir / record["weights"])), code)
  names = {"Patches": tiny_network.TinyNetwork, "images": validation.images}
  exec(code.replace("num_classes=7", "num_classes=3"), names)
  accuracy = np.mean(np.argmax(names["logits"], -1) == validation.labels)
  assert accuracy == record["accuracy"]


def test_a_pickled_group_is_trained_as_it_was(workdir, parts, monkeypatch):
  trained, run_group = [], ablation_groups.run_group

  def from_pickle(group):
    trained.extend(group.members)
    return run_group(pickle.loads(pickle.dumps(group)))

  # As a kill leaves it: one member is missing, another one's line is cut short.
  path = workdir / "results.jsonl"
  before = path.read_text()
  lines = before.splitlines(keepends=True)
  path.write_text("".join(lines[:6]) + lines[6][:30])
  monkeypatch.setattr(ablation_groups, "run_group", from_pickle)
  _command(
    parts,
    workdir,
    f"--margins={parts}:gap,{parts}:not_finite",
    *("--vary=kappa=1", "--vary=factor=0.3,0.5"),
    *("--seeds=0,1", "--epochs=1", "--learning_rate=1e-2"),
    *("--keep_weights", "--validation_curves"),
  )
  assert [(m.setting["margin_fn"][-11:], m.seed) for m in trained] == [
    (":not_finite", 0),
    (":not_finite", 1),
  ]
  measured = ("setting", "seed", "epochs", "accuracy", "train_loss", "curves")
  again = [[r[k] for k in measured] for r in _records(workdir)]
  path.write_text(before)
  assert again == [[r[k] for k in measured] for r in _records(workdir)[:8]]


@pytest.fixture
def untrained(monkeypatch):
  """Groups that are only noted: their members have made-up results."""
  noted = []

  def note(group):
    noted.extend((group.program, member) for member in group.members)
    record = _made_up("cross_entropy", 0, 0.5)
    del record["setting"], record["seed"]
    return [ablation_groups.Trained(record, None)] * len(group.members)

  monkeypatch.setattr(ablation_groups, "run_group", note)
  return noted


def test_a_second_formula_joins_the_first_ones_table(parts, tmp_path, untrained):
  mine = tmp_path / "mine.py"
  for content in ("0.1", "0.2"):
    mine.write_text(f"def gap(logits):\n  return {content} + 0 * logits.sum(1)\n")
    for name in (parts, mine):
      _command(
        parts,
        tmp_path / "out",
        f"--margins={name}:gap",
        *("--vary=kappa=0.7", "--seeds=0,1"),
      )

  # Cross-entropy and each formula once; the changed file is another one.
  assert len(untrained) == 2 * 4
  table = (tmp_path / "out" / "table.txt").read_text()
  labels = re.findall(r"^mam_softmax (.*?)  ", table, re.MULTILINE)
  assert [re.sub("@.{8}", "@", label) for label in labels] == [
    "kappa=0.7 parts.py:gap",
    "kappa=0.7 mine.py:gap@",
    "kappa=0.7 mine.py:gap@",
  ]
  assert len(set(labels)) == 3


def test_flags_become_programs_and_members(parts, tmp_path, untrained):
  _command(
    parts,
    tmp_path,
    f"--margins={parts}:gap",
    f"--losses=focal,mam_softmax+{parts}:squared",
    *("--vary=gamma=1,3", "--vary=kappa=2", "--vary=factor=1"),
    *("--seeds=2", "--batch_size=8,12", "--model_option=features=3", "--noflip"),
  )
  programs = dict.fromkeys(program.batch_size for program, _ in untrained)
  assert list(programs) == [8, 12]
  assert len(untrained) == 2 * 2 * 5
  program = untrained[0][0]
  assert program.model["features"] == 3
  assert not program.flip
  described = [
    ablation_report.label(ablation_grids.describe(s)) for s in program.settings
  ]
  assert described == [
    "cross_entropy",
    "mam_softmax factor=1 kappa=2 parts.py:gap",
    "focal gamma=1",
    "focal gamma=3",
    "mam_softmax+parts.py:squared kappa=2",
  ]
  # An integer for a float is no other formula.
  assert program.settings[1]["kappa"] == 2.0
  assert isinstance(program.settings[2]["gamma"], float)
  protocol = json.loads((tmp_path / "protocol.json").read_text())
  assert protocol["flip"] is False
  assert re.fullmatch(
    r"tiny_network.py:TinyNetwork@\w{8}, features 3, input 4x4", protocol["network"]
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--margins=PARTS:gapp"], r"parts\.py defines no 'gapp'; it defines .*gap"),
    (["--margins=PARTS:levels"], r"expected a function of logits \(N, K\)"),
    (["--margins=centred_max"], "got 'centred_max'.*did you mean centered_max"),
    (["--margins=gone.py:gap"], r"the file gone\.py does not exist"),
    (
      ["--margins=PARTS:gap", "--vary=facor=1"],
      r"'facor'; known: factor, kappa.*factor",
    ),
    (["--margins=PARTS:gap", "--vary=factor"], "--vary: expected NAME=VALUE"),
    (["--margins=PARTS:shaped"], r"shape \(2,\) for logits of shape \(2, 3\)"),
    (["--margins=PARTS:branch"], r"parts\.py:\d+: `if logits\.sum\(\) > 0:`"),
    (["--losses=focall"], "unknown loss 'focall'.*focal"),
    (["--losses=deferred_reweighting"], "needs a value of reweight_step"),
    ([], "requires --margins or --losses"),
    (["--losses=focal", "--batch_size=32"], "at most the 24 training images, got 32"),
    (
      ["--losses=focal", "--model_option=feature=3"],
      "no argument 'feature'; did you mean features",
    ),
    (["--losses=focal", "--data_option=side=3"], "unknown option side"),
    (["--losses=focal", "--model_option=features"], "--model_option: expected NAME"),
    (["--losses=focal", "--label_noise=0,1.5"], "--label_noise: .* got '1.5'"),
    (["--losses=focal", "--label_noise=a:d:0.2"], "--label_noise: .* no class 'd'"),
    (["--losses=focal", "--label_noise=half"], "--label_noise: .* got 'half'"),
    (["--losses=focal", "--label_noise=1e-9"], "it changes none of 24 labels"),
    (["--losses=focal", "--label_noise="], "--label_noise: expected shares or 0"),
    (["--losses=focal", "--label_noise=0.2,"], "shares or 0, got '0.2,'"),
    (["--losses=focal", "--shift=nan"], "--shift: expected a number in"),
  ],
)
def test_what_cannot_be_trained_is_one_error(parts, tmp_path, arguments, message):
  given = [argument.replace("PARTS", str(parts)) for argument in arguments]
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    _command(parts, tmp_path / "out", *given)
  assert not (tmp_path / "out").exists()


def test_numbers_of_a_list_are_above_0():
  for value in ("0", "4,-1", "a", "", "inf"):
    with pytest.raises(flags.IllegalFlagValueError, match="separated by commas"):
      _parse(f"--learning_rate={value}")
  assert _parse("--epochs=3,5,3").epochs == [3, 5]
  with pytest.raises(flags.IllegalFlagValueError, match="whole numbers"):
    _parse("--batch_size=1.5")


def test_commands_of_the_published_tables_are_understood():
  for path in _RESULTS.glob("ablation-*.txt"):
    command = re.search(r"^command +(.*)$", path.read_text(), re.MULTILINE)[1]
    given = _parse(*command.split()[3:])
    seeds = re.search(r"^seeds +(\d+) a setting$", path.read_text(), re.MULTILINE)[1]
    assert given.seeds == int(seeds)
    assert given.data in path.name
    assert given.grid in path.name


def test_the_guides_commands_and_formulas_are_understood(tmp_path, monkeypatch):
  page = (_RESULTS.parent / "guides" / "ablations.md").read_text()
  monkeypatch.chdir(tmp_path)
  code = re.search(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
  (tmp_path / code[1]).write_text(code[2])
  extend = (_RESULTS.parent / "guides" / "extend.md").read_text()
  code = re.search(r"```python\n# (my_losses.py)\n(.*?)```", extend, re.DOTALL)
  (tmp_path / code[1]).write_text(code[2])

  lines = page.replace("\\\n", "").splitlines()
  start = "python -m experiments.margin_ablation "
  commands = [line.removeprefix(start) for line in lines if line.startswith(start)]
  assert len(commands) == 2
  for command in commands:
    settings = margin_ablation._settings(_parse(*command.split()))
    for setting in settings:
      ablation_members.check_values(setting, 7)
  # Cross-entropy, two factors of a formula, the other one, and two losses.
  assert len(settings) == 1 + 2 + 1 + 2


def test_a_margin_has_the_classes_of_the_data(parts):
  setting = {"loss": "mam_softmax", "margin_fn": f"{parts}:by_class"}
  ablation_members.check_values(setting, 3)
  with pytest.raises(ValueError, match=r"parts\.py:\d+: `return logits @ jnp"):
    ablation_members.check_values(setting, 10)


def test_generated_faces_need_no_data(tmp_path):
  given = _parse("--data=synthetic_faces", "--train_images=64", "--validation_images=8")
  source = margin_ablation._data_source(given)
  source = source._replace(options={"num_examples": 70}, data_dir=str(tmp_path))
  training, validation = ablation_groups.load_arrays(source)
  assert training.images.shape == (64, 32, 32, 1)
  assert len(validation) == 8
  assert len(training.class_names) == 7


def test_weights_of_the_librarys_network_are_a_bundle(parts, tmp_path):
  source = ablation_groups.DataSource(f"{parts}:levels", "", {}, 24, 12, 16)
  training, _ = ablation_groups.load_arrays(source)
  network = {"name": "all_cnn", "width": 0.02}
  setting = {"loss": "cosface", "scale": 8.0}
  program = ablation_groups.Program(source, network, [setting], 1, 8, False, "map")
  member = ablation_members.Member(setting, 5, 0.01)
  identity = margin_ablation._identity(program, member)
  file = ablation_weights.file_of(identity, program)
  assert re.fullmatch(r"weights/cosface_scale=8-seed5-\w{8}\.safetensors", file)
  model = ablation_groups.build_network(network, training)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), training.images[:1] / 255, train=False)
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(np.float32), dict(shapes)
  )
  ablation_weights.write(
    tmp_path / file,
    variables,
    program,
    member,
    class_names=training.class_names,
    image_shape=(16, 16, 1),
  )
  read = bundle.read_bundle(tmp_path / file)
  jax.tree.map(
    np.testing.assert_array_equal, read.variables, {"batch_stats": {}} | variables
  )
  assert read.class_names == ("a", "b", "c")
  assert read.config.loss.to_dict() == {"name": "cosface", "scale": 8.0}
  assert read.config.seed == 5


@pytest.mark.parametrize(
  "grid", ablation_grids.GRIDS.values(), ids=ablation_grids.GRIDS
)
def test_every_grid_holds_cross_entropy_and_nothing_that_a_loss_refuses(grid):
  settings = ablation_members.expand_grid(grid)
  assert {"loss": "cross_entropy"} in settings
  for setting in settings:
    ablation_members.check_values(setting, 7)


def test_folders_of_another_protocol_are_refused(tmp_path):
  path = tmp_path / "protocol.json"
  ablation_records.keep_protocol(path, {"network": "a"})
  ablation_records.keep_protocol(path, {"network": "a"})
  with pytest.raises(ValueError, match=r"network 'a', now 'b'.*--workdir"):
    ablation_records.keep_protocol(path, {"network": "b"})
  with pytest.raises(ValueError, match=r"flip None, now True"):
    ablation_records.keep_protocol(path, {"network": "a", "flip": True})


def test_a_second_ablation_in_one_folder_is_refused(parts, tmp_path):
  with (
    run_record.only_training_in(tmp_path),
    pytest.raises(ValueError, match="another process is training in"),
  ):
    _command(parts, tmp_path, "--losses=focal")


def test_files_of_something_else_are_refused(tmp_path):
  records = tmp_path / "results.jsonl"
  records.write_text('{"step": 1}\n')
  with pytest.raises(ValueError, match=r"results\.jsonl has no records.*--workdir"):
    ablation_records.read_records(records)
  protocol = tmp_path / "protocol.json"
  protocol.write_text('{"epochs": 3')
  with pytest.raises(ValueError, match=r"protocol\.json is damaged"):
    ablation_records.keep_protocol(protocol, {"epochs": 3})


def test_settings_that_differ_in_late_digits_are_not_mixed():
  records = _members(cross_entropy=[0.5, 0.6])
  for margin in (0.1234561, 0.1234562):
    for record in _members(cosface=[0.5, 0.7]):
      record["setting"] = {"loss": "cosface", "margin": margin}
      records.append(record)
  assert [r["seeds"] for r in ablation_report.compare(records, 4)] == [2, 2, 2]


def _made_up(loss, seed, value, **others):
  measures = ("f1_macro", "loss", "train_accuracy", "train_loss", "seconds")
  return {
    "setting": {"loss": loss},
    "seed": seed,
    "accuracy": value,
    "balanced_accuracy": value,
    **dict.fromkeys(measures, 0.5),
    "first_bad_step": -1,
    **others,
  }


def _members(**accuracies):
  return [
    _made_up(loss, seed, value)
    for loss, values in accuracies.items()
    for seed, value in enumerate(values)
  ]


_PROTOCOL = {
  "data_set": "mnist",
  "num_classes": 4,
  "train_images": 70,
  "validation_images": 12,
  "network": "tiny",
}


def test_verdicts():
  records = _members(
    cross_entropy=[0.60, 0.70, 0.65, 0.64],
    focal=[0.651, 0.749, 0.70, 0.691],
    mse=[0.55, 0.652, 0.60, 0.589],
    arcface=[0.64, 0.66, 0.63, 0.66],
    # Chance is 25 %: less than a quarter of the way to 65 % is below 35 %.
    cosface=[0.66, 0.75, 0.70, 0.34],
  )
  rows = {r["label"]: r for r in ablation_report.compare(records, 4)}
  assert {name: row["verdict"] for name, row in rows.items()} == {
    "cross_entropy": "baseline",
    "focal": "better",
    "mse": "worse",
    "arcface": "no difference shown",
    "cosface": "collapses",
  }
  assert rows["cosface"]["collapsed"] == 1
  assert rows["focal"]["difference"]["mean"] == pytest.approx(0.05025)
  # Four settings stand against cross-entropy: Holm's correction raises p.
  assert rows["mse"]["p_holm"] > rows["mse"]["difference"]["p_value"]


def test_a_comparison_needs_cross_entropy():
  with pytest.raises(ValueError, match="cross_entropy"):
    ablation_report.compare(_members(focal=[0.5, 0.6]), 4)


def test_nothing_collapses_where_cross_entropy_is_at_chance():
  rows = ablation_report.compare(_members(cross_entropy=[0.2, 0.24], mse=[0.2, 0.1]), 4)
  assert [row["verdict"] for row in rows] == ["baseline", "no difference shown"]


def test_seeds_without_a_partner_are_left_out():
  records = _members(cross_entropy=[0.5, 0.6], focal=[0.6, 0.7, 0.1])
  rows = {r["label"]: r for r in ablation_report.compare(records, 4)}
  assert rows["focal"]["seeds"] == 2
  assert rows["focal"]["accuracy"] == pytest.approx(0.65)


def test_files_of_a_report(tmp_path):
  records = _members(cross_entropy=[0.6, 0.7], focal=[0.65, 0.72], cosface=[0.3, 0.7])
  records[0]["commit"], records[1]["commit"] = "one", "two"
  text = ablation_report.write(records, _PROTOCOL, tmp_path)
  assert (tmp_path / "table.txt").read_text() == text
  assert "12 validation images; test images are not used" in text
  # The other records are of the protocol's commit, which this one does not know.
  assert "commit    one, two, unknown" in text
  assert (tmp_path / "results.csv").read_text().splitlines()[:2] == [
    "loss,epochs,batch_size,learning_rate,label_noise,seed,accuracy,"
    "balanced_accuracy,f1_macro,validation_loss,train_accuracy,train_loss,first_bad_step,seconds",
    "cross_entropy,,,,,0,0.6,0.6,0.5,0.5,0.5,0.5,-1,0.5",
  ]
  assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("noise", "changed"),
  # Eight labels of each class.
  [("0.25", {"a": 2, "b": 2, "c": 2}), ("a:b:0.5+c:a:0.25", {"a": 4, "b": 0, "c": 2})],
)
def test_wrong_labels_are_those_of_the_training_images(
  parts, tmp_path, untrained, noise, changed
):
  _command(parts, tmp_path, "--losses=focal", f"--label_noise=0,{noise}")
  clean, noisy = untrained[0][0].source, untrained[-1][0].source
  assert (clean.noise, noisy.noise) == ("", noise)
  (labels, validation), (wrong, others) = (
    ablation_groups.load_arrays(source) for source in (clean, noisy)
  )
  np.testing.assert_array_equal(validation.labels, others.labels)
  np.testing.assert_array_equal(labels.images, wrong.images)
  for name, count in changed.items():
    of_class = labels.labels == "abc".index(name)
    assert (wrong.labels[of_class] != labels.labels[of_class]).sum() == count


def test_what_is_memorized_is_asked_of_the_wrong_labels(
  parts, tmp_path, untrained, monkeypatch
):
  _command(parts, tmp_path, "--losses=focal", "--label_noise=0,0.25")
  monkeypatch.setattr(
    ablation_groups.ablation,
    "compile_members",
    lambda *_, **__: lambda _, *splits: splits,
  )
  found = {}
  for program, member in untrained:
    train_all, _ = ablation_groups._compile_program.__wrapped__(
      ablation_groups._key(program)
    )
    found[program.source.noise] = train_all([member])
  training, validation = found[""]
  assert (len(training[1]), len(validation[1])) == (24, 12)
  (images, labels), _, (of_wrong, given) = found["0.25"]
  # Every image's own gray level tells it from all others.
  wrong = labels != training[1]
  np.testing.assert_array_equal(of_wrong, images[wrong])
  np.testing.assert_array_equal(given, labels[wrong])
  assert len(given) == 6


def test_memorized_labels_are_a_column_where_there_are_any():
  records = _members(cross_entropy=[0.6], focal=[0.65])
  records[1]["memorized"] = 0.25
  rows = list(csv.DictReader(ablation_report.format_csv(records).splitlines()))
  assert [row["memorized"] for row in rows] == ["", "0.25"]
  assert "memorized" not in ablation_report.format_csv(records[:1])


def test_class_probabilities_are_refused_and_not_trained_as_classes(
  parts, tmp_path, monkeypatch
):
  real = data.load_splits

  def with_probabilities(*arguments, **keywords):
    splits = real(*arguments, **keywords)
    train = splits["train"]
    soft = np.eye(3, dtype=np.float32)[train.labels]
    return splits | {"train": dataclasses.replace(train, soft_labels=soft)}

  monkeypatch.setattr(data, "load_splits", with_probabilities)
  ablation_groups._load_arrays.cache_clear()
  with pytest.raises(ValueError, match=r"has class probabilities.*as labels=majority"):
    _command(parts, tmp_path, "--losses=focal")
  ablation_groups._load_arrays.cache_clear()


def test_the_tables_head_has_the_options_of_the_data():
  rows = ablation_report.compare(
    _members(cross_entropy=[0.5, 0.6], focal=[0.5, 0.7]), 4
  )
  protocol = _PROTOCOL | {"data_options": {"labels": "fer2013", "num_classes": 7}}
  text = ablation_report.format_table(rows, protocol, "")
  assert text.splitlines()[0] == "data set  mnist, labels=fer2013, num_classes=7"


def test_spellings_of_one_noise_are_one_row(parts, tmp_path, untrained):
  noises = "0,0.0,-0,0.25,.250,a:b:0.5+c:a:0.25,c:a:0.25+a:b:0.5"
  _command(parts, tmp_path, "--losses=focal", "--seeds=2", f"--label_noise={noises}")
  found = dict.fromkeys(program.source.noise for program, _ in untrained)
  assert list(found) == ["", "0.25", "a:b:0.5+c:a:0.25"]
  # Spaces around the parts do not count, those within a class's name do.
  noise = ablation_groups.canonical_noise(" sports car : van : .50 + van:bus:1e-1")
  assert noise == "sports car:van:0.5+van:bus:0.1"


@pytest.mark.parametrize(
  ("noise", "rate", "confusion"),
  [
    ("", 0.0, ()),
    ("0.4", 0.4, ()),
    ("a:b:0.5+c:a:0.25", 0.0, ("a:b:0.5", "c:a:0.25")),
  ],
)
def test_weights_say_how_they_were_trained(
  parts, tmp_path, untrained, noise, rate, confusion
):
  arguments = ("--losses=focal", f"--label_noise={noise or 0}", "--shift=0")
  _command(parts, tmp_path, *arguments)
  program, member = untrained[0]
  assert json.loads((tmp_path / "protocol.json").read_text())["shift"] == 0
  config = ablation_weights.config_of(program, member)
  assert config.augment.shift == 0
  assert config.data.label_noise.rate == rate
  assert tuple(config.data.label_noise.confusion) == confusion


def test_wrong_labels_of_classes_have_a_short_name():
  def labels(*noises):
    records = [
      _made_up("cross_entropy", seed, 0.5, **({"label_noise": n} if n else {}))
      for n in noises
      for seed in (0, 1)
    ]
    return [row["label"] for row in ablation_report.compare(records, 4)]

  assert labels("", "0.2", "a:b:0.4+b:a:0.4") == [
    "cross_entropy",
    "cross_entropy label_noise=0.2",
    "cross_entropy label_noise=classes",
  ]
  # Not if there are two.
  assert labels("a:b:0.2", "a:b:0.4") == [
    "cross_entropy label_noise=a:b:0.2",
    "cross_entropy label_noise=a:b:0.4",
  ]


def test_wrong_labels_are_rows_of_their_own(parts, tmp_path, untrained):
  for noise in ("0", "0.25"):
    arguments = ("--losses=focal", "--seeds=2", f"--label_noise={noise}")
    _command(parts, tmp_path, *arguments)
  # The records without noise are those of a command that knows none.
  noises = [record.get("label_noise") for record in _records(tmp_path)]
  assert sorted(noises, key=str) == 4 * ["0.25"] + 4 * [None]
  table = (tmp_path / "table.txt").read_text()
  assert "noise: none, 0.25" in table
  rows = re.findall(r"^(cross_entropy|focal)( label_noise=0.25)? +\d", table, re.M)
  assert len(rows) == 4


def test_each_setting_is_compared_under_its_own_epochs():
  records = [
    _made_up(loss, seed, value + 0.001 * seed, epochs=epochs)
    for loss, epochs, value in (
      ("cross_entropy", 1, 0.5),
      ("focal", 1, 0.6),
      ("cross_entropy", 2, 0.8),
      ("focal", 2, 0.7),
      # Without cross-entropy of these epochs.
      ("focal", 3, 0.9),
    )
    for seed in (0, 1)
  ]
  rows = {
    r["label"]: r["difference"]["mean"] for r in ablation_report.compare(records, 4)
  }
  assert rows == pytest.approx(
    {
      "cross_entropy epochs=1": 0,
      "focal epochs=1": 0.1,
      "cross_entropy epochs=2": 0,
      "focal epochs=2": -0.1,
    }
  )


def test_what_is_not_finite_is_not_compared():
  records = _members(
    cross_entropy=[0.60, 0.70, 0.65, 0.64],
    focal=[0.651, 0.749, 0.70, 0.691],
    mse=[0.3, 0.3, 0.3, 0.66],
  )
  alone = ablation_report.compare(records[:8], 4)[1]["p_holm"]
  records[-2]["first_bad_step"], records[-4]["first_bad_step"] = 7, 12
  rows = ablation_report.compare(records, 4)
  assert rows[2]["verdict"] == "not finite from step 7 (2 of 4 seeds)"
  # Its p-value does not count in the others' correction.
  assert rows[1]["p_holm"] == alone


@pytest.mark.parametrize(
  ("data_set", "grid"),
  [
    *itertools.product(("mnist", "fer2013"), ("thesis", "angular")),
    ("mnist", "wrong_labels"),
    ("fer_plus_fer2013_labels", "wrong_labels"),
    ("fer_plus_majority_labels", "wrong_labels"),
  ],
)
def test_the_published_members_give_the_published_rows(data_set, grid):
  path = _RESULTS / f"ablation-{data_set}-{grid}.csv"
  records = []
  with path.open() as file:
    for line in csv.DictReader(file):
      noise = {"label_noise": line.pop("label_noise", "")}
      values = {
        k: v if k in noise else cli.parse_value(v)
        for k, v in (line | noise).items()
        if v != ""
      }
      record = {k: values.pop(k) for k in list(values) if k not in _ARGUMENTS}
      records.append(record | {"setting": values})
  num_classes = 10 if data_set in ("mnist", "cifar10") else 7
  rows = ablation_report.compare(records, num_classes)
  table = ablation_report.format_table(rows, _PROTOCOL, "")
  published = path.with_suffix(".txt").read_text()

  def body(text):
    return [line for line in text.splitlines() if re.search(r" of \d+ ", line)]

  assert len(body(published)) == len(rows)
  assert body(table) == body(published)


_ARGUMENTS = {
  "loss",
  *("kappa", "lam_max", "lam_min", "margin", "margin_fn", "reading", "scale"),
}


@pytest.mark.parametrize("count", [3, 12])
def test_curves_of_many_settings_have_the_colors_of_their_verdicts(drawn, count):
  losses = ["cross_entropy", *(f"l{i}" for i in range(count - 1))]
  rows = []
  for loss in losses:
    curves = {k: [0.2, 0.5] for k in ("train_accuracy", "train_cross_entropy")}
    row = {"label": loss, "setting": {"loss": loss}, "verdict": "better"}
    rows.append((row, [{"curves": curves}]))
  ablation_curves._plot(rows, pathlib.Path("curves.png"))
  (legend,) = drawn["curves.png"].legends
  names = [text.get_text() for text in legend.get_texts()]
  expected = (
    losses if count == 3 else ["cross_entropy", "better", "no difference shown"]
  )
  assert names[:3] == expected
  accuracy, entropy = drawn["curves.png"].axes
  assert list(accuracy.lines[1].get_ydata()) == [20, 50]
  assert list(entropy.lines[1].get_ydata()) == [0.2, 0.5]


@pytest.mark.parametrize(("chosen", "expected"), [("2", []), (None, [3])])
def test_the_number_of_devices_is_the_users_where_it_is_set(
  monkeypatch, chosen, expected
):
  updates = []
  monkeypatch.setattr(jax.config, "update", lambda _, count: updates.append(count))
  monkeypatch.setattr(cpu_devices, "cpu_cores", lambda: 3)
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
  if chosen is not None:
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", chosen)
  flags_given = types.SimpleNamespace(mapping="devices")
  margin_ablation._split_cores(flags_given, types.SimpleNamespace(engine="local"))
  assert updates == expected
