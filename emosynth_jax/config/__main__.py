"""Prints the settings of a run, with defaults, values and what they mean.

  python -m emosynth_jax.config
  python -m emosynth_jax.config fer2013:small
  python -m emosynth_jax.config configs/fer2013.py:small,ce --diff

The argument is a recipe or a config file, with its variants after a colon. A value that
differs from the default is marked with "*"; --diff prints these alone.
"""

from absl import flags

from emosynth_jax.config import defaults, listing, recipes
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_bool("diff", False, "Print only settings that differ from the default.")
  cli.define_traceback()


def main(argv: list[str]) -> None:
  """Prints the settings."""
  args = flags.FLAGS
  with cli.mistakes_in_one_line(args.traceback):
    if len(argv) > 2:
      raise ValueError(f"expected one recipe or config file, got {argv[1:]}")
    config = recipes.read(argv[1]) if argv[1:] else defaults.get_default_config()
    values = defaults.flatten(config.to_dict())
    print("\n".join(listing.describe(values, diff=args.diff)))


if __name__ == "__main__":
  define_flags()
  cli.run_app(main)
