"""MkDocs hooks: generated parts and pages, and no request to another host."""

import json
import pathlib
import re
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from tools import docs_text, reference

_MARKER = re.compile(r"<!-- generated: (\w+)[^>]*-->")


# A link to a notebook, which leads to its page.
_NOTEBOOK = re.compile(r"(\]\([^)\s]+)\.ipynb(?=[)#])")


def on_files(files: Any, config: Any) -> Any:
  """Adds a page for each notebook, with its stored outputs."""
  for path in sorted(pathlib.Path(config.docs_dir).glob("notebooks/*.ipynb")):
    text, plots = docs_text.notebook_to_markdown(
      json.loads(path.read_text()), path.stem
    )
    page = f"notebooks/{path.stem}.md"
    files.append(File.generated(config, page, content=text))
    for name, content in plots.items():
      files.append(File.generated(config, f"notebooks/{name}", content=content))
  return files


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Fills in `<!-- generated: NAME -->`, and links to the pages of notebooks."""
  text = _MARKER.sub(lambda match: reference.PARTS[match[1]](), markdown)
  return _NOTEBOOK.sub(r"\1.md", text)


def on_post_build(config: Any) -> None:
  """Fails where a page or style sheet would load something from another host."""
  for path in sorted(pathlib.Path(config.site_dir).rglob("*")):
    if path.suffix not in (".html", ".css"):
      continue
    if found := docs_text.find_external_request(path.read_text()):
      raise PluginError(f"{path} loads something from another host: {found}")
