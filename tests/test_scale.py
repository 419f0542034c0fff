"""The same training on one device, on eight, and in two processes of two devices.

Only processes of their own can have more devices than one: tests/scale has what they
run. One device's run here is what all others are compared with.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import commands
import jax
import numpy as np
import pytest
import tiny_workdir
from compilation import xla_flags
from PIL import Image

from emosynth_jax import train_loop
from emosynth_jax.workdir.metric_writer import read_records

_FOLDER = pathlib.Path(__file__).parent / "scale"
_SECONDS = 600  # for machines that are busy; a job that hangs ends here
sys.path.append(str(_FOLDER))

import tiny_config  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny_networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Images of three classes: 27 to train on and 12 to validate."""
  root = tmp_path_factory.mktemp("scale")
  for k in range(39):
    path = root / "images" / "abc"[k % 3] / f"{k:02d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(k).integers(0, 200, (4, 4)) + 25 * (k % 3)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
  return root


def _config(folder, **changes):
  config = tiny_config.get_config()
  config.data.data_dir = str(folder / "images")
  config.update(changes)
  return config


def _last(config, workdir):
  sizes = {"image_shape": (4, 4, 1), "num_classes": 3}
  return tiny_workdir.restore(config, workdir, "last", **sizes)


@pytest.fixture(scope="module")
def alone(folder):
  """The workdir of a run on one device."""
  assert train_loop.train(_config(folder), folder / "alone", devices=jax.devices()[:1])
  return folder / "alone"


def _assert_same_but_rounding(config, workdir, alone, rounding=1):
  states = [_last(config, each) for each in (workdir, alone)]
  assert int(states[0].step) == int(states[1].step) == 9
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=2e-4 * rounding, atol=2e-6 * rounding
    ),
    *[(s.params, s.batch_stats, s.ema, s.totals["loss"]) for s in states],
  )
  records = [read_records(each / "metrics.jsonl") for each in (workdir, alone)]
  assert len(records[0]) == 3
  for record, expected in zip(*records, strict=True):
    assert record == pytest.approx(expected, rel=1e-4 * rounding)
  data, expected = (json.loads((w / "data.json").read_text()) for w in (workdir, alone))
  if workdir.name in ("grain", "stopped"):  # which never had all images at once
    for split in expected.values():
      del split["images_crc32"]
  assert data == expected


@pytest.mark.slow  # Two processes of two devices each are not.
def test_eight_devices_train_as_one_does(folder, alone):
  environment = os.environ | {
    "XLA_FLAGS": xla_flags("--xla_force_host_platform_device_count=8"),
    "SCALE_FOLDER": str(folder),
  }
  arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--durations=5"]
  done = commands.run(
    *("-m", "pytest", *arguments, str(_FOLDER / "eight_devices.py")),
    env=environment,
    timeout=_SECONDS,
  )
  assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
  for name in ("data_8", "four", "grain"):
    _assert_same_but_rounding(_config(folder), folder / name, alone)
  # BatchNorm of a part of the batch is the same on any number of devices, too, and is
  # another than that of the whole batch.
  config = _config(folder, batch_norm_groups=4)
  in_groups = folder / "groups_1"
  assert train_loop.train(config, in_groups, devices=jax.devices()[:1])
  # The deviation of two images amplifies what rounding changes.
  _assert_same_but_rounding(config, folder / "groups_8", in_groups, rounding=30)
  with pytest.raises(AssertionError):
    _assert_same_but_rounding(config, folder / "groups_8", alone, rounding=30)


class _Job:
  """Two processes of two devices each, which train in one workdir."""

  def __init__(self, folder, workdir, *settings, of_second=()):
    with socket.socket() as server:
      server.bind(("127.0.0.1", 0))
      port = server.getsockname()[1]
    environment = os.environ | {
      "XLA_FLAGS": xla_flags("--xla_force_host_platform_device_count=2"),
      "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
      "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
    }
    command = [
      f"--config={_FOLDER / 'tiny_config.py'}",
      f"--config.data.data_dir={folder / 'images'}",
      f"--workdir={workdir}",
      *settings,
      f"--coordinator_address=127.0.0.1:{port}",
      "--num_processes=2",
    ]
    self.processes = [
      subprocess.Popen(
        [sys.executable, _FOLDER / "job.py", *own, *command, f"--process_id={i}"],
        cwd=_FOLDER.parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for i, own in enumerate([(), of_second])
    ]

  def wait(self):
    """Exit codes, outputs and error outputs of both."""
    try:
      texts = [process.communicate(timeout=_SECONDS) for process in self.processes]
    finally:
      for process in self.processes:
        process.kill()
    codes = [process.returncode for process in self.processes]
    return codes, [out for out, _ in texts], [error for _, error in texts]


def _die(step, number):
  return (f"--die_at_step={step}", f"--signal={number}")


@pytest.fixture(scope="module")
def stopped(folder):
  """A job whose second process got SIGTERM within the second epoch."""
  workdir = folder / "stopped"
  return workdir, _Job(folder, workdir, of_second=_die(4, signal.SIGTERM)).wait()


def test_sigterm_of_one_process_stops_all_at_one_step(folder, stopped):
  workdir, (codes, _, errors) = stopped
  assert codes == [143, 143], errors  # 128 plus the number of SIGTERM.
  assert int(_last(_config(folder), workdir).step) == 4
  # The first process tells, the second has nothing to say.
  assert "Interrupted by SIGTERM at step 4" in errors[0]
  assert "step 4" not in errors[1]
  assert not (workdir / "report.json").exists()


def test_each_process_decodes_its_own_images_alone(stopped):
  _, (_, outputs, _) = stopped
  reads = [json.loads(re.search("READS (.*)", out)[1]) for out in outputs]
  # 39 images for both splits, each process a half but for the padding; the sample by
  # which the data is known again, at most 64 images a split, comes on top.
  assert [sum(each.values()) for each in reads] == [39 + 20, 39 + 19], reads


def test_two_processes_resume_train_and_report_as_one_does(folder, alone, stopped):
  workdir, _ = stopped
  # A run on resident data resumes from disk, each process with its own part.
  codes, outputs, errors = _Job(folder, workdir, "--config.data.pipeline=grain").wait()
  assert codes == [0, 0], errors
  _assert_same_but_rounding(_config(folder), workdir, alone)
  report = json.loads((workdir / "report.json").read_text())
  assert report["batch_invariance"]["passed"]
  assert [line["device_count"] for line in report["trained_by"]] == [4, 4]
  assert report["splits"]["validation"]["accuracy"] == pytest.approx(
    max(r["validation/accuracy"] for r in read_records(alone / "metrics.jsonl"))
  )
  assert "data set" in outputs[0]
  assert "data set" not in outputs[1]
  assert (workdir / "provenance.jsonl").read_text().count("\n") == 2


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_and_one_process_goes_on(folder, alone):
  workdir = folder / "killed"
  # Both share each wide kernel, whose halves then lie on two processes each.
  # Without it, the save of step 3 alone would run beside the training, up to the kill.
  settings = ("--config.mesh.model=4", "--config.checkpoint.min_seconds=0")
  job = _Job(folder, workdir, *settings, of_second=_die(8, signal.SIGKILL))
  codes, _, errors = job.wait()
  assert codes[1] == -signal.SIGKILL
  assert codes[0] == 1
  assert "error: process 0 of 2: lost connection" in errors[0]
  assert "Traceback" not in errors[0]
  # Saves run beside the training: that of step 6 may have been cut off, that of step 3
  # was whole before it began.
  assert int(_last(_config(folder), workdir).step) in (3, 6)
  # Saved by two processes of two devices, it is read by one of one.
  assert train_loop.train(_config(folder), workdir, devices=jax.devices()[:1])
  _assert_same_but_rounding(_config(folder), workdir, alone)
