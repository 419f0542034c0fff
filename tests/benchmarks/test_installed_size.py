"""Sizes of packages that are made up, in a folder that Python looks for them in."""

import pytest

from benchmarks.installed_size import installed_size


@pytest.fixture
def install(tmp_path, monkeypatch):
  """A function that installs a package of some bytes."""
  monkeypatch.syspath_prepend(str(tmp_path))

  def install(name, size, requires=()):
    folder = tmp_path / f"{name}-1.0.dist-info"
    folder.mkdir()
    lines = [f"Requires-Dist: {requirement}\n" for requirement in requires]
    (folder / "METADATA").write_text(
      f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{''.join(lines)}"
    )
    # From Python 3.12 on, a file that is listed and not there doesn't count.
    (tmp_path / name).mkdir()
    for file, length in (("a.py", size - 1), ("b.py", 1), ("c.pyc", 50)):
      (tmp_path / name / file).write_bytes(bytes(length))
    # Bytecode stands in such a list without a size.
    (folder / "RECORD").write_text(
      f"{name}/a.py,,{size - 1}\n{name}/b.py,,1\n{name}/c.pyc,,\n"
    )

  return install


def test_a_package_with_all_it_needs_each_once(install):
  install("emo_top", 1000, ["emo.left>=2", "emo-right[] ; python_version > '3'"])
  install("emo_left", 200, ["Emo_Base (>=1)", "emo-nowhere; sys_platform == 'win32'"])
  install("emo_right", 30, ["emo_base", "emo-top"])
  install("emo_base", 4)
  assert installed_size("emo-top") == (1234, 4)
  assert installed_size("emo.left") == (204, 2)


def test_extras_count_where_they_are_asked_for(install):
  install("emo_top", 1000, ["emo-base[Fast]", 'emo-extra ; extra == "faces"'])
  install("emo_base", 200, ["emo-fast; extra == 'fast'", "emo-slow; extra == 'slow'"])
  for name, size in (("emo_fast", 30), ("emo_slow", 7), ("emo_extra", 4)):
    install(name, size)
  assert installed_size("emo_top") == (1230, 3)
  assert installed_size("emo_top[faces]") == (1234, 4)


def test_what_is_missing_is_not_left_out_in_silence(install):
  install("emo_top", 1000, ['emo-extra>=1; extra == "faces"'])
  with pytest.raises(ModuleNotFoundError, match=r"emo-nowhere is not installed: pip"):
    installed_size("emo_nowhere")
  with pytest.raises(
    ModuleNotFoundError, match=r"emo-extra is not installed: pip install 'emo_top\[fac"
  ):
    installed_size("emo_top[faces]")
  assert installed_size("emo_top") == (1000, 1)
