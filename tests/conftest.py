"""Settings that every test runs under."""

import os
import pathlib

import compilation

# Before JAX reads it. Compiled in haste, but for the commands of test_main.py and what
# takes AS_USED, which are compiled as users have them.
os.environ["XLA_FLAGS"] = compilation.xla_flags()

# Tests compile many programs more than once. Nothing is taken from the user's cache.
os.environ["JAX_COMPILATION_CACHE_DIR"] = compilation.cache_folder()
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import pytest

from emosynth_jax.metrics import plots
from emosynth_jax.utils import plotting

# No test may write to the user's cache; those of the cache itself choose a folder.
os.environ["EMOSYNTH_DATA_CACHE"] = "0"

# scikit-learn would ask lscpu, and warn where a slim container has none.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count()))

# An accidental broadcast between ranks is the commonest silent error in array code.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Real data stands beside the checkout where somebody has put it there; elsewhere
# EMOSYNTH_TEST_DATA names the folder, or the tests that need it are skipped.
_DEFAULT_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_report_header() -> str:
  """Says by which flags the programs were compiled, which may decide a last digit."""
  return f"XLA_FLAGS: {os.environ['XLA_FLAGS']}"


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """The folder that holds fer2013.zip and tfds/, or a skip with the reason."""
  folder = pathlib.Path(os.environ.get("EMOSYNTH_TEST_DATA", _DEFAULT_DATA))
  if not (folder / "fer2013.zip").exists():
    pytest.skip(f"no real data: {folder / 'fer2013.zip'} does not exist")
  return folder


@pytest.fixture(scope="module")
def tiny_networks():
  """The networks of tiny_network.py have names in the module that asks for them."""
  import tiny_workdir

  with pytest.MonkeyPatch.context() as patch:
    tiny_workdir.install(patch)
    yield


@pytest.fixture(scope="module")
def without_plots():
  """What evaluations draw, half a second each, is not drawn in the module."""
  with pytest.MonkeyPatch.context() as patch:
    for name in ("plot_curves", "plot_confusion_matrix", "plot_reliability"):
      patch.setattr(plots, name, lambda *_, **__: None)
    yield


@pytest.fixture
def drawn(monkeypatch):
  """The figures instead of files, by the file's name."""
  figures = {}
  monkeypatch.setattr(
    plotting, "save", lambda figure, path: figures.update({path.name: figure})
  )
  return figures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Begins with the files that take longest, and skips what is slow."""
  if not os.environ.get("EMOSYNTH_TEST_FULL"):
    slow = pytest.mark.skip(reason="slow: make test-all runs it")
    for item in items:
      if item.get_closest_marker("slow"):
        item.add_marker(slow)
  longest = (
    "test_scale.py",
    "test_main.py",
    "test_train_loop.py",
    "test_train_step.py",
    "test_extend.py",
    "test_stored_run.py",
    "test_damaged_workdir.py",
    "test_distributed.py",
    "test_face_tables.py",
  )
  items.sort(key=lambda item: item.path.name not in longest)
