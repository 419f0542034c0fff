"""What every page has to keep to, checked on its parsed form."""

import itertools
import re

import html5lib

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# CSS that fetches something.
_FETCHES = re.compile(r"url\(|@import", re.IGNORECASE)


def parse(html):
  """The page's elements, as ElementTree without namespaces.

  html5lib's strict parser raises at the first error that the HTML standard names:
  nesting, unclosed elements, doubled attributes.
  """
  parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
  root = parser.parse(html)
  for element in root.iter():
    if isinstance(element.tag, str):
      element.tag = element.tag.rpartition("}")[2]
  return root


def text_of(element):
  """All text inside, spaces as one."""
  return " ".join("".join(element.itertext()).split())


def check(html):
  """Asserts the rules; returns the parsed page."""
  root = parse(html)
  elements = [e for e in root.iter() if isinstance(e.tag, str)]
  _check_self_contained(elements)
  ids = [e.get("id") for e in elements if e.get("id")]
  assert len(set(ids)) == len(ids), "ids are not unique"
  for element in elements:
    target = element.get("href", "")
    if target:
      assert target.startswith("#"), target
      assert target[1:] in ids, f"{target} leads nowhere"
    for name in (element.get("aria-labelledby") or "").split():
      assert name in ids
  assert root.get("lang") == "en"
  levels = [_HEADINGS.index(e.tag) + 1 for e in elements if e.tag in _HEADINGS]
  assert levels.count(1) == 1
  assert levels[0] == 1
  assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
  for element in elements:
    if element.tag == "img":
      assert element.get("alt"), "an image without words"
    if element.tag == "svg" and element.get("aria-hidden") != "true":
      assert element.get("role") == "img"
      assert element.get("aria-label")
    if element.tag == "table":
      assert text_of(element.find("caption"))
      heads = list(element.iter("th"))
      assert heads
      assert all(head.get("scope") for head in heads)
    if element.get("role") == "region":
      # Who can't swipe scrolls by keyboard.
      assert element.get("tabindex") == "0"
      assert element.get("aria-label")
  return root


def _check_self_contained(elements):
  for element in elements:
    assert element.tag not in ("link", "iframe", "object", "embed", "base", "form")
    for name, value in element.attrib.items():
      assert not name.startswith("on"), f"{element.tag} {name}={value}"
      if name in ("src", "srcset", "data", "action", "poster"):
        assert value.startswith("data:image/png;base64,"), value[:80]
      if name == "style":
        assert not _FETCHES.search(value)
    if element.tag == "style":
      assert not _FETCHES.search(element.text)
  assert sum(e.tag == "script" for e in elements) == 1
  policy = [e for e in elements if e.get("http-equiv") == "Content-Security-Policy"]
  assert "default-src 'none'" in policy[0].get("content")
