"""Shared command-line code."""

import contextlib
import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from emosynth_jax.utils import errors, log_file, progress, stop_signal
from emosynth_jax.utils.nearest import did_you_mean

# Flags defined here belong to the command that requests them, also in --help.
flags.disclaim_key_flags()

# 128 plus the number of SIGPIPE.
CLOSED_PIPE = 141


def define_traceback() -> None:
  """Defines the flag --traceback, see `mistakes_in_one_line`."""
  flags.DEFINE_bool(
    "traceback", False, "Show where in the code an error about the input came from."
  )


def define_data_dir() -> None:
  """Defines the flag --data_dir of a command that evaluates a trained run."""
  flags.DEFINE_string("data_dir", None, "Where the data set is, if not where it was.")


def show_in_help(names: Iterable[str]) -> None:
  """Lists flags in the --help of the command that runs, though defined elsewhere."""
  for name in names:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def expect_flags_only(argv: Sequence[str]) -> None:
  """Exits with an error if there are positional arguments."""
  if len(argv) > 1:
    fail(f"expected flags only, got the arguments {list(argv[1:])}")


@contextlib.contextmanager
def mistakes_in_one_line(
  show_traceback: bool, *also: type[Exception]
) -> Iterator[None]:
  """Context in which an error caused by the input exits with a one-line message.

  If the reader of the output has closed it, as `head` does, the process exits silently,
  with the exit code that a shell reports for SIGPIPE.

  Args:
    show_traceback: raises the error instead.
    *also: further error types that the input of this command can cause.
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
    # Flushed here and not at exit, where a closed pipe could not be handled.
    sys.stdout.flush()
  except BrokenPipeError:
    _end_after_a_closed_pipe()
  except mistakes as error:
    if show_traceback:
      raise
    fail(error)


def start_logging() -> None:
  """Enables the project's log lines, and libraries' errors."""
  log_file.start()


def use_compilation_cache() -> None:
  """Enables the persistent compilation cache, at JAX_COMPILATION_CACHE_DIR."""
  import jax

  if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(cache) / "emosynth_jax")
    )
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def parse_config_flags(argv: list[str]) -> list[str]:
  """Parses flags, including --config; an error is one line."""
  _check_settings(argv)
  try:
    arguments = flags.FLAGS(argv)
    # A missing config file is an error only on access.
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


def _check_settings(argv: list[str]) -> None:
  """Exits with an error if a flag --config.X=... names no setting."""
  from emosynth_jax.config import defaults

  default = defaults.get_default_config()
  known = defaults.flatten(default.to_dict())
  sections = {path[:i] for path in known for i, c in enumerate(path) if c == "."}
  for argument in argv[1:]:
    path = re.match(r"--?config\.([^=]+)", argument)
    if path is None or path[1] in known:
      continue
    name = path[1]
    if any(name.startswith(f"{part}.") for part in defaults.OPEN_PARTS):
      continue
    if name in sections or name in defaults.OPEN_PARTS:
      inner = sorted(each for each in known if each.startswith(f"{name}."))
      fail(
        f"--config.{name}: a section of settings; name one of them, as "
        f"--config.{inner[0] if inner else f'{name}.NAME'}=..."
      )
    fail(f"{argument}: no such setting{did_you_mean(name, known)}")


def define_data_dir_of_config() -> flags.FlagHolder:
  """Defines --data_dir of a command with --config, see `apply_data_dir`."""
  return flags.DEFINE_string(
    "data_dir", None, "Where the data set lies; the same as --config.data.data_dir."
  )


def apply_data_dir(config: Any, data_dir: str | None) -> None:
  """Sets a config's data directory by --data_dir, if that is given."""
  if data_dir is not None:
    config.data.data_dir = data_dir


def run(
  main: Callable[[list[str]], Any], *, stops_at_once: bool = True, **arguments: Any
) -> None:
  """`app.run` for this project's commands.

  --help exits with 0. Ctrl-C and SIGTERM end the command at once with one line, also a
  shell's loop around it.

  Args:
    main: takes the arguments that are no flags.
    stops_at_once: False for a command that handles these signals itself.
    **arguments: of `app.run`.
  """
  try:
    with contextlib.ExitStack() as stack:
      if stops_at_once:
        stop = stack.enter_context(stop_signal.StopSignal(ends_process=True))
        stop.at_once = lambda: None
      app.run(main, **arguments)
  except SystemExit as end:
    # absl exits with 1.
    if end.code == 1 and _HELP & {each.lstrip("-") for each in sys.argv[1:]}:
      sys.exit(0)
    raise
  except KeyboardInterrupt:
    progress.close_all()
    stop_signal.say("stopped by Ctrl-C")
    stop_signal.end_process(signal.SIGINT)


_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}


def _end_after_a_closed_pipe() -> NoReturn:
  """Exits silently."""
  # Flushing the buffered output at exit would fail and be reported.
  with contextlib.suppress(OSError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(CLOSED_PIPE)


def fail(error: object) -> NoReturn:
  """Exits with one line instead of a traceback."""
  progress.close_all()
  logging.flush()
  print(f"error: {error}", file=sys.stderr)
  sys.exit(1)
