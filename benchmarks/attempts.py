"""What fails is one line of the output, and the rest of a benchmark goes on."""

import contextlib
from collections.abc import Iterator

from emosynth_jax.utils import cli


def describe(error: BaseException) -> str:
  """An error in one line: its kind, and the first line that it says."""
  said = next((line for line in str(error).splitlines() if line.strip()), "")
  return f"{type(error).__name__}: {said.strip()}".removesuffix(": ")


@contextlib.contextmanager
def in_one_line(what: str, failures: list[str]) -> Iterator[None]:
  """Within it, an error becomes a line, and what comes after it goes on.

  A process that the system kills, as for want of memory, ends all the same.

  Args:
    what: what is tried, for the line.
    failures: gets the line, too.
  """
  try:
    yield
  except Exception as error:
    report(f"{what}: {describe(error)}", failures)


def report(line: str, failures: list[str]) -> None:
  """Prints what failed at once, and keeps it."""
  print(f"failed: {line}", flush=True)
  failures.append(line)


def describe_end(code: int, errors: str) -> str:
  """How a child ended: its exit code, and the last line of what it said of errors."""
  lines = errors.strip().splitlines()
  how = f"signal {-code}" if code < 0 else f"exit code {code}"
  return f"the process ended with {how}" + (f": {lines[-1].strip()}" if lines else "")


def end(failures: list[str]) -> None:
  """Ends the process with exit code 1 and one line, if anything failed."""
  if failures:
    cli.fail(f"{len(failures)} failed, see the lines above")
