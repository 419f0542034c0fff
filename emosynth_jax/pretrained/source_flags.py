"""Flags of commands that take a trained network: --workdir and --bundle."""

import pathlib
from typing import Any

from absl import flags

from emosynth_jax import pretrained

# The flags are those of the command that defines them, for --help.
flags.disclaim_key_flags()


def define_source() -> None:
  """Defines --workdir and --bundle."""
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.")
  flags.DEFINE_string(
    "bundle",
    None,
    "A .safetensors file of emosynth_jax.bundle, or the name of an included network: "
    f"{' or '.join(pretrained.NETWORKS)}. By default, without --workdir, "
    f"{pretrained.DEFAULT}.",
  )


def read_source(args: Any) -> str | pathlib.Path | None:
  """The network that the flags name, as `bundle.read_network` takes it.

  Args:
    args: the flags.

  Returns:
    The workdir, as a path since it may have the name of an included network; or the
    bundle; or None for the default network.

  Raises:
    ValueError: if both are given.
  """
  if args.workdir and args.bundle:
    raise ValueError("expected --workdir or --bundle, not both")
  return pathlib.Path(args.workdir) if args.workdir else args.bundle
