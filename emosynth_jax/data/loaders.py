"""Loaders of data sets, by name, and what is known of a data set without reading it."""

import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from emosynth_jax.utils import own_code
from emosynth_jax.utils.nearest import or_known


class Loader(NamedTuple):
  """A data set's loader, and what is known of the data set without reading it.

  Attributes:
    module: imported on request, so that a data set whose libraries are missing or slow
      to import doesn't burden the others; for a user's loader "file.py:function".
    has_validation: whether it has its own validation split; None where that depends,
      and `module.has_validation(data_dir, **options)` knows.
    is_photographs: whether its gray images are counted by pixel form, see
      `pixel_form.pixel_forms`.
    is_mirrored_same: whether a mirrored image has the same label.
  """

  module: str
  has_validation: bool | None = False
  is_photographs: bool = False
  is_mirrored_same: bool = True


_IN = "emosynth_jax.data.datasets"

LOADERS = {
  "cifar10": Loader(f"{_IN}.cifar10"),
  "ck_plus": Loader(f"{_IN}.ck_plus", has_validation=True, is_photographs=True),
  "fer2013": Loader(f"{_IN}.fer2013", has_validation=None, is_photographs=True),
  "fer_plus": Loader(f"{_IN}.fer_plus", has_validation=True, is_photographs=True),
  "image_folder": Loader(f"{_IN}.image_folder", has_validation=None),
  "mnist": Loader(f"{_IN}.mnist", is_mirrored_same=False),
  "raf_db": Loader(f"{_IN}.raf_db", is_photographs=True),
  "svhn": Loader(f"{_IN}.svhn", is_mirrored_same=False),
  "synthetic_faces": Loader(f"{_IN}.synthetic_faces", has_validation=True),
}


def find_loader(name: str) -> Loader:
  """Looks up a data set by its name, a key of `LOADERS` or "file.py:function".

  Raises:
    ValueError: for an unknown name; the message lists the known ones.
  """
  if own_code.is_own(name):
    has_validation = bool(getattr(own_code.load(name), "has_validation", False))
    return Loader(name, has_validation=has_validation)
  if name not in LOADERS:
    raise ValueError(f"unknown data set {name!r}{or_known(str(name), sorted(LOADERS))}")
  return LOADERS[name]


def has_validation(
  name: str, data_dir: str | pathlib.Path, options: dict[str, Any]
) -> bool:
  """Returns whether the data set has its own validation split under these options."""
  loader = find_loader(name)
  if loader.has_validation is not None:
    return loader.has_validation
  module = importlib.import_module(loader.module)
  return module.has_validation(data_dir, **options)


def loader_options(name: str) -> dict[str, inspect.Parameter]:
  """Options of a data set's loader, by name.

  Args:
    name: a key of `LOADERS`, or a loader of one's own.
  """
  return _options_of(_load_function(name))


def _options_of(load: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  return {
    parameter.name: parameter
    for parameter in inspect.signature(load).parameters.values()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }


def check_options(name: str, options: Mapping[str, Any]) -> None:
  """Checks the name of a data set and its loader's options, without reading any data.

  Args:
    name: a key of `LOADERS`.
    options: keyword arguments of its loader.

  Raises:
    ValueError: for an unknown name or option, or a missing one.
  """
  bind_loader(name, "", dict(options), 0)


def bind_loader(
  name: str,
  data_dir: str | pathlib.Path,
  options: dict[str, Any],
  seed: int,
  share: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
  """Binds all arguments of a data set's loader but the split.

  Args:
    name: a key of `LOADERS`, or a loader of one's own.
    data_dir: data set directory.
    options: keyword arguments of the loader.
    seed: of a generated data set.
    share: as for `dataset.load_splits`; with it the images are left on disk where the
      loader can do so.

  Returns:
    A function of `split`.

  Raises:
    ValueError: for an unknown name or option, or a missing one.
  """
  load = _load_function(name)
  known = _options_of(load)

  # The caller's, and no options: the seed of a generated data set, and how to share the
  # reading of one whose images stay on disk.
  callers: dict[str, Any] = {"seed": seed}
  if not own_code.is_own(name):
    callers["share"] = share
  bound = {key: value for key, value in callers.items() if key in known}
  unknown = sorted(set(options) - (set(known) - set(bound)))
  missing = sorted(
    key
    for key, parameter in known.items()
    if parameter.default is parameter.empty and key not in {*options, *bound}
  )
  if unknown or missing:
    problem = "unknown option" if unknown else "missing option"
    named = unknown or [f"{key} (--config.data.options.{key}=...)" for key in missing]
    options_of_it = sorted(set(known) - set(bound))
    raise ValueError(
      f"{name}: {problem} {', '.join(named)}"
      f"{or_known(unknown[0] if unknown else '', options_of_it)}"
    )

  return functools.partial(load, data_dir, **options, **bound)


def _load_function(name: str) -> Callable[..., Any]:
  """The loader of a data set; a user's, whose errors name its file and line."""
  if not own_code.is_own(name):
    return importlib.import_module(find_loader(name).module).load

  load = own_code.load(name)
  positional = [
    parameter.name
    for parameter in inspect.signature(load).parameters.values()
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
  ]
  if positional != ["data_dir", "split"]:
    raise ValueError(
      f"{name}: expected a function of (data_dir, split), with its options after a *; "
      f"got ({', '.join(positional)})"
    )

  return own_code.guard(load, name)
