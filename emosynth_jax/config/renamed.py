"""Old names of settings and results, which are still read; renamed.json lists them."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

_TABLE = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())

# Old path to new path of settings, as in --config.PATH.
SETTINGS: dict[str, str] = _TABLE["settings"]

# Old key to new key of stored documents: the last part of a setting's path, and fields
# of the results of every command.
KEYS: dict[str, str] = _TABLE["results"] | {
  old.rpartition(".")[2]: new.rpartition(".")[2] for old, new in SETTINGS.items()
}


# Parts of these documents whose keys are classes, or arguments of a user's own code.
_FOREIGN = ("by_classes", "class_counts", "loss", "model", "options", "per_class")


def with_new_names(stored: Any) -> Any:
  """Renames the keys of a stored JSON document that have an old name.

  Args:
    stored: JSON's dictionaries, lists and values.

  Returns:
    A copy with the new names. An old name is dropped where the new one is present.
  """
  if isinstance(stored, dict):
    renamed = {KEYS.get(key, key): value for key, value in stored.items()}
    current = {key: value for key, value in stored.items() if key not in KEYS}
    return {
      key: value if key in _FOREIGN else with_new_names(value)
      for key, value in (renamed | current).items()
    }
  return [with_new_names(x) for x in stored] if isinstance(stored, list) else stored


def update_arguments(arguments: Sequence[str]) -> list[str]:
  """Renames settings in the arguments of a command.

  Args:
    arguments: as in `sys.argv`.

  Returns:
    The arguments, with --config.OLD, also as part of a path, replaced by --config.NEW.
  """
  names = "|".join(map(re.escape, SETTINGS))
  pattern = re.compile(rf"(--?(?:no)?config\.)({names})(?=[.=]|$)")

  def rename(match: re.Match[str]) -> str:
    return match[1] + SETTINGS[match[2]]

  return [pattern.sub(rename, argument, count=1) for argument in arguments]
