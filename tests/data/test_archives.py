"""Zips: names, sizes, and every way of being damaged."""

import re
import struct
import zipfile

import pytest

from emosynth_jax.data import archives


def _write(path, contents, method=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, content in contents.items():
      archive.writestr(name, content)
  return path


def _read(path, name="a/1.png", **options):
  with archives.open_zip(path) as archive:
    return archive.read(name, **options)


def _read_text(path, name="a/1.png"):
  with archives.open_zip(path) as archive, archive.open_text(name) as file:
    return file.read()


def test_names_are_sorted_without_folders_and_litter(tmp_path):
  names = ["b/2.png", "a/", "a\\1.png", "__MACOSX/a/1.png", "a/.hidden", "b/Thumbs.db"]
  path = _write(tmp_path / "x.zip", dict.fromkeys(names, b"content"))
  with archives.open_zip(path) as archive:
    assert archive.names == ["a/1.png", "b/2.png"]
    assert archive.read("a/1.png", max_bytes=7) == b"content"
    with pytest.raises(ValueError, match="expected at most 6 bytes, it unpacks to 7"):
      archive.read("a/1.png", max_bytes=6)


def test_a_file_that_inflates_too_far_is_refused_before(tmp_path, monkeypatch):
  path = _write(tmp_path / "bomb.zip", {"a/1.png": bytes(archives.MAX_IMAGE_BYTES + 1)})
  assert path.stat().st_size < 2**20
  opened = []
  monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: opened.append(1))
  with pytest.raises(
    ValueError, match=r"bomb\.zip: a/1\.png: expected at most 67108864"
  ):
    _read(path)
  assert not opened


def test_a_size_that_is_a_lie_unpacks_no_more_than_it_says(tmp_path):
  path = _write(tmp_path / "lie.zip", {"a/1.png": bytes(10**6)})
  content = path.read_bytes().replace(struct.pack("<I", 10**6), struct.pack("<I", 100))
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"lie\.zip: a/1\.png: cannot unpack"):
    _read(path)


def _patch(signature, offset, form, value):
  """Overwrites a field of the first header of a kind (APPNOTE.TXT 4.3.7, 4.3.12)."""

  def change(content):
    struct.pack_into(form, content, content.index(signature) + offset, value)

  return change


_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize(
  "change",
  [
    _patch(_CENTRAL, 42, "<I", 10**9),
    _patch(_CENTRAL, 42, "<I", 7),
    _patch(_CENTRAL, 10, "<H", 97),
    _patch(_CENTRAL, 8, "<H", 1),
    _patch(_CENTRAL, 6, "<H", 250),
    _patch(_LOCAL, 26, "<H", 60000),
    _patch(_LOCAL, 0, "<I", 0),
  ],
  ids=["far offset", "offset", "method", "encrypted", "version", "name", "header"],
)
@pytest.mark.parametrize("is_text", [False, True])
def test_broken_headers_are_named(tmp_path, change, is_text):
  path = _write(tmp_path / "x.zip", {"a/1.png": b"some content " * 50})
  content = bytearray(path.read_bytes())
  change(content)
  path.write_bytes(content)
  with pytest.raises(ValueError, match=re.escape(str(path))):
    (_read_text if is_text else _read)(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_read_and_their_damage_is_named(tmp_path, method):
  path = _write(tmp_path / "x.zip", {"a/1.png": bytes(range(256)) * 20}, method)
  assert _read(path) == bytes(range(256)) * 20
  content = bytearray(path.read_bytes())
  content[60:70] = bytes(10)
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"x\.zip: a/1\.png: cannot unpack"):
    _read(path)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_zip_is_named(tmp_path, content):
  path = tmp_path / "x.zip"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"x\.zip: the zip is damaged or truncated"):
    _read(path)


def test_text_is_read_as_the_csv_reader_needs_it(tmp_path):
  path = _write(tmp_path / "x.zip", {"a.csv": b"\xef\xbb\xbfa,b\r\n1,2\r\n"})
  with archives.open_zip(path) as archive, archive.open_text("a.csv") as file:
    assert file.read() == "a,b\r\n1,2\r\n"
