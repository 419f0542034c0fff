"""The cache of decoded images: never another file's, never a damaged one."""

import errno
import logging
import os
import threading

import numpy as np
import pytest

from emosynth_jax.data import decoded_cache
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import decoding

_CODE = (decoding.__file__,)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.delenv("EMOSYNTH_DATA_CACHE")
  return tmp_path / "cache" / "emosynth_jax" / "data"


@pytest.fixture
def source(tmp_path):
  path = tmp_path / "data.zip"
  path.write_bytes(b"first")
  return path


class _Reader:
  """Decodes the file's bytes as the first image's pixels, and counts."""

  def __init__(self, path):
    self.path = path
    self.calls = 0

  def decode(self):
    self.calls += 1
    content = self.path.read_bytes() if self.path.is_file() else b""
    images = np.zeros((3, 2, 4, 1), np.uint8)
    images[0].flat[: len(content)] = np.frombuffer(content, np.uint8)
    return Dataset(
      images=images,
      labels=np.array([0, 1, 1], np.int32),
      class_names=("a", "b"),
      split="train",
      sources=("x/ä.jpg", "y.jpg", "z.jpg"),
      official_split="Training",
      pixel_forms=np.array([1, 2, 2], np.uint8),
    )

  def load(self, part="train"):
    return decoded_cache.load_or_decode(self.path, part, self.decode, _CODE)


def _assert_same(a, b):
  for name in ("images", "labels", "pixel_forms"):
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
  for name in ("class_names", "split", "sources", "official_split"):
    assert getattr(a, name) == getattr(b, name)


def test_the_second_start_reads_the_same_data_and_decodes_nothing(source, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  reader = _Reader(source)
  first, second = reader.load(), reader.load()
  _assert_same(first, second)
  assert reader.calls == 1
  assert "data.zip: train from the cache" in caplog.text
  # Another part is another entry.
  reader.load("test")
  assert reader.calls == 2


def test_other_content_of_the_same_size_and_time_is_no_hit(source):
  reader = _Reader(source)
  reader.load()
  times = source.stat()
  source.write_bytes(b"other")
  os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
  assert source.stat().st_mtime_ns == times.st_mtime_ns
  assert reader.load().images[0].tobytes().startswith(b"other")
  assert reader.calls == 2


def test_a_newer_time_and_other_code_are_no_hits(source, monkeypatch):
  reader = _Reader(source)
  reader.load()
  os.utime(source, ns=(0, 10**9))
  reader.load()
  assert reader.calls == 2
  monkeypatch.setattr(decoded_cache, "_digest_of_code", lambda code: "changed")
  reader.load()
  assert reader.calls == 3


def test_a_changed_file_of_a_folder_is_no_hit(tmp_path):
  root = tmp_path / "images"
  (root / "a").mkdir(parents=True)
  (root / "a" / "1.png").write_bytes(b"1")
  reader = _Reader(root)
  reader.load()
  reader.load()
  assert reader.calls == 1
  times = (root / "a" / "1.png").stat()
  (root / "a" / "1.png").write_bytes(b"2")
  os.utime(root / "a" / "1.png", ns=(times.st_atime_ns, times.st_mtime_ns))
  reader.load()
  assert reader.calls == 2
  (root / "a" / "1.png").rename(root / "a" / "2.png")
  reader.load()
  assert reader.calls == 3


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_entry_is_written_anew(source, folder, damage, caplog):
  reader = _Reader(source)
  whole = reader.load()
  (entry,) = folder.iterdir()
  content = bytearray(entry.read_bytes())
  # A bit of the first pixels, which only the checksum tells.
  place = content.index(b"first")
  content[place] ^= 1
  damaged = {"flipped": content, "cut": content[: len(content) // 2], "empty": b""}
  entry.write_bytes(damaged[damage])
  _assert_same(reader.load(), whole)
  assert reader.calls == 2
  assert "is damaged and is written anew" in caplog.text
  _assert_same(reader.load(), whole)
  assert reader.calls == 2


def test_it_can_be_switched_off(source, folder, monkeypatch):
  monkeypatch.setenv("EMOSYNTH_DATA_CACHE", "0")
  reader = _Reader(source)
  reader.load()
  reader.load()
  assert reader.calls == 2
  assert not folder.exists()


def test_a_full_disk_costs_a_warning(source, folder, monkeypatch, caplog):
  def refuse(number):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "fsync", refuse)
  reader = _Reader(source)
  assert len(reader.load()) == 3
  (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
  assert "No space left on device" in warning.getMessage()
  assert list(folder.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_costs_a_warning(source, tmp_path, caplog):
  (tmp_path / "cache").write_text("a file")
  assert len(_Reader(source).load()) == 3
  assert "cache" in caplog.text


def test_concurrent_writers_leave_one_whole_entry(source, folder):
  readers = [_Reader(source) for _ in range(8)]
  threads = [threading.Thread(target=reader.load) for reader in readers]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(list(folder.iterdir())) == 1
  last = _Reader(source)
  _assert_same(last.load(), readers[0].decode())
  assert last.calls == 0


def test_a_file_that_changes_while_it_is_read_is_not_kept(source, folder):
  class _Changing(_Reader):
    def decode(self):
      found = super().decode()
      source.write_bytes(b"third")
      return found

  _Changing(source).load()
  assert not folder.exists() or not list(folder.iterdir())
