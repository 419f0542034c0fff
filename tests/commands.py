"""Python programs that tests start, in processes of their own."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(*arguments, **options):
  """Runs Python in the checkout, and captures what it prints.

  Args:
    *arguments: those of the interpreter.
    **options: of `subprocess.run`, instead of the usual ones.
  """
  usual = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
  return subprocess.run([sys.executable, *arguments], **usual | options)
