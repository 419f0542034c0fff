"""What mypy sees in a file that uses the package.

`make check` runs mypy on tests/users_file.py itself; here its mistakes are shown to it.
"""

import pathlib
import re

import pytest
from mypy import api

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.slow  # Without mypy's cache.
def test_mypy_finds_the_mistakes_and_no_others(tmp_path, monkeypatch):
  monkeypatch.setenv("MYPYPATH", str(_ROOT))
  text = (_ROOT / "tests" / "users_file.py").read_text()
  path = tmp_path / "users_file.py"
  path.write_text(re.sub(r"  # type: ignore\[.*", "", text))
  printed, _, _ = api.run(
    [
      *("--config-file", str(_ROOT / "setup.cfg")),
      *("--cache-dir", str(_ROOT / ".mypy_cache")),
      str(path),
    ]
  )

  found = re.findall(r"users_file\.py:(\d+): error: .*\[([\w-]+)\]$", printed, re.M)
  expected = [
    (str(number), match[1])
    for number, line in enumerate(text.splitlines(), 1)
    if (match := re.search(r"# type: ignore\[(.*)\]", line))
  ]
  assert len(expected) == 7
  assert found == expected, printed
  assert printed.endswith("Found 7 errors in 1 file (checked 1 source file)\n")
