"""Lists the project's files that a training runs until the first loss is computed.

  python -m tools.trace_image --config=configs/fer2013.py:small --workdir=/tmp/traced

Takes the flags of `emosynth_jax.main`. The files are in the order in which a function
of theirs is first called; what runs only while a file is imported does not count.
"""

import inspect
import pathlib
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from emosynth_jax import main as command

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FOLDERS = ("configs", "emosynth_jax")


class _LossComputed(BaseException):
  """Ends the training."""


class _Files:
  """A profiler that notes the files of the functions that are called."""

  def __init__(self) -> None:
    self.found: dict[str, None] = {}
    self._names: dict[str, str] = {}

  def __call__(self, frame: FrameType, event: str, _: Any) -> None:
    if event not in ("call", "return"):
      return
    name = self._name(frame)
    if event == "return":
      function = frame.f_code.co_name
      if (name, function) == ("emosynth_jax/losses/_inputs.py", "call_loss"):
        _stop()
        raise _LossComputed
      return
    # The body of a module or a class is no function.
    is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if name and name not in self.found and is_function and not self._imports(frame):
      self.found[name] = None

  def _name(self, frame: FrameType) -> str:
    """The file's path below the root, "" for one of another project."""
    file = frame.f_code.co_filename
    if file not in self._names:
      path = pathlib.Path(file).absolute()
      is_ours = any(path.is_relative_to(_ROOT / folder) for folder in _FOLDERS)
      self._names[file] = path.relative_to(_ROOT).as_posix() if is_ours else ""
    return self._names[file]

  def _imports(self, frame: FrameType | None) -> bool:
    """Returns whether a file of the project that is being imported calls a function."""
    while frame is not None:
      if frame.f_code.co_name == "<module>" and self._name(frame):
        return True
      frame = frame.f_back
    return False


def _stop() -> None:
  threading.setprofile(None)
  sys.setprofile(None)


def trace(training: Callable[[], object]) -> list[str]:
  """Calls a training up to its first loss.

  Args:
    training: a function without arguments.

  Returns:
    The files below `configs/` and `emosynth_jax/` that it runs, by path.
  """
  files = _Files()
  threading.setprofile(files)
  sys.setprofile(files)
  try:
    training()
  except _LossComputed:
    pass
  finally:
    _stop()
  return list(files.found)


def main() -> None:
  """Prints the files of the training that the flags describe."""
  found = trace(command.run)
  print("\n".join(found))
  print(f"{len(found)} files")


if __name__ == "__main__":
  main()
