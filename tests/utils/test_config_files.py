"""--config names no config file, or a setting no value: one line says which and why."""

import os
import pathlib
import runpy
import sys
import types

import pytest
from absl import flags
from ml_collections import config_flags

from emosynth_jax.config import command_line, defaults
from emosynth_jax.training import build
from emosynth_jax.workdir import record

_CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "synthetic_faces.py"

_MODULE = "config_config"

# ml_collections loads a config file by a deprecated method.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")


@pytest.fixture
def parse_flags(monkeypatch):
  """Parses a command line; returns the flags."""
  # ml_collections gives all config files one name, and loads the next into the module
  # of the last.
  monkeypatch.delitem(sys.modules, _MODULE, raising=False)

  def run(*arguments):
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
      "config",
      None,
      "",
      flag_values=values,
      lock_config=False,
      accept_new_attributes=True,
    )
    flags.DEFINE_string("data_dir", None, "", flag_values=values)
    monkeypatch.setattr(
      command_line, "flags", types.SimpleNamespace(FLAGS=values, Error=flags.Error)
    )
    command_line.parse_config_flags(["command", *arguments])
    return values

  yield run
  sys.modules.pop(_MODULE, None)


@pytest.fixture
def parse_config(parse_flags):
  """Parses a command line; returns the config."""
  return lambda *arguments: parse_flags(*arguments).config


@pytest.mark.parametrize(
  ("arguments", "section", "expected"),
  [
    ((), "loss", {"name": "label_smoothing", "smoothing": 0.1}),
    # The file's own name replaces nothing.
    (
      ("loss.name=label_smoothing",),
      "loss",
      {"name": "label_smoothing", "smoothing": 0.1},
    ),
    (("loss.name=cross_entropy",), "loss", {"name": "cross_entropy"}),
    (("loss.name=poly", "loss.epsilon=2."), "loss", {"name": "poly", "epsilon": 2.0}),
    (("data.name=mnist",), "data.options", {}),
    (("model.name=vgg11",), "model", {"name": "vgg11", "dtype": "float32"}),
  ],
)
def test_a_name_by_flag_drops_the_arguments_of_the_file(
  parse_flags, arguments, section, expected
):
  given = [f"--config.{argument}" for argument in arguments]
  values = parse_flags(f"--config={_CONFIG}:strong", "--data_dir=here", *given)
  config = command_line.config_of(values)
  assert defaults.get(config, section).to_dict() == expected
  assert config.data.data_dir == "here"


@pytest.mark.parametrize(
  ("settings", "said"),
  [
    (("cross_entropy",), "cross_entropy {}"),
    (("arcface", "margin=.3"), "arcface {'margin': 0.3}"),
    (("sphereface", "margin=3"), "sphereface {'margin': 3}"),
  ],
)
def test_a_losss_arguments_by_flag_are_those_it_is_called_with(
  parse_flags, settings, said
):
  name, *arguments = settings
  values = parse_flags(
    f"--config={_CONFIG}:small,strong",
    f"--config.loss.name={name}",
    *(f"--config.loss.{argument}" for argument in arguments),
  )
  config = command_line.config_of(values)
  loss = build.build_experiment(config, image_shape=(32, 32, 1), num_classes=7).loss
  assert f"{loss.func.__name__} {loss.keywords}" == said


def test_an_argument_that_a_loss_lacks_is_refused_by_name(parse_flags):
  values = parse_flags(
    f"--config={_CONFIG}", "--config.loss.name=arcface", "--config.loss.marginn=.3"
  )
  with pytest.raises(
    ValueError,
    match=r"takes no argument 'marginn'; did you mean margin\? Known: scale, margin",
  ):
    build.build_experiment(
      command_line.config_of(values), image_shape=(32, 32, 1), num_classes=7
    )


@pytest.fixture
def parse(parse_config, capsys):
  """Parses a command line; returns the error, which must be one line."""

  def run(*arguments):
    with pytest.raises(SystemExit):
      parse_config(*arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]

  return run


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    # /etc/passwd
    ("root:x:0:0:root:/root:/bin/bash\n", "got SyntaxError, line 1: invalid syntax"),
    # Not listed there: other files that are no config.
    ("x = 1\n", "got a file without it"),
    ("import no_such_module\n", "got ModuleNotFoundError: No module named"),
    ("def get_config(variants=None):\n  return {}['a']\n", "raised KeyError('a')"),
    ("def get_config(variants=None):\n  return 5\n", "returned int, expected a Conf"),
  ],
)
def test_a_file_that_is_no_config_is_named_in_one_line(
  parse, tmp_path, content, problem
):
  path = tmp_path / "config.py"
  path.write_text(content)
  error = parse(f"--config={path}")
  assert error.startswith(f"error: --config={path}: ")
  assert problem in error


def test_an_edit_of_equal_size_within_a_second_is_read_anew(
  parse_config, tmp_path, monkeypatch
):
  monkeypatch.setattr(sys, "dont_write_bytecode", False)
  path = tmp_path / "config.py"
  for epochs in (3, 4):
    path.write_text(
      "import ml_collections\n\n\ndef get_config(variants=None):\n"
      f"  return ml_collections.ConfigDict({{'num_epochs': {epochs}}})\n"
    )
    os.utime(path, (10**9, 10**9))
    assert parse_config(f"--config={path}").num_epochs == epochs


def test_a_folder_and_a_missing_file_are_named_in_one_line(parse, tmp_path):
  assert parse(f"--config={tmp_path}").startswith(
    f"error: --config={tmp_path}: is a folder"
  )
  missing = tmp_path / "missing.py"
  assert "no such file" in parse("--config", str(missing))


@pytest.mark.parametrize(
  ("change", "remedy"),
  [
    ("--config.loss=arcface", "--config.loss.name=..."),
    ("--config.model=resnet18", "--config.model.name=..."),
    ("--config.optimizer=sgd", "--config.optimizer.name=..."),
    ("--config.augment=strong", "--config.augment."),
  ],
)
def test_a_section_that_is_given_a_value_says_how_to_set_it(parse, change, remedy):
  error = parse(f"--config={_CONFIG}", change)
  assert error.startswith(f"error: {change.partition('=')[0]}: a section of settings")
  assert remedy in error


def test_other_settings_are_described_as_before(parse):
  assert "--config.lr=1: no such setting" in parse(
    f"--config={_CONFIG}", "--config.lr=1"
  )
  assert (
    "--config.optimizer.lr=1: no such setting; did you mean optimizer.lear"
    in parse(f"--config={_CONFIG}", "--config.optimizer.lr=1")
  )
  assert "--config.plateau.x.y=3: no such setting" in parse(
    f"--config={_CONFIG}", "--config.plateau.x.y=3"
  )
  assert "--config.batch_size=a: expected a whole number" in parse(
    f"--config={_CONFIG}", "--config.batch_size=a"
  )
  assert "--learning_rate: no such flag" in parse(
    f"--config={_CONFIG}", "--learning_rate=3"
  )
  assert "expected --config" in parse("--data_dir=here")
  assert (
    "unknown config variant 'strange'; did you mean strong? Known: all_cnn"
    in parse(f"--config={_CONFIG}:strange")
  )


def test_an_evaluation_without_config_takes_that_of_the_run(tmp_path):
  for name in ("run", "seeds/seed0", "seeds/seed1"):
    config = defaults.get_default_config()
    config.seed = 7 if name == "run" else int(name[-1])
    record.keep_config(config, tmp_path / name)

  def seed(workdir, *arguments):
    argv = ["main", "--mode", "eval", f"--workdir={tmp_path / workdir}", *arguments]
    _, config, *rest = command_line.with_stored_config(argv)
    assert rest == argv[1:]
    path, _, workdir = config.removeprefix("--config=").partition(":")
    return runpy.run_path(path)["get_config"](workdir).seed

  assert seed("run") == 7
  assert seed("seeds", "--seeds=0,1") == 0
  with pytest.raises(ValueError, match="seeds has several seeds; add --seeds"):
    seed("seeds")
  with pytest.raises(FileNotFoundError, match="expected the folder of a trained run"):
    seed("nothing")
  training = ["main", "--workdir", str(tmp_path / "run")]
  assert command_line.with_stored_config(training) == training
