"""Error handling of benchmarks: a failure is one line, and the rest continues."""

import contextlib
from collections.abc import Iterator

from emosynth_jax.utils import cli


def describe(error: BaseException) -> str:
  """Formats an error in one line: its type, and the first line of its message."""
  said = next((line for line in str(error).splitlines() if line.strip()), "")
  return f"{type(error).__name__}: {said.strip()}".removesuffix(": ")


@contextlib.contextmanager
def in_one_line(what: str, failures: list[str]) -> Iterator[None]:
  """Context that reports an error in one line, after which the program continues.

  A process that the system kills, such as for lack of memory, still ends.

  Args:
    what: name of the attempt, for the message.
    failures: the line is appended to it.
  """
  try:
    yield
  except Exception as error:
    report(f"{what}: {describe(error)}", failures)


def report(line: str, failures: list[str]) -> None:
  """Prints a failure immediately, and records it."""
  print(f"failed: {line}", flush=True)
  failures.append(line)


def describe_end(code: int, errors: str) -> str:
  """Describes a child's end: exit code, and the last line of its stderr."""
  lines = errors.strip().splitlines()
  how = f"signal {-code}" if code < 0 else f"exit code {code}"
  return f"the process ended with {how}" + (f": {lines[-1].strip()}" if lines else "")


def end(failures: list[str]) -> None:
  """Ends the process with exit code 1 and one line, if anything failed."""
  if failures:
    cli.fail(f"{len(failures)} failed, see the lines above")
