"""A write that the file system refuses is one line that names the file."""

import ast
import errno
import os
import pathlib
import re

import pytest

from emosynth_jax.data import decoded_cache
from emosynth_jax.utils import files
from emosynth_jax.workdir import metric_writer, own_parts


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_the_file_is_named_and_the_old_one_stays(tmp_path, monkeypatch, number, call):
  path = tmp_path / "report.json"
  path.write_text("before")

  def refuse(*given):
    raise OSError(number, os.strerror(number))

  if call == "write":
    monkeypatch.setattr(type(path), "open", refuse)
  else:
    monkeypatch.setattr(os, call, refuse)
  with pytest.raises(files.WriteError) as caught:
    files.write_atomically(path, b"after")
  monkeypatch.undo()
  assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(number)}. ")
  has_no_room = number in (errno.ENOSPC, errno.EDQUOT)
  assert ("Make room" in str(caught.value)) == has_no_room
  assert path.read_text() == "before"
  assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_two_processes_may_replace_a_file_at_the_same_time(tmp_path, monkeypatch):
  path, fsync = tmp_path / "protocol.json", os.fsync

  def write_in_between(number):
    monkeypatch.setattr(os, "fsync", fsync)
    files.write_atomically(path, b"other")

  monkeypatch.setattr(os, "fsync", write_in_between)
  files.write_atomically(path, b"own")
  assert path.read_bytes() == b"own"
  assert [each.name for each in tmp_path.iterdir()] == ["protocol.json"]


def test_a_record_that_cannot_be_appended_is_named(tmp_path, monkeypatch):
  writer = metric_writer.MetricWriter(tmp_path)

  def refuse(number):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, "fsync", refuse)
  with pytest.raises(files.WriteError, match=r"metrics\.jsonl: No space left"):
    writer.write(1, {"loss": 1.0})


def test_what_other_libraries_say_of_a_full_disk_is_understood(tmp_path):
  message = "OUT_OF_RANGE: Failed writing: [OS error 28: No space left on device]"
  with pytest.raises(files.WriteError, match=f"cannot write {tmp_path}: No space"):
    with files.writing(tmp_path):
      raise ValueError(message)


@pytest.mark.parametrize("name", ["a.jsonl", ".a.jsonl.tmp", "a.jsonl/b", "a"])
def test_an_error_that_names_what_is_read_stays_as_it_is(tmp_path, name):
  """Predictions are written while images are read."""
  error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in/x.png"))
  with pytest.raises(PermissionError, match=r"x\.png"):
    with files.writing(tmp_path / "out" / "a.jsonl"):
      raise error
  error.filename = os.fsencode(tmp_path / "out" / name)
  with pytest.raises(files.WriteError, match=r"cannot write .*out/a\.jsonl: Per"):
    with files.writing(tmp_path / "out" / "a.jsonl"):
      raise error


@pytest.mark.parametrize("folder", ["a", "a/b"])
def test_a_file_where_a_folder_is_expected_is_named(tmp_path, folder):
  (tmp_path / "a").write_bytes(b"")
  path = tmp_path / folder / "report.json"
  with pytest.raises(files.WriteError, match=rf"^cannot write {path}: (File|Not a)"):
    files.write_atomically(path, b"{}")


def test_other_errors_stay_what_they_are(tmp_path):
  with pytest.raises(ValueError, match=r"^a bug$"), files.writing(tmp_path):
    raise ValueError("a bug")


def test_file_and_folder_are_on_disk_before_the_call_returns(tmp_path, monkeypatch):
  """A rename survives a power failure once its folder is synchronized."""
  calls = []
  fsync, replace = os.fsync, os.replace

  def note_fsync(number):
    calls.append("folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file")
    fsync(number)

  def note_replace(source, target):
    calls.append("rename")
    replace(source, target)

  monkeypatch.setattr(os, "fsync", note_fsync)
  monkeypatch.setattr(os, "replace", note_replace)
  files.write_atomically(tmp_path / "a", b"content")
  assert calls == ["file", "rename", "folder"]

  calls.clear()
  writer = metric_writer.MetricWriter(tmp_path)
  writer.write(1, {"loss": 1.0})
  assert calls == ["file"]


# Files that open others to write; the first four in `files.writing`.
_WRITERS = {
  "emosynth_jax/utils/files.py": "all whole files",
  "emosynth_jax/workdir/metric_writer.py": "a record after the others",
  "experiments/margin_ablation.py": "a record after the others",
  "emosynth_jax/predict/output.py": "a line after the others",
  "emosynth_jax/utils/log_file.py": "standard error",
  "emosynth_jax/workdir/record.py": "a lock, of no content",
  "emosynth_jax/workdir/own_parts.py": "what may fail; the file of trusted folders",
}


def test_no_other_file_writes_by_itself():
  root = pathlib.Path(__file__).resolve().parents[2]
  found = set()
  for path in (
    p for top in ("emosynth_jax", "experiments") for p in root.glob(f"{top}/**/*.py")
  ):
    for call in ast.walk(ast.parse(path.read_text())):
      if not isinstance(call, ast.Call):
        continue
      name = ast.unparse(call.func).rpartition(".")[2]
      modes = {str(a.value) for a in call.args if isinstance(a, ast.Constant)}
      opens = name in ("open", "fdopen") and any(
        re.fullmatch("[wax]b?", mode) for mode in modes
      )
      if opens or name in ("write_text", "write_bytes"):
        found.add(path.relative_to(root).as_posix())
  assert found == _WRITERS.keys()


def test_folders_of_the_user_are_the_environments_or_in_the_home(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  folder = files.user_folder("XDG_CACHE_HOME", ".cache")
  assert folder == tmp_path / "cache" / "emosynth_jax"
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path))
  folder = files.user_folder("XDG_CACHE_HOME", ".cache")
  assert folder == tmp_path / ".cache" / "emosynth_jax"


def test_a_user_without_a_home_folder_keeps_nothing(monkeypatch, tmp_path, caplog):
  source = tmp_path / "a.zip"
  source.write_bytes(b"x")

  def fail():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.setattr(pathlib.Path, "home", fail)
  for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
    monkeypatch.delenv(variable, raising=False)
  monkeypatch.delenv("EMOSYNTH_DATA_CACHE", raising=False)
  with pytest.raises(OSError, match="no home folder, and XDG_CACHE_HOME is not set"):
    files.user_folder("XDG_CACHE_HOME", ".cache")

  # What uses such a folder goes without it.
  decoded = decoded_cache.load_or_decode(source, "train", list, [])
  assert decoded == []
  own_parts._trust([])
  assert "home folder" in caplog.text
