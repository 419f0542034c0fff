"""From what a page says to its HTML: one file that needs nothing else.

Every text that comes from a config, a file name or a class is escaped by the templates.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

_TEMPLATES = "templates"
# Joins a number to its unit, so that no line ends between them.
_SPACE = "\u00a0"
_MINUS = "\u2212"


def render(template: str, context: Mapping[str, Any]) -> str:
  """A page of a template.

  Args:
    template: a file of templates/.
    context: all that it names; what it misses is an error.

  Returns:
    The HTML.
  """
  return _environment().get_template(template).render(**context)


def percent(fraction: Any, digits: int = 2, sign: bool = False) -> str:
  """A fraction as in "58.23 %"; reports hold what is not finite as a text."""
  value = 100 * float(fraction)
  if not math.isfinite(value):
    return "not finite"
  text = f"{value:{'+' if sign else ''}.{digits}f}"
  return text.replace("-", _MINUS) + _SPACE + "%"


def points(fraction: Any, digits: int = 2) -> str:
  """A fraction in per cent, without the sign."""
  return decimal(100 * float(fraction), digits)


def decimal(value: Any, digits: int = 4, sign: bool = False) -> str:
  """A number with so many decimals."""
  if not math.isfinite(float(value)):
    return "not finite"
  text = f"{float(value):{'+' if sign else ''}.{digits}f}"
  return text.replace("-", _MINUS)


def figure(value: Any, label: str, sign: bool = False) -> str:
  """A figure of `seed_summary.figures_of`: all are fractions but the loss."""
  return decimal(value, 4, sign) if label == "loss" else percent(value, 2, sign)


def span(interval: tuple[float, float], digits: int = 1) -> str:
  """An interval of a share in per cent, without the sign."""
  low, high = (f"{100 * bound:.{digits}f}" for bound in interval)
  return f"{low}\u2013{high}"


def count(value: int) -> str:
  """A whole number with its thousands apart."""
  return f"{value:,}"


def commit(text: str) -> str:
  """The beginning of a commit, and whether the code had other changes."""
  number, plus, dirty = text.partition("+")
  return number[:10] + plus + dirty


def p_value(value: float) -> str:
  """A p-value with two digits; a dash where there was no test."""
  return f"{value:.2g}" if math.isfinite(value) else "\u2013"


def file(path: str) -> markupsafe.Markup:
  """A path that may be broken after its slashes and underscores."""
  escaped = str(markupsafe.escape(path))
  return markupsafe.Markup(escaped.replace("/", "/<wbr>").replace("_", "_<wbr>"))


def setting(value: Any) -> str:
  """A setting of a config, as short as can be."""
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
