"""What every command of the project does alike."""

import contextlib
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from absl import flags, logging

from emosynth_jax.utils import errors

# A flag that is defined here belongs to the command that asked for it, in --help too.
flags.disclaim_key_flags()

# 128 and the number of SIGPIPE.
CLOSED_PIPE = 141

# Libraries that tell each of their steps through the same log.
_CHATTY = ("orbax", "xla_bridge", "dataset_info")


def define_traceback() -> None:
  """The flag --traceback, see `mistakes_in_one_line`."""
  flags.DEFINE_bool(
    "traceback", False, "Show where in the code an error about the input came from."
  )


def define_data_dir() -> None:
  """The flag --data_dir of a command that looks at a trained run."""
  flags.DEFINE_string("data_dir", None, "Where the data set is, if not where it was.")


def show_in_help(names: Iterable[str]) -> None:
  """Lists flags in the --help of the command that runs, though defined elsewhere."""
  for name in names:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def expect_flags_only(argv: Sequence[str]) -> None:
  """Ends the process if anything but flags is left of the command line."""
  if len(argv) > 1:
    fail(f"expected flags only, got the arguments {list(argv[1:])}")


@contextlib.contextmanager
def mistakes_in_one_line(
  show_traceback: bool, *also: type[Exception]
) -> Iterator[None]:
  """Within it, an error that the input can cause ends the process with one line.

  Where whoever reads the output has closed it, as `head` does, the process ends without
  a line, with the exit code that a shell reports for SIGPIPE.

  Args:
    show_traceback: lets it pass instead.
    *also: further kinds of error that the input of this command can cause.
  """
  mistakes: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    OSError,
    ModuleNotFoundError,
    errors.UserError,
    *also,
  )
  try:
    yield
    # Here and not when Python ends, where a closed pipe could no longer be told.
    sys.stdout.flush()
  except BrokenPipeError:
    _end_after_a_closed_pipe()
  except mistakes as error:
    if show_traceback:
      raise
    fail(error)


def start_logging() -> None:
  """Shows the project's own log lines, and libraries' errors."""
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(
    lambda record: (
      record.levelno >= 40 or not any(name in record.pathname for name in _CHATTY)
    )
  )


def use_compilation_cache() -> None:
  """Keeps compiled programs between runs, where JAX_COMPILATION_CACHE_DIR says."""
  import jax

  if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(cache) / "emosynth_jax")
    )
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def parse_config_flags(argv: list[str]) -> list[str]:
  """absl's parsing of flags, --config among them, with one line for a mistake."""
  try:
    arguments = flags.FLAGS(argv)
    # A config file that is missing is an error only when it is used.
    flags.FLAGS.config.is_locked  # noqa: B018
    return arguments
  except (flags.Error, OSError) as error:
    if "--traceback" in argv:
      raise
    # ml_collections quotes a whole traceback, whose last line says what is wrong.
    fail(re.sub(r"^\w+Error: ", "", str(error).strip().splitlines()[-1].strip()))
  except (AttributeError, KeyError) as error:
    if "--traceback" in argv:
      raise
    changes = " ".join(flag for flag in argv if flag.startswith("--config."))
    reason = str(error).partition(". Other fields")[0].strip("\"'")
    fail(f"no such setting in {changes}: {reason}")


def _end_after_a_closed_pipe() -> NoReturn:
  """Ends the process quietly."""
  # What is still buffered would fail once more when Python ends, and be reported.
  with contextlib.suppress(OSError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(CLOSED_PIPE)


def fail(error: object) -> NoReturn:
  """Ends the process with one line instead of a traceback."""
  logging.flush()
  print(f"error: {error}", file=sys.stderr)
  sys.exit(1)
