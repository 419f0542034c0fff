"""Both pages in Chromium: on a phone, a desktop, paper, light and dark."""

import os
import re
import shutil

import made_up_run
import pytest
import tiny_run

from emosynth_jax.report import report

sync_api = pytest.importorskip(
  "playwright.sync_api",
  reason="no playwright: python -m pip install playwright (docs/guides/reports.md)",
)
_CHROMIUM = os.environ.get("CHROMIUM") or next(
  filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
  None,
)
pytestmark = pytest.mark.skipif(
  _CHROMIUM is None,
  reason="no Chromium: apt-get install chromium, or name one in "
  "CHROMIUM (docs/guides/reports.md)",
)

# Media, and the width of an A4 page less its margins at 96 pixels an inch.
_VIEWS = {
  "phone": {"media": "screen", "color_scheme": "light", "width": 360},
  "phone, dark": {"media": "screen", "color_scheme": "dark", "width": 360},
  "desktop": {"media": "screen", "color_scheme": "light", "width": 1280},
  "desktop, dark": {"media": "screen", "color_scheme": "dark", "width": 1280},
  "paper": {"media": "print", "color_scheme": "light", "width": 688},
  "paper, dark": {"media": "print", "color_scheme": "dark", "width": 688},
}
# What stands out of the page, but for what scrolls inside of it or is meant for
# screen readers alone.
_TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 0 && box.right > document.documentElement.clientWidth + 1
    && !e.closest('.scroll') && !e.closest('svg') && !e.closest('.away');
}).map(e => e.tagName + '.' + e.className)"""
# WCAG 2.1's contrast of the body's text.
_CONTRAST = """() => {
  const luminance = color => {
    const c = color.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * c[0] + .7152 * c[1] + .0722 * c[2];
  };
  const style = getComputedStyle(document.body);
  const [a, b] = [luminance(style.color), luminance(style.backgroundColor)];
  return {
    contrast: (Math.max(a, b) + .05) / (Math.min(a, b) + .05),
    dark: b < a,
  };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
  """The file of each page."""
  folder = tmp_path_factory.mktemp("pages")
  run = folder / "run"
  run.mkdir()
  tiny_run.write(run)
  made_up_run.write_map_checks(run)
  workdirs = [folder / loss for loss in ("mse", "cross_entropy")]
  for workdir in workdirs:
    made_up_run.write_run(workdir, loss=workdir.name)
  return {
    "run": tiny_run.write_page(run, folder),
    "comparison": report.write_page(tiny_run.flags_of(*workdirs)),
  }


@pytest.fixture(scope="module")
def browser():
  with sync_api.sync_playwright() as playwright:
    started = playwright.chromium.launch(
      executable_path=_CHROMIUM, args=["--no-sandbox"]
    )
    yield started
    started.close()


@pytest.mark.parametrize("view", _VIEWS)
@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_fits_and_asks_for_nothing(pages, browser, kind, view):
  wanted = _VIEWS[view]
  shown = browser.new_page(viewport={"width": wanted["width"], "height": 740})
  shown.emulate_media(media=wanted["media"], color_scheme=wanted["color_scheme"])
  asked, said = [], []
  shown.on("request", lambda request: asked.append(request.url))
  shown.on("console", lambda message: said.append(message.text))
  shown.on("pageerror", lambda error: said.append(str(error)))
  shown.goto(pages[kind].as_uri())
  if folder := os.environ.get("EMOSYNTH_TEST_SCREENSHOTS"):
    name = f"{kind}-{view.replace(', ', '-')}.png"
    shown.screenshot(path=os.path.join(folder, name), full_page=True)
  assert shown.evaluate("document.documentElement.scrollWidth") <= wanted["width"]
  assert shown.evaluate(_TOO_WIDE) == []
  found = shown.evaluate(_CONTRAST)
  assert found["contrast"] >= 7
  # Paper is white, whatever the screen is.
  assert found["dark"] == (view.startswith(("phone", "desktop")) and "dark" in view)
  nav = shown.evaluate("getComputedStyle(document.querySelector('nav')).display")
  assert (nav == "none") == (wanted["media"] == "print")
  folded = shown.evaluate(
    "[...document.querySelectorAll('details > :not(summary)')]"
    ".map(e => e.checkVisibility({contentVisibilityAuto: true}))"
  )
  # What is folded up on a screen is printed.
  assert folded
  assert set(folded) == {wanted["media"] == "print"}
  assert [url for url in asked if not url.startswith("data:")] == [pages[kind].as_uri()]
  assert said == []
  shown.close()


def test_a_table_is_sorted_by_the_column_that_is_clicked(pages, browser):
  shown = browser.new_page(viewport={"width": 360, "height": 740})
  shown.goto(pages["run"].as_uri())
  shown.click("table[data-sort] th:nth-child(3) button")
  recalls = shown.evaluate(
    "[...document.querySelectorAll('table[data-sort] tbody tr')]"
    ".map(row => Number(row.cells[2].dataset.value))"
  )
  assert len(set(recalls)) > 1
  assert recalls == sorted(recalls, reverse=True)
  shown.close()


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_printed_page_is_a4(pages, browser, kind, tmp_path):
  shown = browser.new_page()
  shown.goto(pages[kind].as_uri())
  content = shown.pdf(prefer_css_page_size=True)
  shown.close()
  assert content.startswith(b"%PDF")
  # In points, 210 x 297 mm.
  boxes = {
    tuple(round(float(x)) for x in box.split())
    for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", content)
  }
  assert boxes == {(0, 0, 595, 842)}
