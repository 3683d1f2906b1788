"""Reports as HTML: one file that needs nothing but a browser, and how figures are written in it.

Jinja fills a template with autoescape: whatever comes from data is text, never markup.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

STYLE = Path(__file__).with_name("page.css")


def render(template: Path, **values: Any) -> str:
    """The page that a template makes of the values. It extends page.html, and has a filter for each `as_`."""
    return _template(template).render(**values)


def blocks(template: Path, **values: Any) -> Callable[[str], Markup]:
    """Renders one block of a template at a time, for a page that is made of those of several."""
    loaded = _template(template)

    def block(name: str) -> Markup:
        parts = loaded.blocks[name](loaded.new_context(values)) if name in loaded.blocks else ()
        # What a template makes has escaped what it was given.
        return Markup("".join(parts))  # noqa: S704

    return block


def _template(template: Path) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader([template.parent, STYLE.parent]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "sentence": as_sentence,
        "percent": as_percent,
        "points": as_points,
        "margin": as_margin,
        "hundredths": as_hundredths,
        "probability": as_probability,
        "number": as_number,
        "count": as_count,
        "bytes": as_bytes,
        "time": as_time,
    }
    return environment.get_template(template.name)


def as_sentence(clause: str) -> str:
    """A clause with a capital letter and a full stop; names such as `recall.yes`, `macro_f1` or `ink:` stay so."""
    first = clause.split(" ", 1)[0]
    return f"{clause if set(':._0123456789') & set(first) else clause[:1].upper() + clause[1:]}."


def as_percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent; what is not all or nothing is never rounded to it."""
    if share is None:
        return "\N{EN DASH}"
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f"{100 - 10.0**-digits:.{digits}f}"
    return f"{text}\N{NARROW NO-BREAK SPACE}%"


def as_points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "\N{MINUS SIGN}")


def as_margin(share: float) -> str:
    """A share as percentage points."""
    return "1 percentage point" if share == 0.01 else f"{as_number(100 * share)} percentage points"


def as_hundredths(share: float | None) -> str:
    """A share in per cent without the sign, three figures."""
    return "\N{EN DASH}" if share is None else f"{100 * share:.3g}"


def as_probability(value: float) -> str:
    """A p-value."""
    return "less than 0.0001" if value < 0.0001 else f"{value:.2g}"


def as_number(value: float) -> str:
    """Four figures, or thousands."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}") if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"


def as_input(value: float) -> str:
    """A number of an input, where NaN stands for what is missing."""
    return "\N{EN DASH}" if value != value else as_number(value)


def as_count(number: int, noun: str) -> str:
    """So many things."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_bytes(size: float) -> str:
    """A size in bytes, kB, MB or GB."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def as_time(moment: str) -> str:
    """ISO 8601 in UTC as people write it."""
    return f"{moment[:10]} {moment[11:16]} UTC"
