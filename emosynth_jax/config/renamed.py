"""Old names of settings and report fields, which are still read."""

import re
from collections.abc import Sequence
from typing import Any

# Old name to new, of settings (config.json, a bundle's header, --config.*) and of
# fields of report.json, seeds.json and audit.json. A name is one key, at any depth.
RENAMED = {
  "twins": "near_duplicates",
  "evaluate_without_twins": "evaluate_deduplicated",
  "without_twins": "deduplicated",
  "accuracy without twins": "deduplicated accuracy",
  "images_with_twin": "images_with_near_duplicate",
}

# Paths of the settings among them, for the command line.
_SETTINGS = ("data.twins", "evaluate_without_twins")


def with_new_names(stored: Any) -> Any:
  """Renames the keys of a stored JSON document that have an old name.

  Args:
    stored: JSON's dictionaries, lists and values.

  Returns:
    A copy with the new names. An old name is dropped where the new one is present.
  """
  if isinstance(stored, dict):
    renamed = {RENAMED.get(key, key): value for key, value in stored.items()}
    current = {key: value for key, value in stored.items() if key not in RENAMED}
    return {key: with_new_names(value) for key, value in (renamed | current).items()}
  return [with_new_names(x) for x in stored] if isinstance(stored, list) else stored


def update_arguments(arguments: Sequence[str]) -> list[str]:
  """Renames settings in the arguments of a command.

  Args:
    arguments: as in `sys.argv`.

  Returns:
    The arguments, where `--config.data.twins.max_distance=8` is
    `--config.data.near_duplicates.max_distance=8`.
  """
  names = "|".join(map(re.escape, _SETTINGS))
  pattern = re.compile(rf"(--?(?:no)?config\.)({names})(?=[.=]|$)")
  return [pattern.sub(_rename_setting, argument, count=1) for argument in arguments]


def _rename_setting(match: re.Match[str]) -> str:
  part, dot, leaf = match[2].rpartition(".")
  return f"{match[1]}{part}{dot}{RENAMED[leaf]}"
