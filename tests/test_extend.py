"""docs/guides/extend.md, run as written from an empty folder, with the package as a
wheel."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import PIL.Image
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "guides" / "extend.md"


def blocks() -> dict[str, str]:
  """The files on the page, by the name in their first line."""
  found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", _PAGE.read_text(), re.S)
  return dict(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A folder with the package's wheel, unpacked, and nothing of the checkout."""
  folder = tmp_path_factory.mktemp("wheel")
  # A copy, since a build leaves its folders in the checkout.
  shutil.copytree(
    _ROOT / "emosynth_jax",
    folder / "source" / "emosynth_jax",
    ignore=shutil.ignore_patterns("__pycache__"),
  )
  for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py"):
    shutil.copy(_ROOT / name, folder / "source")
  subprocess.run(
    [
      *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
      *("--no-build-isolation", "--wheel-dir", folder, folder / "source"),
    ],
    check=True,
    capture_output=True,
    env=os.environ
    | {"GITHUB_SERVER_URL": "https://host.example", "GITHUB_REPOSITORY": "us/this"},
  )
  (wheel,) = folder.glob("emosynth_jax-*.whl")
  zipfile.ZipFile(wheel).extractall(folder / "site")
  return folder / "site"


@pytest.fixture
def run(installed, tmp_path):
  for name, text in blocks().items():
    (tmp_path / name).write_text(text)

  def run(*arguments):
    environment = os.environ | {
      "PYTHONPATH": str(installed),
      "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
      [sys.executable, *arguments],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

  return run


def test_the_wheel_has_the_addresses_of_its_host(installed):
  (metadata,) = installed.glob("emosynth_jax-*.dist-info/METADATA")
  text = metadata.read_text()
  assert "Project-URL: Source, https://host.example/us/this\n" in text
  assert "Project-URL: Issues, https://host.example/us/this/issues\n" in text


def test_every_file_on_the_page_is_short():
  for name, text in blocks().items():
    assert len(text.splitlines()) <= 40, name


def test_the_page_uses_only_public_names():
  for text in blocks().values():
    assert not re.findall(r"(?:from|import) emosynth_jax\.", text)


def test_a_training_from_python(run, tmp_path):
  printed = run("my_training.py")
  assert re.search(r"Run\('runs/mine', .*my_network\.py:Patches, .*20 epochs", printed)
  own = tmp_path / "runs" / "mine" / "own_parts"
  assert (own / "loss.name" / "my_losses.py").is_file()


def test_a_train_step_by_hand(run):
  first, *_, last = map(float, re.findall(r"loss (\S+)", run("my_loop.py")))
  assert 0 < last < 0.7 * first


@pytest.mark.slow
def test_all_own_parts_by_command(run, tmp_path):
  printed = run(
    *("-m", "emosynth_jax.console", "train"),
    *("--config=synthetic_faces:ce", "--workdir=w", "--config.batch_size=64"),
    "--config.loss.name=mam_softmax+my_losses.py:sharpened",
    "--config.loss.temperature=0.7",
    "--config.loss.margin_fn=my_margin.py:gap",
    "--config.loss.factor=0.3",
    "--config.model.name=my_network.py:Patches",
    "--config.model.features=8",
    "--config.data.name=my_data.py:stripes",
    "--config.data.options.side=12",
    "--config.num_epochs=1",
  )
  for file in ("my_losses.py", "my_margin.py", "my_network.py", "my_data.py"):
    assert re.search(rf"own code .*{file} \(SHA-256 [0-9a-f]{{12}}\)", printed)


def test_faces_are_read_without_the_checkout(run, tmp_path):
  face = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
  PIL.Image.fromarray(face).save(tmp_path / "face.png")
  printed = run("-m", "emosynth_jax.console", "predict", "face.png", "--faces=none")
  assert re.search(
    r"face\.png.*(angry|disgust|fear|happy|neutral|sad|surprise|uncer)", printed
  )
