"""Files of arrays: what is damaged or lies about its size is told in one line."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from emosynth_jax.utils import npz


def _member(header, data=b""):
  """A .npy file of format 1.0, see numpy.lib.format."""
  text = header.encode() + b"\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _write(path, members, method=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def test_arrays_come_back(tmp_path):
  arrays = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.float16(3), "d": np.zeros(0)}
  npz.write_npz(tmp_path / "x.npz", arrays)
  found = npz.read_npz(tmp_path / "x.npz")
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_shape_is_not_allocated_before_its_bytes_are_there(tmp_path, monkeypatch):
  header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}"
  path = _write(tmp_path / "x.npz", {"kernel.npy": _member(header, bytes(8))})
  monkeypatch.setattr(np.lib.format, "read_array", pytest.fail)
  with pytest.raises(ValueError, match=r"x\.npz is damaged \(kernel: expected 8000000"):
    npz.read_npz(path)


def test_a_zip_is_not_inflated_beyond_what_is_read(tmp_path, monkeypatch):
  # Neither of the two alone is too large.
  members = {"a.npy": bytes(60_000), "b.npy": bytes(60_000)}
  path = _write(tmp_path / "x.npz", members, zipfile.ZIP_DEFLATED)
  monkeypatch.setattr(npz, "MAX_BYTES", 10**5)
  monkeypatch.setattr(zipfile.ZipFile, "read", pytest.fail)
  with pytest.raises(ValueError, match=r"its arrays: expected at most 100000 bytes"):
    npz.read_npz(path)


class _Trap:
  """Unpickled, it would leave a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (os.mkdir, (str(self.path),))


def test_no_object_is_unpickled(tmp_path):
  content = io.BytesIO()
  np.save(content, np.array([_Trap(tmp_path / "trap")], object), allow_pickle=True)
  path = _write(tmp_path / "x.npz", {"kernel.npy": content.getvalue()})
  with pytest.raises(ValueError, match=r"x\.npz is damaged \(kernel: Object arrays"):
    npz.read_npz(path)
  assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"no array",
    b"\x93NUMPY\x07\x00",
    _member("{'descr': '<f8', 'fortran_order': False}"),
    _member("{'descr': 'strange', 'fortran_order': False, 'shape': (1,)}"),
    _member("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    _member("{'descr': '<f8', 'fortran_order': False, 'shape': 'x'}"),
    _member("[" * 500),
    _member("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
  ],
)
def test_a_broken_array_is_named(tmp_path, content):
  path = _write(tmp_path / "x.npz", {"kernel.npy": content})
  with pytest.raises(ValueError, match=r"x\.npz is damaged \(kernel: ") as caught:
    npz.read_npz(path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_no_cut_and_no_bit_raises_anything_else(tmp_path, method):
  content = io.BytesIO()
  np.save(content, np.arange(40.0))
  whole = _write(tmp_path / "a.npz", {"a.npy": content.getvalue()}, method).read_bytes()
  path = tmp_path / "x.npz"
  for place in range(0, len(whole), 7):
    flipped = bytearray(whole)
    flipped[place] ^= 0x41
    for damaged in (whole[:place], bytes(flipped)):
      path.write_bytes(damaged)
      try:
        found = npz.read_npz(path)
      except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
      else:
        for array in found.values():
          np.testing.assert_array_equal(array, np.arange(40.0))
