"""Text transforms of the documentation site, without its dependencies."""

import base64
import re
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(
  r"^(Args|Attributes|Returns|Yields|Raises|References|Examples?):$", re.MULTILINE
)
_LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`_")
_INDENTED = re.compile(r"(?<=\n\n)((?:  .*\n|\n(?=  ))+)")
# What a browser loads by itself; links that a reader follows are not meant.
_LOADED = re.compile(
  r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
  r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
  r"""|@import\s+[^;]*//[^;]*|url\(["']?(?:https?:)?//[^)]*\)"""
)


def to_markdown(docstring: str) -> str:
  """Converts a docstring: indented code, links, colons in what is returned.

  Args:
    docstring: dedented text.

  Returns:
    The text with indented lines above its sections as code blocks, links as Markdown,
    and no colon that would be read as the end of a type in "Returns:".
  """
  text = _LINK.sub(lambda m: f"[{' '.join(m[1].split())}]({m[2]})", docstring)
  first = _SECTION.search(text)
  head, rest = (text[: first.start()], text[first.start() :]) if first else (text, "")
  head = _INDENTED.sub(_fence, head + "\n").rstrip("\n") + "\n\n" * bool(rest)
  parts = re.split(r"^(Returns:\n(?:  .*\n?|\n(?=  ))+)", rest, flags=re.MULTILINE)
  parts[1::2] = [_without_colons(part) for part in parts[1::2]]
  return head + "".join(parts)


def _fence(match: re.Match[str]) -> str:
  code = re.sub(r"^  ", "", match[0].rstrip("\n"), flags=re.MULTILINE)
  language = "text"
  if code.lstrip().startswith("python -m"):
    language = "sh"
  elif re.search(r"^(?:from|import|def) |^[\w, ]+ = ", code, re.MULTILINE):
    language = "python"
  return f"```{language}\n{code}\n```\n\n"


def _without_colons(section: str) -> str:
  title, _, body = section.partition("\n")
  pieces = body.split("`")
  pieces[::2] = [re.sub(r":(?=\s)", "&#58;", piece) for piece in pieces[::2]]
  return f"{title}\n{'`'.join(pieces)}"


def notebook_to_markdown(
  notebook: Mapping[str, Any], name: str
) -> tuple[str, dict[str, bytes]]:
  """Converts a notebook with its stored outputs to a page.

  Args:
    notebook: the JSON of the .ipynb file.
    name: of the file, without its ending.

  Returns:
    Markdown, and the plots by the names that it links to.
  """
  parts: list[str] = []
  plots: dict[str, bytes] = {}
  for cell in notebook["cells"]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
      parts.append(text)
      continue
    parts.append(f"```python\n{text}\n```")
    for output in cell["outputs"]:
      data = output.get("data", {})
      if "image/png" in data:
        plot = f"{name}-{len(plots)}.png"
        plots[plot] = base64.b64decode("".join(data["image/png"]))
        parts.append(f"![Output of the cell above]({plot})")
      else:
        printed = "".join(output.get("text", data.get("text/plain", "")))
        parts.append(f"```text\n{printed.rstrip()}\n```")

  title, *rest = parts[0].splitlines()
  download = f'<a href="{name}.ipynb" download>Download this notebook</a>'
  parts[0] = "\n".join([title, "", download, *rest])
  return "\n\n".join(parts) + "\n", plots


def find_external_request(text: str) -> str | None:
  """Finds what a browser would load from another host.

  Args:
    text: of an HTML page or a style sheet.

  Returns:
    The first such tag or rule; None without any.
  """
  found = _LOADED.search(text)
  return found[0] if found else None
