"""Grids of `margin_ablation`: the built-in ones, and losses and formulas by name."""

import hashlib
import inspect
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from emosynth_jax import losses
from emosynth_jax.training import named_parts
from emosynth_jax.utils import cli, files, own_code
from emosynth_jax.utils.nearest import did_you_mean

KAPPAS = [0.5, 1.0, 2.0]

GRIDS: dict[str, list[dict[str, Any]]] = {
  # The thesis's losses in all their readings, and the plain margin.
  "thesis": [
    {"loss": "cross_entropy"},
    {"loss": "sm_softmax", "margin": [0.5, 1.0, 2.0, 4.0]},
    {"loss": "mam_softmax", "margin_fn": "centered_max", "kappa": KAPPAS},
    {"loss": "mam_softmax", "margin_fn": "box_repaired", "kappa": KAPPAS},
    {"loss": "mam_softmax", "margin_fn": "printed_max", "kappa": 1.0},
    {"loss": "mam_softmax", "margin_fn": "printed_argmax", "kappa": 1.0},
    {"loss": "mam_softmax_class_ema", "kappa": KAPPAS},
    {"loss": "mam_softmax_class_count", "kappa": KAPPAS},
    {"loss": "sce_loss", "reading": ["batch", "example", "intent", "box"]},
    {
      "loss": "mam_softmax+sce_loss",
      "margin_fn": "centered_max",
      "reading": ["batch", "intent"],
      "kappa": 1.0,
    },
  ],
  # Angular margins, by scale: some collapse with few classes.
  "angular": [
    {"loss": "cross_entropy"},
    {"loss": "cosface", "scale": [4.0, 8.0, 16.0, 30.0], "margin": [0.0, 0.1, 0.35]},
    {"loss": "arcface", "scale": [4.0, 8.0, 16.0, 64.0], "margin": [0.1, 0.3, 0.5]},
    {"loss": "dynamic_am_softmax", "scale": [8.0, 30.0], "margin": 0.2},
    {"loss": "sphereface", "margin": [2, 4]},
    {"loss": "l_softmax", "margin": [2, 4]},
    # Those two barely reach their margins in a few hundred steps: the annealing ends at
    # lam_min. Here lam_min holds from the first step, and then the full margin.
    {
      "loss": ["sphereface", "l_softmax"],
      "margin": [2, 4],
      "lam_min": [5.0, 0.0],
      "lam_max": 0.0,
    },
  ],
  # Losses that are robust to label noise, and the thesis's: for --label_noise.
  "wrong_labels": [
    {"loss": "cross_entropy"},
    {"loss": "mean_absolute_error"},
    {"loss": "generalized_cross_entropy"},
    {"loss": "symmetric_cross_entropy"},
    {"loss": "active_passive"},
    {"loss": "sce_loss", "reading": ["batch", "intent"]},
    {"loss": "mam_softmax", "margin_fn": "centered_max", "kappa": 1.0},
    {
      "loss": "mam_softmax+sce_loss",
      "margin_fn": "centered_max",
      "reading": "batch",
      "kappa": 1.0,
    },
  ],
  # Only what --margins and --losses add.
  "mine": [{"loss": "cross_entropy"}],
}


def entries(
  margins: Sequence[str],
  names: Sequence[str],
  axes: Mapping[str, list[Any]],
) -> list[dict[str, Any]]:
  """Grid entries of margin formulas and losses.

  Args:
    margins: formulas as "file.py:function" or of `losses.MARGIN_FNS`; each is trained
      as MAM-SoftMax's.
    names: losses of `losses.get_loss`, or the user's as "file.py:function".
    axes: values to try of arguments, for each formula and loss that takes them. A
      formula's kappa is tried at `KAPPAS` otherwise.

  Returns:
    One entry each, as `ablation_members.expand_grid` takes them.

  Raises:
    FileNotFoundError, ValueError: for code that can't be loaded, or an argument that
      none of them takes, or that is missing.
  """
  found: list[dict[str, Any]] = []
  taken: set[str] = set()
  known: dict[str, Any] = {}

  for name in margins:
    if not own_code.is_own(name) and name not in losses.MARGIN_FNS:
      raise ValueError(
        f"--margins: expected file.py:function or one of "
        f"{', '.join(losses.MARGIN_FNS)}, got {name!r}"
        f"{did_you_mean(name, losses.MARGIN_FNS)}"
      )
  parts = [{"loss": "mam_softmax", "margin_fn": absolute(name)} for name in margins]
  parts += [{"loss": absolute(name)} for name in names]
  for part in parts:
    arguments = arguments_of(part)
    known |= arguments
    own = {k: _typed(v, arguments[k]) for k, v in axes.items() if k in arguments}
    taken |= set(own)
    default = {"kappa": KAPPAS} if "margin_fn" in part else {}
    missing = [k for k, v in arguments.items() if v is inspect.Parameter.empty]
    if missing := [k for k in missing if k not in own]:
      raise ValueError(
        f"{part.get('margin_fn', part['loss'])} needs a value of {missing[0]}, as in "
        f"--vary={missing[0]}=0.1,0.2"
      )
    found.append(part | default | own)

  if unknown := sorted(set(axes) - taken):
    raise ValueError(
      f"--vary: no formula or loss of --margins and --losses takes {unknown[0]!r}; "
      f"known: {', '.join(sorted(known)) or 'none'}{did_you_mean(unknown[0], known)}"
    )
  return found


def arguments_of(part: Mapping[str, Any]) -> dict[str, Any]:
  """The arguments of a loss and of its margin formula, and their defaults.

  Args:
    part: the loss's name under "loss", and "margin_fn" where it has a formula.
  """
  own = {}
  formula = part.get("margin_fn", "")
  if own_code.is_own(formula):
    own = named_parts.margin_hyperparameters(own_code.load(formula), formula)
  loss, _ = named_parts.resolve_loss({"name": part["loss"]})
  known = {k: v for k, v in losses.defaults_of(loss).items() if k != "margin_fn"}
  return known | own


def parse_axis(text: str) -> tuple[str, list[Any]]:
  """Parses the values to try of an argument, as "kappa=0.5,1".

  Raises:
    ValueError: for text of another form.
  """
  name, equals, values = text.partition("=")
  if not (equals and name.strip().isidentifier() and values.strip()):
    raise ValueError(f"--vary: expected NAME=VALUE,VALUE, as kappa=0.5,1, got {text!r}")
  return name.strip(), [cli.parse_value(value) for value in values.split(",")]


def _typed(values: list[Any], default: Any) -> list[Any]:
  """Values whose integers are floats where the default is one."""
  if isinstance(default, float):
    return [float(v) if type(v) is int else v for v in values]
  return values


def absolute(name: str) -> str:
  """The name of own code with its file's absolute path; others are left alone.

  Args:
    name: as "file.py:function", also a part of "margin+loss".
  """
  return _rename_own(name, lambda path, attribute: f"{path}:{attribute}")


def describe(setting: Mapping[str, Any]) -> dict[str, Any]:
  """A setting as records have it: own code by file, function and hash.

  Args:
    setting: one of `ablation_members.expand_grid`.
  """
  return {key: describe_name(value) for key, value in setting.items()}


def describe_name(name: Any) -> Any:
  """The name of own code as "file.py:function@hash", of it and what it imports beside.

  Args:
    name: of `absolute`; anything else is returned as it is.
  """
  if not own_code.is_own(name):
    return name
  return _rename_own(
    name, lambda path, attribute: f"{path.name}:{attribute}@{hash_of(path)}"
  )


def _rename_own(name: str, rename: Callable[[pathlib.Path, str], str]) -> str:
  """Renames own code by its file and function; other parts of a name stay."""
  return "+".join(
    rename(*own_code.parse_name(part)) if own_code.is_own(part) else part
    for part in name.split("+")
  )


def hash_of(path: pathlib.Path) -> str:
  """The hash of a file of own code and of the modules beside it that it imports."""
  contents = b"".join(file.read_bytes() for file in own_code.source_files(path))
  return hashlib.sha256(contents).hexdigest()[:8]


def keep_sources(workdir: pathlib.Path, names: Iterable[Any]) -> None:
  """Copies own code into `own_parts/HASH`, the hash that records name.

  Args:
    workdir: the ablation's folder.
    names: of `absolute`; anything else is skipped.
  """
  parts = {
    part
    for name in names
    if own_code.is_own(name)
    for part in name.split("+")
    if own_code.is_own(part)
  }
  for path in {own_code.parse_name(part)[0] for part in parts}:
    root, folder = own_code.root_of(path), workdir / "own_parts" / hash_of(path)
    for file in own_code.source_files(path):
      files.write_atomically(folder / file.relative_to(root), file.read_bytes())
