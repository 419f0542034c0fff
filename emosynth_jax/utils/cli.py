"""Shared command-line code."""

import ast
import contextlib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from emosynth_jax.utils import (
  config_files,
  errors,
  files,
  log_file,
  progress,
  stop_signal,
)
from emosynth_jax.utils.nearest import did_you_mean

# Flags defined here belong to the command that requests them, also in --help.
flags.disclaim_key_flags()

# 128 plus the number of SIGPIPE.
CLOSED_PIPE = 141


def run(
  define_flags: Callable[[], None],
  action: Callable[[Any], object],
  *mistakes: type[Exception],
  compilation_cache: bool = True,
  **app_options: Any,
) -> None:
  """Runs a command: defines and parses its flags, and calls its action with them.

  Args:
    define_flags: defines the command's own flags; --traceback and --trust are added.
    action: takes the flags.
    *mistakes: as `call` takes them.
    compilation_cache: likewise.
    **app_options: further arguments of `absl.app.run`.
  """
  define_flags()
  define_traceback()
  define_trust()
  main = functools.partial(
    call, action=action, mistakes=mistakes, compilation_cache=compilation_cache
  )
  run_app(main, **app_options)


def call(
  argv: Sequence[str],
  action: Callable[[Any], object],
  mistakes: Sequence[type[Exception]] = (),
  *,
  compilation_cache: bool = True,
) -> None:
  """Calls a command's action; invalid input exits with a one-line error.

  Args:
    argv: the positional arguments, of which none is expected.
    action: takes the flags.
    mistakes: further error types that the input of this command can cause.
    compilation_cache: whether compiled programs are cached on disk.
  """
  expect_flags_only(argv)
  start_logging()
  if compilation_cache:
    use_compilation_cache()

  with mistakes_in_one_line(flags.FLAGS.traceback, *mistakes):
    action(flags.FLAGS)


def define_traceback() -> None:
  """Defines the flag --traceback, see `mistakes_in_one_line`."""
  flags.DEFINE_bool(
    "traceback", False, "Show the traceback of an error about the input."
  )


def define_data_dir() -> None:
  """Defines the flag --data_dir of a command that evaluates a trained run."""
  flags.DEFINE_string(
    "data_dir", None, "Data set directory, if it moved since training."
  )


def define_trust() -> None:
  """Defines the flag --trust of a command that reads a trained run."""
  flags.DEFINE_bool(
    "trust",
    False,
    "Run the Python code in a workdir that another user trained: a loss, network or "
    "data set of their own. Read it first; it is then remembered as trusted.",
  )


class _SeedsParser(flags.ArgumentParser):
  """Parses "0,1,2" to the number of seeds, 3.

  Commands of earlier versions, which result tables quote, have the number itself.
  """

  syntactic_help = "seeds from 0 on, as 0,1,2"

  def __init__(self, least: int):
    self._least = least

  def parse(self, argument: str | int) -> int:
    texts = str(argument).split(",")
    count = len(texts)
    # No list from 0 on, so that it can only be a number of seeds.
    is_number = count == 1 and texts[0].isdecimal() and int(texts[0]) > 0
    if is_number:
      count = int(texts[0])
      # Not by logging, which is not ready before the flags are parsed.
      print(f"--seeds={count}: taken as {count} seeds, from 0 on.", file=sys.stderr)
    elif [text.strip() for text in texts] != [str(i) for i in range(count)]:
      example = ",".join(map(str, range(max(3, self._least))))
      raise ValueError(f"expected a list of seeds from 0 on, as {example}")
    if count < self._least:
      raise ValueError(f"expected at least {self._least} seeds, as 0,1,2")
    return count


def define_seeds(count: int, text: str, *, least: int = 1) -> flags.FlagHolder:
  """Defines --seeds, a list as 0,1,2, of a command that numbers its seeds from 0.

  Args:
    count: number of seeds by default.
    text: what they are for.
    least: minimum number.

  Returns:
    The flag, whose value is the number of seeds.
  """
  default = ",".join(map(str, range(count)))
  return flags.DEFINE(_SeedsParser(least), "seeds", default, text)


def parse_value(text: str) -> Any:
  """Parses a number, tuple, True, False or None; any other text is itself."""
  try:
    return ast.literal_eval(text.strip())
  except (ValueError, SyntaxError):
    return text.strip()


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
  except (AssertionError, RuntimeError) as error:
    if show_traceback or not _is_of_backend(error):
      raise
    platforms = os.environ.get("JAX_PLATFORMS", "")
    fail(
      f"JAX finds no device for JAX_PLATFORMS={platforms} ({error or 'none there'}): "
      "unset it, or set JAX_PLATFORMS=cpu"
    )


def _is_of_backend(error: BaseException) -> bool:
  """Returns whether JAX raised an error on its search for devices."""
  frames = traceback.extract_tb(error.__traceback__)
  return bool(frames) and frames[-1].filename.endswith("xla_bridge.py")


def start_logging() -> None:
  """Enables the project's log lines, and libraries' errors."""
  log_file.start()


def use_compilation_cache() -> None:
  """Enables the persistent compilation cache, at JAX_COMPILATION_CACHE_DIR."""
  import jax

  if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    try:
      folder = files.user_folder("XDG_CACHE_HOME", ".cache")
    except OSError as error:
      logging.warning("Compiled programs are not kept: %s", error)
      return
    jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def run_app(
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
      app.run(main, **{"flags_parser": _parse_flags, **arguments})
  except SystemExit as end:
    if stops_at_once and stop.number and not end.code:
      stop_signal.end_process(stop.number)
    # absl exits with 1.
    if end.code == 1 and _HELP & {each.lstrip("-") for each in sys.argv[1:]}:
      sys.exit(0)
    raise
  except KeyboardInterrupt:
    progress.close_all()
    stop_signal.say("stopped by Ctrl-C")
    stop_signal.end_process(signal.SIGINT)


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the flags; an error is one line."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    fail(describe_flag_error(error))


def describe_flag_error(error: Exception) -> str:
  """Describes an error of parsing the flags in one line: what is wrong, what to do."""
  if isinstance(error, flags.UnrecognizedFlagError):
    name = error.flagname.partition("=")[0]
    known = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
    hint = did_you_mean(name, known).replace("mean ", "mean --").replace("or ", "or --")
    return f"--{name}: no such flag{hint or '; --help lists the flags'}"

  text = " ".join(str(error).split()).removeprefix("flag ")
  missing = re.match(r"--(\w+)=None: Flag --\1 must have a value other than None", text)
  if missing:
    return f"expected --{missing[1]}; --help lists the flags"
  return config_files.in_plain_words(text)


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
