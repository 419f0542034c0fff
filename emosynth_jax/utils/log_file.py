"""A run's log on disk, and the screen's log lines."""

import contextlib
import logging
import os
import pathlib
import re
import sys
import threading
from collections.abc import Iterator

from absl import logging as absl_logging

from emosynth_jax.utils import notebook

NAME = "log.txt"

# Loggers of libraries that log each of their steps.
_CHATTY = ("xla_bridge", "dataset_info", "font_manager")
# XLA's warning that a compilation takes more than two minutes, between lines of stars.
_SLOW_COMPILE = re.compile(
  r"^.*slow_operation_alarm.*\n(?:\s*\n)?(?:\*{8,}\n(?:[^*].*\n)*\*{8,}\n(?:\s*\n)?)?",
  re.MULTILINE,
)
# Lines of `kept_in`, which the screen had.
_OWN_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ .*\n", re.MULTILINE)
# One redirection at a time, as the descriptor is the process's.
_REDIRECTION = threading.Lock()
# Whether Python's standard error is a duplicate, apart from descriptor 2.
_is_separate = False


def is_ours(record: logging.LogRecord) -> bool:
  """Returns whether a log line is of this project, or a library's error.

  Not those of Orbax, which raises each of them as well, after several tracebacks.
  """
  if "orbax" in record.pathname:
    return False
  return record.levelno >= logging.ERROR or not any(
    name in record.pathname for name in _CHATTY
  )


def is_file_only(record: logging.LogRecord) -> bool:
  """Returns whether a line is for the file: on a terminal the bar stands for it."""
  return getattr(record, "file_only", False)


def _is_for_screen(record: logging.LogRecord) -> bool:
  return is_ours(record) and not is_file_only(record)


class _ScreenFormatter(logging.Formatter):
  """The message alone; a warning says that it is one."""

  def format(self, record: logging.LogRecord) -> str:
    text = super().format(record)
    return f"warning: {text}" if record.levelno == logging.WARNING else text


_NOTEBOOK_HANDLER = notebook.LogHandler()
_NOTEBOOK_HANDLER.setFormatter(_ScreenFormatter())
_NOTEBOOK_HANDLER.addFilter(_is_for_screen)


def start() -> None:
  """Shows log lines on standard error, as plain text; a run's log.txt has the times.

  In a notebook they are plain lines of the cell's output.

  Libraries in C++ write to descriptor 2, and Python from here on to a duplicate of it,
  so that `native_errors_to` can tell the two apart.
  """
  global _is_separate
  # Also in a notebook or a script, which `absl.app` does not start. First, since it
  # removes a handler of Python's standard error, which would show each line again.
  absl_logging.use_absl_handler()
  # There absl would add a warning that no flags were parsed.
  setattr(absl_logging, "_warn_preinit_stderr", False)  # noqa: B010
  handler = absl_logging.get_absl_handler()
  if sys.stderr is sys.__stderr__ and not _is_separate:
    with contextlib.suppress(OSError, ValueError, AttributeError):
      if sys.stderr is not None and sys.stderr.fileno() == 2:
        sys.stderr = os.fdopen(
          os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace"
        )
        handler.python_handler.stream = sys.stderr
        _is_separate = True
  handler.setFormatter(_ScreenFormatter())
  if notebook.is_running():
    logging.getLogger().removeHandler(handler)
    logging.getLogger().addHandler(_NOTEBOOK_HANDLER)
  absl_logging.set_verbosity(absl_logging.INFO)
  absl_logging.get_absl_logger().addFilter(is_ours)
  handler.addFilter(_is_for_screen)


@contextlib.contextmanager
def kept_in(folder: str | os.PathLike) -> Iterator[None]:
  """Context whose log lines are also added to `log.txt` in a folder.

  Outside of the main thread, where several runs are concurrent, only the thread's own.

  Args:
    folder: an existing folder.
  """
  try:
    handler = logging.FileHandler(pathlib.Path(folder) / NAME, encoding="utf-8")
  except OSError as error:
    absl_logging.warning("No log is kept: %s", error)
    yield
    return
  handler.setFormatter(
    logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
  )
  own = threading.current_thread()
  handler.addFilter(
    lambda record: (
      is_ours(record) and (own is threading.main_thread() or record.thread == own.ident)
    )
  )
  # A full disk must neither end a run nor print a traceback for each line.
  handler.handleError = lambda record: None  # type: ignore[method-assign]
  logging.getLogger().addHandler(handler)
  try:
    yield
  finally:
    logging.getLogger().removeHandler(handler)
    with contextlib.suppress(OSError):
      handler.close()


@contextlib.contextmanager
def native_errors_to(folder: str | os.PathLike) -> Iterator[None]:
  """Context in which libraries in C++ write to `log.txt` instead of the screen.

  For a compilation, of which XLA warns if it is slow. All other lines are shown when
  the context ends; if the process crashes, they are in the file.

  Args:
    folder: an existing folder.
  """
  if not _is_separate or not _REDIRECTION.acquire(blocking=False):
    yield
    return
  try:
    path = pathlib.Path(folder) / NAME
    try:
      log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
      begin = os.fstat(log).st_size
    except OSError:
      yield
      return
    screen = os.dup(2)
    os.dup2(log, 2)
    try:
      yield
    finally:
      os.dup2(screen, 2)
      os.close(screen)
      os.close(log)
      with contextlib.suppress(OSError):
        written = path.read_bytes()[begin:].decode(errors="replace")
        sys.stderr.write(_other_lines(written))
  finally:
    _REDIRECTION.release()


def _other_lines(text: str) -> str:
  """The libraries' lines that a user has to see: not XLA's alarm."""
  return _SLOW_COMPILE.sub("", _OWN_LINE.sub("", text))
