"""Engines of the ablation; on Ray with group names, devices and the user's files."""

import functools
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax

from emosynth_jax.utils import files, own_code
from emosynth_jax.workdir import provenance
from experiments.lib import ablation_groups, ablation_report, engines
from experiments.lib.ablation_groups import Group, Trained

# As `own_code.parse_name` takes it, with the file's absolute path.
_OWN_NAME = re.compile(r"(/.+\.py):\w+")

Files = tuple[tuple[str, bytes], ...]


class Parcel(NamedTuple):
  """A group with the user's code that it names: absolute path and content."""

  group: Group
  files: Files


def train_groups(
  groups: Iterable[Group], options: engines.Options
) -> Iterator[tuple[Group, list[Trained]]]:
  """Trains groups: one after the other in this process, or on Ray.

  Args:
    groups: of `ablation_groups.split_members`.
    options: where.

  Yields:
    Each group with its results, as they are done; with Ray in any order.
  """
  if options.engine == "local":
    for group in groups:
      yield group, ablation_groups.run_group(group)
    return
  named = {name_of(i, group): group for i, group in enumerate(groups)}
  parcels = {name: Parcel(group, own_files(group)) for name, group in named.items()}
  # With the mapping "devices", each of a worker's cores is one.
  uses_devices = any(g.program.mapping == "devices" for g in named.values())
  variables = {"JAX_NUM_CPU_DEVICES": str(options.num_cpus)} if uses_devices else {}
  for name, results in engines.run_groups(parcels, run_parcel, options, variables):
    yield named[name], results


def name_of(index: int, group: Group) -> str:
  """A group's name in messages: its index and first member."""
  first, *others = group.members
  more = f" and {len(others)} more" if others else ""
  label = ablation_report.label(dict(first.setting))
  return f"group {index}: {label}, seed {first.seed}{more}"


def own_files(group: Group) -> Files:
  """The user's files that a group names, and the modules beside them they import."""
  paths: dict[pathlib.Path, None] = {}
  for text in jax.tree.leaves(group):
    for part in text.split("+") if isinstance(text, str) else ():
      if match := _OWN_NAME.fullmatch(part):
        paths |= dict.fromkeys(own_code.source_files(pathlib.Path(match[1])))
  return tuple((str(path), path.read_bytes()) for path in paths)


def run_parcel(parcel: Parcel) -> list[Trained]:
  """Trains a group on any machine, which its records name."""
  results = ablation_groups.run_group(unpack(parcel))
  hardware = {"hardware": provenance.provenance()["hardware"]}
  return [result._replace(record=result.record | hardware) for result in results]


def unpack(parcel: Parcel) -> Group:
  """A group whose user's files are on this machine.

  Args:
    parcel: from another machine, perhaps.

  Returns:
    The group; it names copies of the files, unless this machine has the same ones.
  """
  if all(_is_here(path, content) for path, content in parcel.files):
    return parcel.group
  root = _write_copies(parcel.files).name

  def with_copies(leaf: Any) -> Any:
    if isinstance(leaf, str):
      for path, _ in parcel.files:
        leaf = leaf.replace(f"{path}:", f"{root}{path}:")
    return leaf

  return jax.tree.map(with_copies, parcel.group)


def _is_here(path: str, content: bytes) -> bool:
  file = pathlib.Path(path)
  return file.is_file() and file.read_bytes() == content


@functools.lru_cache(maxsize=4)
def _write_copies(sources: Files) -> tempfile.TemporaryDirectory:
  """Writes files below a folder that lasts as long as this process."""
  folder = tempfile.TemporaryDirectory(prefix="emosynth-")
  for path, content in sources:
    files.write_atomically(folder.name + path, content)
  return folder
