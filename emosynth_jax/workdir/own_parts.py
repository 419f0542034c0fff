"""The user's own loss, margin, network and data set of a run, copied into its workdir.

A setting such as `loss.name` can name a function in the user's own file (see
`utils.own_code`). The file and the modules beside it that it imports are copied when
the training starts, and whatever reads the workdir later uses the copy.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_collections
from absl import flags, logging

from emosynth_jax.config import defaults
from emosynth_jax.parallel import distributed
from emosynth_jax.utils import files, own_code
from emosynth_jax.utils.json_files import read_json

FOLDER = "own_parts"
_INDEX = "index.json"

# The settings that can name own code.
SETTINGS = ("loss.name", "loss.margin_fn", "model.name", "data.name")


# SHA-256 of the source of a function whose source Python does not know.
NO_SOURCE = hashlib.sha256(b"").hexdigest()


class Source(NamedTuple):
  """The code of one own part.

  Attributes:
    name: as the setting has it.
    file: the part's file, relative to the folder where its imports start.
    contents: each file's bytes, by relative path.
  """

  name: str
  file: str
  contents: dict[str, bytes]

  @property
  def hashes(self) -> dict[str, str]:
    """SHA-256 of each file, by relative path."""
    return {path: _sha256(content) for path, content in self.contents.items()}


def names_of(settings: Mapping[str, Any]) -> dict[str, str]:
  """The names of own parts among a config's settings.

  Args:
    settings: nested, of `ConfigDict.to_dict`.

  Returns:
    Setting to name; of a margin and a loss joined by "+", setting and position, as
    "loss.name.1", to the own one.
  """
  flat = defaults.flatten(settings)
  found = {}
  for setting in SETTINGS:
    parts = str(flat.get(setting, "")).split("+")
    for position, part in enumerate(parts):
      if own_code.is_own(part):
        found[setting if len(parts) == 1 else f"{setting}.{position}"] = part
  return found


def _split_setting(key: str) -> tuple[str, int]:
  """The setting and the position of a key of `names_of`."""
  setting, _, position = key.rpartition(".")
  return (setting, int(position)) if position.isdigit() else (key, 0)


def read_sources(config: ml_collections.ConfigDict) -> dict[str, Source]:
  """Reads the code of a config's own parts.

  Args:
    config: a checked config, its names as the user typed them.

  Returns:
    The source of each setting that names own code.

  Raises:
    FileNotFoundError: for a file that does not exist.
    ValueError: for a name of no file and function, or code that is no Python.
  """
  sources = {}
  for setting, name in names_of(config.to_dict()).items():
    if not own_code.has_file(name):
      text = own_code.source_text(name).encode()
      file = name.replace(":", "_") + ".txt"
      sources[setting] = Source(name, file, {file: text})
      continue
    path, _ = own_code.parse_name(name)
    root = own_code.root_of(path)
    sources[setting] = Source(
      name,
      path.relative_to(root).as_posix(),
      {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in own_code.source_files(path)
      },
    )

  return sources


def keep(sources: Mapping[str, Source], workdir: str | os.PathLike) -> None:
  """Copies own parts into a workdir that has none yet, in the first process.

  All processes of a job call it, and trust the code from now on.

  Args:
    sources: of `read_sources`.
    workdir: the run's folder.
  """
  _trust(hash_ for source in sources.values() for hash_ in source.hashes.values())
  if not distributed.is_first():
    return
  folder = pathlib.Path(workdir) / FOLDER
  if not sources or (folder / _INDEX).exists():
    return

  for setting, source in sources.items():
    for path, content in source.contents.items():
      files.write_atomically(folder / setting / path, content)

  index = {
    setting: {"name": source.name, "file": source.file, "sha256": source.hashes}
    for setting, source in sources.items()
  }
  text = json.dumps(index, indent=2, sort_keys=True) + "\n"
  files.write_atomically(folder / _INDEX, text.encode())


def hashes_of(workdir: str | os.PathLike) -> dict[str, dict[str, str]]:
  """The recorded SHA-256 of a workdir's own code, by setting and file; {} for none."""
  return {setting: entry["sha256"] for setting, entry in _read_index(workdir).items()}


def of_run(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> ml_collections.ConfigDict:
  """Returns the config whose own parts are those of the workdir.

  Args:
    config: a checked config, its names as the user typed them.
    workdir: the run's folder; one without a copy yet leaves the names alone.

  Returns:
    The config, or a copy with the paths of the copied files.

  Raises:
    ValueError: if the copied code is damaged, or neither this user trained with it nor
      --trust was given.
  """
  index = _read_index(workdir)
  if not index:
    return config

  config = config.copy_and_resolve_references()
  with config.unlocked():
    for key, entry in index.items():
      folder = pathlib.Path(workdir) / FOLDER / key
      _check(folder, entry)
      if not own_code.has_file(entry["name"]):
        continue
      attribute = entry["name"].rpartition(":")[2]
      setting, position = _split_setting(key)
      part, _, leaf = setting.rpartition(".")
      names = str(defaults.get(config, setting)).split("+")
      names[position] = f"{folder / entry['file']}:{attribute}"
      defaults.get(config, part)[leaf] = "+".join(names)

  changed = any(map(_has_changed, index.values()))
  typed = tuple(entry["name"] for entry in index.values())
  _say_once(pathlib.Path(workdir) / FOLDER, typed, changed)
  return config


def without_code(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns the config of a network that is to be used without the user's code.

  The loss is no part of what a trained network computes; the network is.

  Args:
    config: of a run whose loss, if it is the user's own, takes logits.

  Returns:
    The config, or a copy without own code.

  Raises:
    ValueError: if the network is the user's own.
  """
  own = names_of(config.to_dict())
  if not own:
    return config
  if "model.name" in own:
    raise ValueError(
      f"the network {own['model.name']} is code of this run, and a bundle holds no "
      "code; emosynth_jax.export writes it as ONNX or StableHLO"
    )

  config = config.copy_and_resolve_references()
  with config.unlocked():
    if {"loss.name", "loss.margin_fn"} & {_split_setting(key)[0] for key in own}:
      config.loss = ml_collections.ConfigDict({"name": "cross_entropy"})
    if "data.name" in own:
      config.data.name = own["data.name"].rpartition(":")[2]

  return config


def _read_index(workdir: str | os.PathLike) -> dict[str, Any]:
  path = pathlib.Path(workdir) / FOLDER / _INDEX
  if not path.is_file():
    return {}
  index = read_json(path, {"*": {"name": str, "file": str, "sha256": dict}})
  if unknown := sorted({_split_setting(key)[0] for key in index} - set(SETTINGS)):
    raise ValueError(f"{path} is damaged: unknown settings {unknown}")
  return index


def _check(folder: pathlib.Path, entry: Mapping[str, Any]) -> None:
  """Checks that copied code is what was copied, and trusted."""
  inside = folder.resolve()
  for file, expected in entry["sha256"].items():
    path = folder / file
    if not path.resolve().is_relative_to(inside) or not path.is_file():
      raise ValueError(f"{path}: this run's own code is missing")
    if _sha256(path.read_bytes()) != expected:
      raise ValueError(
        f"{path} was changed since the training: its SHA-256 is not the recorded one"
      )

  if entry["file"] not in entry["sha256"]:
    raise ValueError(f"{folder / entry['file']}: this run's own code is missing")

  unknown = [
    folder / file for file, hash_ in entry["sha256"].items() if hash_ not in _trusted()
  ]
  if not unknown:
    return
  if _is_trust_given():
    _trust(entry["sha256"].values())
    return

  raise ValueError(
    f"{unknown[0]} is Python code that this user has not trained with: read it, and "
    "repeat the command with --trust to run it, or call emosynth_jax.load with "
    "trust=True"
  )


def _has_changed(entry: Mapping[str, Any]) -> bool:
  """Returns whether the original of a copied file is there and differs."""
  if not own_code.has_file(entry["name"]):
    return False
  try:
    path, _ = own_code.parse_name(entry["name"])
    return _sha256(path.read_bytes()) != entry["sha256"][entry["file"]]
  except (OSError, ValueError):
    return False


@functools.cache
def _say_once(folder: pathlib.Path, names: tuple[str, ...], changed: bool) -> None:
  """Says where the code is from, and whether an original has changed since."""
  note = "; the original has changed since the training" if changed else ""
  logging.info("%s: using the copy in %s%s.", ", ".join(names), folder, note)


def _sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def _trust_file() -> pathlib.Path:
  return files.user_folder("XDG_STATE_HOME", ".local/state") / "trusted_code"


# What this process has trained with, also where the file can't be written.
_TRUSTED_HERE: set[str] = set()


def _trusted() -> set[str]:
  try:
    return _TRUSTED_HERE | set(_trust_file().read_text().split())
  except OSError:
    return set(_TRUSTED_HERE)


def _trust(hashes: Iterable[str]) -> None:
  """Adds code to what this user trusts."""
  new = sorted(set(hashes) - _trusted())
  if not new:
    return

  _TRUSTED_HERE.update(new)
  try:
    _trust_file().parent.mkdir(parents=True, exist_ok=True)
    with _trust_file().open("a") as file:
      file.write("".join(f"{hash_}\n" for hash_ in new))
  except OSError as error:
    logging.warning("Can't remember the code of this run as trusted (%s).", error)


def trust_workdir(workdir: str | os.PathLike) -> None:
  """Trusts the code in a workdir, as --trust does."""
  for entry in _read_index(workdir).values():
    _trust(entry["sha256"].values())


def _is_trust_given() -> bool:
  return flags.FLAGS.is_parsed() and "trust" in flags.FLAGS and flags.FLAGS.trust
