"""MkDocs hooks: generated parts of pages, and no request to another host."""

import pathlib
import re
from typing import Any

from mkdocs.exceptions import PluginError

from tools import docs_text, reference

_MARKER = re.compile(r"<!-- generated: (\w+)[^>]*-->")


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Replaces `<!-- generated: NAME -->` by that part of the reference."""
  return _MARKER.sub(lambda match: reference.PARTS[match[1]](), markdown)


def on_post_build(config: Any) -> None:
  """Fails where a page or style sheet would load something from another host."""
  for path in sorted(pathlib.Path(config.site_dir).rglob("*")):
    if path.suffix not in (".html", ".css"):
      continue
    if found := docs_text.find_external_request(path.read_text()):
      raise PluginError(f"{path} loads something from another host: {found}")
