"""Renders a page to a self-contained HTML file.

Every text that comes from a config, a file name or a class is escaped by the templates.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

_TEMPLATES = "templates"
# Non-breaking space between a number and its unit.
_SPACE = "\u00a0"
_MINUS = "\u2212"


def render(template: str, context: Mapping[str, Any]) -> str:
  """Renders a template.

  Args:
    template: a file of templates/.
    context: its variables; a missing one is an error.

  Returns:
    The HTML.
  """
  return _environment().get_template(template).render(**context)


def percent(fraction: Any, digits: int = 2, sign: bool = False) -> str:
  """Formats a fraction as "58.23 %"; in reports, non-finite values are text."""
  value = 100 * float(fraction)
  if not math.isfinite(value):
    return "not finite"
  text = f"{value:{'+' if sign else ''}.{digits}f}"
  return text.replace("-", _MINUS) + _SPACE + "%"


def points(fraction: Any, digits: int = 2) -> str:
  """Formats a fraction in percent, without the sign."""
  return decimal(100 * float(fraction), digits)


def decimal(value: Any, digits: int = 4, sign: bool = False) -> str:
  """Formats a number with a given number of decimals."""
  if not math.isfinite(float(value)):
    return "not finite"
  text = f"{float(value):{'+' if sign else ''}.{digits}f}"
  return text.replace("-", _MINUS)


def figure(value: Any, label: str, sign: bool = False) -> str:
  """Formats a metric of `seed_summary.metrics_of`: fractions, except the loss."""
  return decimal(value, 4, sign) if label == "loss" else percent(value, 2, sign)


def span(interval: tuple[float, float], digits: int = 1) -> str:
  """Formats the interval of a proportion in percent, without the sign."""
  low, high = (f"{100 * bound:.{digits}f}" for bound in interval)
  return f"{low}\u2013{high}"


def count(value: int) -> str:
  """Formats an integer with a thousands separator."""
  return f"{value:,}"


def commit(text: str, digits: int = 10) -> str:
  """Abbreviates a commit, and marks uncommitted changes."""
  number, plus, dirty = text.partition("+")
  return number[:digits] + plus + dirty


def p_value(value: float) -> str:
  """Formats a p-value with two digits; a dash if there was no test."""
  return f"{value:.2g}" if math.isfinite(value) else "\u2013"


def file(path: str) -> markupsafe.Markup:
  """A path with line break opportunities after slashes and underscores."""
  escaped = str(markupsafe.escape(path))
  return markupsafe.Markup(escaped.replace("/", "/<wbr>").replace("_", "_<wbr>"))


def setting(value: Any) -> str:
  """Formats a config's setting, abbreviated."""
  if isinstance(value, bool) or value is None:
    return {True: "yes", False: "no", None: "none"}[value]
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, list | tuple):
    return ", ".join(map(setting, value)) or "none"
  return str(value) or "none"


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("emosynth_jax.report", _TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )

  for function in (
    percent,
    points,
    decimal,
    figure,
    span,
    count,
    commit,
    p_value,
    file,
    setting,
  ):
    environment.filters[function.__name__] = function

  return environment
