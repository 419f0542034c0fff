"""What all commands share: one line for a mistake, and --help lists the flags."""

import os
import subprocess
import sys

import commands
import pytest
from absl import flags

from emosynth_jax.utils import cli
from emosynth_jax.workdir import checkpoints


@pytest.mark.slow
def test_help_lists_the_flags_that_commands_share():
  # The other analyses define them by the same function.
  done = commands.run("-m", "emosynth_jax.analysis.gradcam", "--help")
  for flag in ("--workdir", "--data_dir", "--split", "traceback"):
    assert flag in done.stdout, f"{flag} not in {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
  "mistake",
  [
    ValueError("expected a split"),
    FileNotFoundError("no such folder"),
    checkpoints.CheckpointError("no checkpoint"),
  ],
)
def test_a_mistake_ends_the_command_with_one_line(mistake, capsys):
  with pytest.raises(SystemExit) as ended:
    with cli.mistakes_in_one_line(False):
      raise mistake
  assert ended.value.code == 1
  assert capsys.readouterr().err == f"error: {mistake}\n"


def test_traceback_lets_a_mistake_pass():
  with pytest.raises(ValueError, match="expected a split"):
    with cli.mistakes_in_one_line(True):
      raise ValueError("expected a split")


def test_an_error_that_no_input_causes_keeps_its_traceback():
  with pytest.raises(ZeroDivisionError):
    with cli.mistakes_in_one_line(False):
      raise ZeroDivisionError


def test_a_command_may_name_mistakes_of_its_own(capsys):
  with pytest.raises(SystemExit):
    with cli.mistakes_in_one_line(False, KeyError):
      raise KeyError("fold")
  assert capsys.readouterr().err == "error: 'fold'\n"


def test_words_beside_the_flags_are_refused(capsys):
  cli.expect_flags_only(["command"])
  with pytest.raises(SystemExit):
    cli.expect_flags_only(["command", "runs/ce"])
  assert "expected flags only, got the arguments ['runs/ce']" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["print('a', flush=True)", "print('a')"])
def test_a_closed_pipe_is_no_mistake(code):
  """Whether the text is still in a buffer at the end or not."""
  reading, writing = os.pipe()
  os.close(reading)
  program = (
    "from emosynth_jax.utils import cli\n"
    f"with cli.mistakes_in_one_line(False):\n  {code}"
  )
  done = commands.run(
    "-c", program, capture_output=False, stdout=writing, stderr=subprocess.PIPE
  )
  os.close(writing)
  assert done.stderr == ""
  assert done.returncode == cli.CLOSED_PIPE


@pytest.mark.parametrize("platform", ["cuda", "rocm", "nonsense", "tpu"])
def test_a_platform_without_a_device_is_named(platform):
  program = (
    "from emosynth_jax.utils import cli\nimport jax\n"
    "with cli.mistakes_in_one_line(False):\n  jax.devices()"
  )
  done = commands.run("-c", program, env={**os.environ, "JAX_PLATFORMS": platform})
  if done.returncode == 0:
    pytest.skip(f"there is a {platform} here")
  error = done.stderr.strip().splitlines()[-1]
  assert error.startswith(f"error: JAX finds no device for JAX_PLATFORMS={platform} (")
  assert error.endswith("unset it, or set JAX_PLATFORMS=cpu")
  assert "Traceback" not in done.stderr


def test_an_error_about_a_flag_says_what_to_do(monkeypatch):
  values = flags.FlagValues()
  flags.DEFINE_multi_string("workdir", None, "", flag_values=values, required=True)
  flags.DEFINE_enum("faces", "none", ["none"], "", flag_values=values)
  flags.DEFINE_integer("grid", 1, "", flag_values=values)
  flags.DEFINE_boolean("upright", True, "", flag_values=values)
  for flag in values._flags().values():
    values.register_key_flag_for_module("command", flag)
  monkeypatch.setattr(flags, "FLAGS", values)
  monkeypatch.setattr(sys, "argv", ["command"])

  def error(*arguments):
    with pytest.raises(flags.Error) as raised:
      values(["command", *arguments])
    return cli.describe_flag_error(raised.value)

  assert error() == "expected --workdir; --help lists the flags"
  assert error("--fces=none") == "--fces: no such flag; did you mean --faces?"
  assert error("--zzz") == "--zzz: no such flag; --help lists the flags"
  assert error("--faces=no") == "--faces=no: value should be one of <none>"
  assert error("--grid=a") == "--grid=a: expected a whole number"
  assert error("--upright=maybe") == "--upright=maybe: expected True or False"
