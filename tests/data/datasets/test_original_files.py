"""MNIST, CIFAR-10, SVHN and ckextended.csv as they are published, and damaged."""

import gzip
import os
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import pytest
import scipy.io

from emosynth_jax import data
from emosynth_jax.data.datasets import cifar10, ck_plus, mnist, svhn
from emosynth_jax.utils import npz

ROWS = 6
LABELS = np.array([0, 9, 3, 1, 0, 7])


def _random(*shape):
  return np.random.default_rng(0).integers(0, 256, (ROWS, *shape), np.uint8)


def _idx(array: np.ndarray) -> bytes:
  """The format of LeCun's page: two zeros, 8 (unsigned byte), the rank, the sizes."""
  return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + (
    array.tobytes()
  )


def _write_mnist(folder: pathlib.Path, *, packed=False, dot="-", split="train"):
  folder.mkdir(parents=True, exist_ok=True)
  prefix = {"train": "train", "test": "t10k"}[split]
  for kind, rank, array in (
    ("images", "idx3", _random(28, 28)),
    ("labels", "idx1", LABELS.astype(np.uint8)),
  ):
    name = f"{prefix}-{kind}{dot}{rank}-ubyte{'.gz' if packed else ''}"
    content = _idx(array)
    (folder / name).write_bytes(gzip.compress(content) if packed else content)


def _python2_pickle(images: np.ndarray, labels) -> bytes:
  """A batch with the opcodes of Python 2, in which CIFAR-10's files are written."""

  def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value

  size = struct.pack("<i", len(images))
  content = images.transpose(0, 3, 1, 2).tobytes()
  array = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01J" + size + b"M\x00\x0c\x86"
    b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    + struct.pack("<i", len(content))
    + content
    + b"tb"
  )
  numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
  return (
    b"\x80\x02}("
    + text(b"batch_label")
    + text(b"training batch 1 of 5")
    + text(b"labels")
    + numbers
    + text(b"data")
    + array
    + b"u."
  )


def _write_cifar10(root: pathlib.Path, *, packed=False):
  """Five batches of train, whose images differ by their first pixel, and test."""
  folder = root / "cifar-10-batches-py"
  folder.mkdir(parents=True)
  for number, name in enumerate(
    [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
  ):
    images = _random(32, 32, 3)
    images[:, 0, 0, 0] = number
    (folder / name).write_bytes(_python2_pickle(images, LABELS))
  if packed:
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
      tar.add(folder, "cifar-10-batches-py")
    for path in folder.iterdir():
      path.unlink()
    folder.rmdir()


def _write_svhn(path: pathlib.Path, **changes):
  """As MATLAB's file has it: the index of the image is last, and 10 is zero."""
  content = {
    "X": _random(32, 32, 3).transpose(1, 2, 3, 0),
    "y": np.where(LABELS == 0, 10, LABELS)[:, None].astype(np.uint8),
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  kept = {key: value for key, value in (content | changes).items() if value is not None}
  scipy.io.savemat(path, kept, do_compression=True)


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize(("packed", "dot"), [(False, "-"), (True, "-"), (False, ".")])
def test_mnist_is_read_from_its_idx_files(tmp_path, folder, packed, dot):
  _write_mnist(tmp_path / folder, packed=packed, dot=dot)
  dataset = mnist.load(tmp_path, "train")
  assert dataset.images.shape == (ROWS, 32, 32, 1)
  np.testing.assert_array_equal(dataset.images[:, 2:30, 2:30, 0], _random(28, 28))
  np.testing.assert_array_equal(dataset.labels, LABELS)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder", ["", "cifar10"])
def test_cifar10_is_read_from_its_pickles(tmp_path, packed, folder):
  _write_cifar10(tmp_path / folder, packed=packed)
  train, test = (cifar10.load(tmp_path, split) for split in ("train", "test"))
  assert (len(train), len(test)) == (5 * ROWS, ROWS)
  np.testing.assert_array_equal(train.images[:, 0, 0, 0], np.repeat(np.arange(5), ROWS))
  assert (test.images[:, 0, 0, 0] == 5).all()
  np.testing.assert_array_equal(test.images[:, 1:], _random(32, 32, 3)[:, 1:])
  np.testing.assert_array_equal(train.labels, np.tile(LABELS, 5))
  assert train.sources[ROWS + 1] == "data_batch_2[1]"


def test_svhns_label_10_is_the_digit_zero(tmp_path):
  _write_svhn(tmp_path / "svhn" / "train_32x32.mat")
  dataset = svhn.load(tmp_path, "train")
  np.testing.assert_array_equal(dataset.images, _random(32, 32, 3))
  np.testing.assert_array_equal(dataset.labels, LABELS)


def test_svhns_extra_split_is_trained_on_by_request(tmp_path):
  _write_svhn(tmp_path / "train_32x32.mat")
  _write_svhn(
    tmp_path / "extra_32x32.mat", X=255 - _random(32, 32, 3).transpose(1, 2, 3, 0)
  )
  for lazily in (False, True):
    loaded = data.load_splits(
      "svhn",
      tmp_path,
      ["train"],
      validation_fraction=0,
      seed=0,
      lazily=lazily,
      with_extra=True,
    )
    train = loaded["train"]
    np.testing.assert_array_equal(train.images[:ROWS], _random(32, 32, 3))
    np.testing.assert_array_equal(train.images[ROWS:], 255 - _random(32, 32, 3))
    np.testing.assert_array_equal(train.labels, np.tile(LABELS, 2))
    assert train.official_split == "train and extra"
  # The split itself is what it was.
  assert len(svhn.load(tmp_path, "extra")) == ROWS


def test_a_run_reads_them_lazily_too(tmp_path):
  _write_svhn(tmp_path / "train_32x32.mat")
  loaded = data.load_splits(
    "svhn", tmp_path, ["train"], validation_fraction=0, seed=0, lazily=True
  )
  np.testing.assert_array_equal(loaded["train"].images, _random(32, 32, 3))


class _Harmful:
  def __reduce__(self):
    return os.mkdir, ("executed",)


@pytest.mark.parametrize(
  "content",
  [
    pickle.dumps(_Harmful()),
    pickle.dumps({b"data": _Harmful(), b"labels": [1]}, protocol=4),
    b'cbuiltins\neval\n(S\'__import__("os").mkdir("executed")\'\ntR.',
  ],
)
def test_a_pickle_executes_nothing(tmp_path, monkeypatch, content):
  monkeypatch.chdir(tmp_path)
  _write_cifar10(tmp_path)
  (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
  with pytest.raises(ValueError, match=r"test_batch: not one.*only arrays are read"):
    cifar10.load(tmp_path, "test")
  assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "not one of CIFAR-10"),
    (
      _python2_pickle(_random(32, 32, 3), LABELS)[:900],
      "not one of CIFAR-10",
    ),
    (pickle.dumps([1, 2]), "expected a dictionary of data and labels, got list"),
    (_python2_pickle(_random(32, 32, 3), LABELS[:4]), "labels: expected a list of 6"),
    (_python2_pickle(_random(32, 32, 3), LABELS + 5), "labels: expected 0..9"),
  ],
)
def test_a_damaged_batch_of_cifar10_is_named(tmp_path, content, message):
  _write_cifar10(tmp_path)
  (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
  with pytest.raises(ValueError, match=f"test_batch: {message}"):
    cifar10.load(tmp_path, "test")


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "expected an IDX file .* got nothing"),
    (_idx(LABELS.astype(np.uint8)), ".*starting with 00 00 08 03, got 00 00 08 01"),
    (_idx(_random(28, 28))[:6], "the header is cut short, 6 of 16 bytes"),
    (_idx(_random(28, 28))[:-1], "expected 4704 bytes after the header, got 4703"),
    (_idx(_random(28, 28)) + b"x", "expected 4704 bytes after the header, got more"),
    (_idx(_random(32, 32)), r"expected items of shape \(28, 28\), got \(32, 32\)"),
    (gzip.compress(_idx(_random(28, 28)))[:-20], "damaged or cut short"),
    # The header promises 3 TiB.
    (
      struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28),
      "expected at most 8589934592 bytes, got 3367254359280",
    ),
  ],
)
def test_a_damaged_idx_file_is_named(tmp_path, content, message):
  _write_mnist(tmp_path)
  (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
  with pytest.raises(ValueError, match=f"train-images-idx3-ubyte: {message}"):
    mnist.load(tmp_path, "train")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"y": None}, "no variable y in this file"),
    ({"y": np.arange(6, dtype=np.uint8)}, r"y: expected 1\.\.10.*got 0\.\.5"),
    ({"y": np.ones((4, 1), np.uint8)}, "6 images in X, but 4 labels in y"),
    ({"X": np.zeros((32, 32, 3, 6))}, r"X: expected uint8 .* got float64"),
  ],
)
def test_a_malformed_file_of_svhn_is_named(tmp_path, changes, message):
  _write_svhn(tmp_path / "train_32x32.mat", **changes)
  with pytest.raises(ValueError, match=f"train_32x32.mat: {message}"):
    svhn.load(tmp_path, "train")


def test_a_damaged_file_of_svhn_is_named(tmp_path):
  (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
  with pytest.raises(ValueError, match=r"train_32x32.mat: not a readable MATLAB"):
    svhn.load(tmp_path, "train")


def _svhn_of_many(folder):
  """A .mat file whose header promises 3 TiB (MATLAB's format, tables 1-2 and 1-5)."""
  path = folder / "train_32x32.mat"
  images = _random(32, 32, 3).transpose(1, 2, 3, 0)
  scipy.io.savemat(path, {"X": images, "y": LABELS + 1})
  content = path.read_bytes()
  sizes = struct.pack("<4i", 32, 32, 3, 6)
  assert content.count(sizes) == 1
  path.write_bytes(content.replace(sizes, struct.pack("<4i", 32, 32, 3, 2**30)))
  return svhn, path


def _cifar10_of_many(folder):
  """An archive whose header says that a member has 4 GiB."""
  path = folder / "cifar-10-python.tar.gz"
  info = tarfile.TarInfo("cifar-10-batches-py/test_batch")
  info.size = 2**32
  path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)))
  return cifar10, path


@pytest.mark.parametrize("write", [_svhn_of_many, _cifar10_of_many])
def test_a_size_that_a_file_only_claims_is_not_allocated(tmp_path, monkeypatch, write):
  module, path = write(tmp_path)
  monkeypatch.setattr(npz, "MAX_BYTES", 2**31)
  monkeypatch.setattr(scipy.io, "loadmat", pytest.fail)
  monkeypatch.setattr(tarfile.TarFile, "extractfile", pytest.fail)
  message = rf"{path}: .*expected at most 2147483648 bytes, got \d+"
  with pytest.raises(ValueError, match=message):
    module.load(tmp_path, "train" if module is svhn else "test")


def test_what_is_missing_is_named(tmp_path):
  for name, module in (("mnist", mnist), ("cifar10", cifar10), ("svhn", svhn)):
    with pytest.raises(FileNotFoundError, match=f"no data set '{name}.*original files"):
      module.load(tmp_path, "train")
  _write_mnist(tmp_path)
  (tmp_path / "train-labels-idx1-ubyte").unlink()
  with pytest.raises(
    FileNotFoundError, match="found train-images-idx3-ubyte, but not train-labels-idx1"
  ):
    mnist.load(tmp_path, "train")
  _write_cifar10(tmp_path)
  (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
  with pytest.raises(FileNotFoundError, match="but not data_batch_3"):
    cifar10.load(tmp_path, "train")


def _write_ckextended(folder: pathlib.Path):
  """Codes 0 to 7 in each part; the pixels' value is the line."""
  lines = ["emotion,pixels,Usage"]
  for usage, count in (("Training", 2), ("PublicTest", 1), ("PrivateTest", 1)):
    for code in [*range(8)] * count:
      lines.append(f"{code},{' '.join([str(len(lines) + 1)] * 2304)},{usage}")
  (folder / "ckextended.csv").write_text("\n".join(lines))


def test_ckextended_is_read_by_its_usage_and_only_so(tmp_path):
  _write_ckextended(tmp_path)
  with pytest.raises(ValueError, match=r"names no subjects.*protocol=usage_leaky"):
    ck_plus.load(tmp_path, "train")
  dataset = ck_plus.load(tmp_path, "test", protocol="usage_leaky", channels=3)
  assert dataset.images.shape == (8, 48, 48, 3)
  # Kaggle's codes: anger, disgust, fear, happiness, sadness, surprise, neutral and
  # contempt, which counts as neutral.
  assert [dataset.class_names[k] for k in dataset.labels] == [
    *("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "neutral")
  ]
  assert dataset.images[0, 0, 0].tolist() == [26, 26, 26]  # line 26 of the file
  assert dataset.sources[0] == "ckextended.csv line 26"
  assert "leaky" in dataset.official_split
  assert len(ck_plus.load(tmp_path, "train", protocol="usage_leaky")) == 16


def test_a_protocol_without_its_file_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no ckextended.csv at .*usage_leaky"):
    ck_plus.load(tmp_path, "train", protocol="usage_leaky")
