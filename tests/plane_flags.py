"""The flags of a landscape and of a curvature map, as their commands give them."""

import types
from typing import Any

_FLAGS = {
  "compare": [],
  "split": "train",
  "images": 40,
  "batch_size": 16,
  "range": 0.5,
  "seed": 0,
  "directions": None,
  "batch_norm": "running",
  "vectors": "fixed",
  "mapping": "map",
  "data_dir": None,
  "grid": 3,
  "dimensions": 2,
  "steps": 30,
  "probes": 2,
  "tolerance": 0.01,
  "broadening": 0.01,
}


def plane_flags(**changes: Any) -> types.SimpleNamespace:
  """Flags that suit a tiny network, with changes."""
  return types.SimpleNamespace(**_FLAGS | changes)
