"""How the tests' programs are compiled. Imports no JAX, which reads XLA_FLAGS."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

# XLA's older way to compile fusions takes half of the time, and is known to be in these
# versions; a process ends at a flag that its XLA doesn't know.
_HAS_OLDER_EMITTERS = importlib.metadata.version("jaxlib").startswith("0.10.")
# Most of the tests' time is compilation, of programs that then run once. Options of a
# program, and the same as flags of a process.
HASTE = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
  **({"xla_cpu_use_fusion_emitters": False} if _HAS_OLDER_EMITTERS else {}),
}
_FLAGS = tuple(f"--{name}={str(value).lower()}" for name, value in HASTE.items())
# Compiler options for tests that are not to be compiled in haste: what XLA does where
# nobody asks for anything else.
AS_USED = {
  "xla_backend_optimization_level": 3,
  "xla_llvm_disable_expensive_passes": False,
  **({"xla_cpu_use_fusion_emitters": True} if _HAS_OLDER_EMITTERS else {}),
}


def xla_flags(*flags: str, haste: bool = True) -> str:
  """Returns XLA_FLAGS for the tests or for a process of theirs.

  What the caller of pytest has set, say --xla_cpu_max_isa=AVX2, stays, before a test's
  own `flags` and after those of haste: XLA goes by the last.
  """
  given = os.environ.get("XLA_FLAGS", "").split()
  outer = [flag for flag in given if flag not in _FLAGS]
  return " ".join([*(_FLAGS if haste else ()), *outer, *flags])


def cache_folder() -> str:
  """Compiled programs of this process and the commands that it starts.

  A worker of xdist has its own within the folder of the process that started it: an
  entry is not written atomically.
  """
  if "EMOSYNTH_TEST_CACHE" not in os.environ:
    os.environ["EMOSYNTH_TEST_CACHE"] = folder = tempfile.mkdtemp(prefix="emosynth-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
  worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
  return os.path.join(os.environ["EMOSYNTH_TEST_CACHE"], worker)
