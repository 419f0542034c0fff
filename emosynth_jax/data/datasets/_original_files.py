"""The files in which MNIST, CIFAR-10 and SVHN are published, read as they are.

Each reader names the file, and what it holds instead of what was expected. Nothing in a
file is executed: CIFAR-10's pickles may only create NumPy arrays.
"""

import gzip
import io
import math
import pathlib
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import scipy.io

from emosynth_jax.utils.npz import check_size

_GZIP = b"\x1f\x8b"
_PART = 1 << 26  # bytes read at a time
_CIFAR_ARCHIVE = "cifar-10-python.tar.gz"
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR_BATCHES = {
  "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
  "test": ("test_batch",),
}


def find_files(
  data_dir: pathlib.Path, folders: Sequence[str], names: Sequence[Sequence[str]]
) -> list[pathlib.Path] | None:
  """Looks for files that belong together, in several folders.

  Args:
    data_dir: where the folders lie.
    folders: subfolders in which they may be, "" for `data_dir` itself.
    names: for each file, the names that it may have.

  Returns:
    Their paths, from the first folder that has all of them; None if no folder has any.

  Raises:
    FileNotFoundError: a folder has some of them, and none has all; both are named.
  """
  partial = ""
  for folder in (data_dir / name for name in folders):
    found = [
      next((folder / name for name in some if (folder / name).is_file()), None)
      for some in names
    ]
    if all(found):
      return [path for path in found if path]
    if any(found) and not partial:
      present = ", ".join(path.name for path in found if path)
      missing = ", ".join(
        some[0] for some, path in zip(names, found, strict=True) if not path
      )
      partial = f"{folder}: found {present}, but not {missing}"
  if partial:
    raise FileNotFoundError(partial)
  return None


def read_idx(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  """Reads an IDX file of unsigned bytes, gzipped or not.

  Args:
    path: the file.
    shape: of one item: (28, 28) for images, () for labels.

  Returns:
    uint8 `(N, *shape)`.

  Raises:
    ValueError: the file is no such file, or is cut short.
  """
  with path.open("rb") as raw:
    is_gzip = raw.read(2) == _GZIP
    raw.seek(0)
    try:
      return _read_idx(gzip.GzipFile(fileobj=raw) if is_gzip else raw, path, shape)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
      raise ValueError(
        f"{path}: damaged or cut short ({error}); download it again"
      ) from error


def read_cifar10(
  data_dir: pathlib.Path, split: str
) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
  """Reads CIFAR-10's Python version, its folder or its archive.

  Args:
    data_dir: holds `cifar-10-batches-py/` or its files, or `cifar-10-python.tar.gz`,
      itself or in its subfolder `cifar10`.
    split: "train" or "test".

  Returns:
    Images uint8 `(N, 32, 32, 3)`, labels int32 `(N,)` and sources; None if none of them
    is there.

  Raises:
    FileNotFoundError: some of a split's files are missing.
    ValueError: a file is malformed; it is named.
  """
  names = _CIFAR_BATCHES[split]
  folders = [
    f"{parent}{folder}"
    for parent in ("", "cifar10/")
    for folder in ("", f"{_CIFAR_FOLDER}/")
  ]
  archive = find_files(data_dir, ("", "cifar10"), [[_CIFAR_ARCHIVE]])
  try:
    paths = find_files(data_dir, folders, [[name] for name in names])
  except FileNotFoundError:
    if archive is None:
      raise
    paths = None
  if paths is not None:
    batches = [_unpickle(path.read_bytes(), str(path)) for path in paths]
  elif archive is not None:
    batches = [
      _unpickle(content, f"{archive[0]}: {name}")
      for name, content in zip(names, _unpack(archive[0], names), strict=True)
    ]
  else:
    return None
  sources = [
    f"{name}[{i}]"
    for name, (images, _) in zip(names, batches, strict=True)
    for i in range(len(images))
  ]
  return (
    np.concatenate([images for images, _ in batches]),
    np.concatenate([labels for _, labels in batches]),
    sources,
  )


def read_svhn(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Reads a .mat file of SVHN's cropped digits.

  Args:
    path: `train_32x32.mat` or another one of them.

  Returns:
    Images uint8 `(N, 32, 32, 3)` and labels int32 `(N,)`; the label 10, which stands
    for the digit 0, becomes 0.

  Raises:
    ValueError: the file is malformed.
  """
  try:
    for name, shape, _ in scipy.io.whosmat(path):
      check_size(math.prod(shape), name)
    content = scipy.io.loadmat(path, variable_names=("X", "y"))
  # SciPy raises a type of its own for each kind of damage.
  except Exception as error:
    raise ValueError(
      f"{path}: not a readable MATLAB file ({error}); download it again"
    ) from error
  if missing := [name for name in ("X", "y") if name not in content]:
    raise ValueError(f"{path}: no variable {' and no '.join(missing)} in this file")
  images, labels = content["X"], content["y"]
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
    raise ValueError(
      f"{path}: X: expected uint8 of shape (32, 32, 3, N), got {images.dtype} of shape "
      f"{images.shape}"
    )
  if labels.size != images.shape[3]:
    raise ValueError(
      f"{path}: {images.shape[3]} images in X, but {labels.size} labels in y"
    )
  labels = labels.reshape(-1)
  if labels.size and not (1 <= labels.min() and labels.max() <= 10):
    raise ValueError(
      f"{path}: y: expected 1..10, where 10 is the digit 0, got "
      f"{labels.min()}..{labels.max()}"
    )
  return (
    np.ascontiguousarray(images.transpose(3, 0, 1, 2)),
    (labels % 10).astype(np.int32),
  )


def _read_idx(
  file: BinaryIO | gzip.GzipFile, path: pathlib.Path, shape: tuple[int, ...]
) -> np.ndarray:
  rank = 1 + len(shape)
  header = file.read(4 + 4 * rank)
  if header[:4] != bytes([0, 0, 8, rank]):
    raise ValueError(
      f"{path}: expected an IDX file of unsigned bytes in {rank} dimensions, starting "
      f"with {bytes([0, 0, 8, rank]).hex(' ')}, got {header[:4].hex(' ') or 'nothing'}"
    )
  if len(header) < 4 + 4 * rank:
    raise ValueError(
      f"{path}: the header is cut short, {len(header)} of {4 + 4 * rank} bytes; "
      "download it again"
    )
  sizes = np.frombuffer(header[4:], ">u4").astype(int).tolist()
  if tuple(sizes[1:]) != shape:
    raise ValueError(f"{path}: expected items of shape {shape}, got {tuple(sizes[1:])}")
  expected = math.prod(sizes)
  check_size(expected, f"{path}")
  # In parts: a damaged header never decides how much is allocated.
  content = b""
  while len(content) <= expected and (part := file.read(_PART)):
    content += part
  if len(content) != expected:
    more = "more" if len(content) > expected else f"{len(content)}"
    raise ValueError(
      f"{path}: expected {expected} bytes after the header, got {more}; download it "
      "again"
    )
  return np.frombuffer(content, np.uint8).reshape(sizes)


# NumPy's own function by which arrays are unpickled.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]


def _empty_array(*_: Any) -> np.ndarray:
  """An array that its state, which follows in the pickle, fills."""
  return _RECONSTRUCT(np.ndarray, (0,), b"b")


# All that a pickle may name.
_ARRAY_PARTS: dict[tuple[str, str], Any] = {
  ("numpy.core.multiarray", "_reconstruct"): _empty_array,
  ("numpy._core.multiarray", "_reconstruct"): _empty_array,
  ("numpy", "ndarray"): np.ndarray,
  ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
  """An unpickler that creates NumPy arrays, and refuses everything else."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ARRAY_PARTS:
      raise pickle.UnpicklingError(
        f"it asks for {module}.{name}, and only arrays are read"
      )
    return _ARRAY_PARTS[module, name]


def _unpickle(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
  """Images `(N, 32, 32, 3)` and labels `(N,)` of one of CIFAR-10's batches."""
  try:
    batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
  # A damaged pickle raises any type of error.
  except Exception as error:
    raise ValueError(f"{where}: not one of CIFAR-10's batches ({error})") from error
  if not isinstance(batch, dict) or not {b"data", b"labels"} <= set(batch):
    found = sorted(map(str, batch)) if isinstance(batch, dict) else type(batch).__name__
    raise ValueError(f"{where}: expected a dictionary of data and labels, got {found}")
  images, labels = batch[b"data"], batch[b"labels"]
  is_array = isinstance(images, np.ndarray) and images.dtype == np.uint8
  if not is_array or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
    shape = getattr(images, "shape", type(images).__name__)
    raise ValueError(f"{where}: data: expected uint8 of shape (N, 3072), got {shape}")
  if not isinstance(labels, list) or len(labels) != len(images):
    raise ValueError(f"{where}: labels: expected a list of {len(images)}")
  if not all(isinstance(label, int) and 0 <= label <= 9 for label in labels):
    raise ValueError(f"{where}: labels: expected 0..9")
  images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return np.ascontiguousarray(images), np.array(labels, np.int32)


def _unpack(archive: pathlib.Path, names: Sequence[str]) -> list[bytes]:
  """The content of some members of CIFAR-10's archive, which stay packed."""
  contents: dict[str, bytes] = {}
  try:
    with tarfile.open(archive) as tar:
      for member in tar:
        name = pathlib.PurePosixPath(member.name).name
        if name in names and member.isfile():
          check_size(member.size, f"{archive}: {name}")
          file = tar.extractfile(member)
          contents[name] = file.read() if file else b""
  except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(
      f"{archive}: damaged or cut short ({error}); download it again"
    ) from error
  if missing := [name for name in names if name not in contents]:
    raise ValueError(f"{archive}: no {', '.join(missing)} in it")
  return [contents[name] for name in names]
