"""A picture of the rendered repository's Datadog dashboard: what stands where, and what it asks for. No data.

`python tests/dashboard.py --update` draws docs/dashboard.svg anew from deploy/datadog/dashboard.json.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from rendered import DIRECTORY, ROOT

SOURCE = ROOT / DIRECTORY / "deploy" / "datadog" / "dashboard.json"
PICTURE = ROOT / "docs" / "dashboard.svg"
# Of one unit of Datadog's grid, which is 12 wide, in pixels.
WIDTH, HEIGHT = 100, 42
TOP, GAP, BAR = 64, 5, 28
KINDS = {"timeseries": "over time", "slo": "objective", "query_value": "one number", "event_stream": "events"}
# What nearly every query has, and says nothing of it.
COMMON = re.compile(r"^(service:|\$|role:live$|kube_namespace:|kube_deployment:|horizontalpodautoscaler:)")


def picture(dashboard: Mapping[str, Any]) -> str:
    """The dashboard as SVG."""
    groups = dashboard["widgets"]
    # A group's own height has a unit for its title.
    bottom = max(group["layout"]["y"] + group["layout"]["height"] for group in groups)
    height = TOP + bottom * HEIGHT + GAP
    variables = ", ".join(f"{each['name']}: {'|'.join(each['defaults'])}" for each in dashboard["template_variables"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {12 * WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{12 * WIDTH}" height="{height}" fill="#f5f6f8"/>',
        _text(12, 26, re.sub(r"<<.*?>>", "<model>", dashboard["title"]), 18, "bold"),
        _text(12, 48, f"choose {variables}. A layout drawn from deploy/datadog/dashboard.json: no data.", 12),
    ]
    for group in groups:
        parts += _group(group)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _group(group: Mapping[str, Any]) -> Iterator[str]:
    place, content = group["layout"], group["definition"]
    x, y = place["x"] * WIDTH, TOP + place["y"] * HEIGHT
    yield _box(x + GAP, y, place["width"] * WIDTH - 2 * GAP, place["height"] * HEIGHT - GAP, "#e4e0ef")
    yield _text(x + 3 * GAP, y + BAR - 7, content["title"], 13, "bold")
    for widget in content["widgets"]:
        inner = widget["layout"]
        left, top = x + inner["x"] * WIDTH + 2 * GAP, y + BAR + inner["y"] * HEIGHT
        wide, high = inner["width"] * WIDTH - 4 * GAP, inner["height"] * HEIGHT
        yield _box(left, top, wide, high, "#ffffff")
        yield from _widget(widget["definition"], left + 8, top + 17, wide - 16, top + high)


def _widget(definition: Mapping[str, Any], x: float, y: float, wide: float, bottom: float) -> Iterator[str]:
    title = textwrap.wrap(definition["title"], int(wide / 6.6))
    said = [(line, 12, "bold", "#222222") for line in title]
    said.append((KINDS[definition["type"]], 10, "normal", "#7a7a85"))
    for text in asked(definition):
        lines = textwrap.wrap(text, int(wide / 6.1), subsequent_indent="  ", break_long_words=False)
        said += [(line, 10, "mono", "#4b3a86") for line in lines]
    for text, size, weight, colour in said:
        if y > bottom:
            raise ValueError(f"{definition['title']!r} does not fit into its box")
        yield _text(x, y, text, size, weight, colour)
        y += size + 3


def asked(definition: Mapping[str, Any]) -> list[str]:
    """What a widget asks for, in short: `p95 ml.request.seconds, outcome:ok, by role`."""
    if definition["type"] == "slo":
        return [f"the objective of slo.json, {', '.join(definition['time_windows'])}"]
    if definition["type"] == "event_stream":
        return [re.sub(r"\S*<<.*?>>\s*", "", definition["query"])]
    return [_short(query["query"]) for request in definition["requests"] for query in request["queries"]]


def _short(query: str) -> str:
    match = re.fullmatch(r"(\w+):([\w.]+)\{(.*?)\}(?: by \{(.*?)\})?(?:\.as_(\w+)\(\))?", query)
    if match is None:
        raise ValueError(f"a query of another form: {query}")
    how, metric, scope, by, unit = match.groups()
    narrowed = [part for part in scope.split(",") if not COMMON.match(part)]
    parts = [f"{how} {metric}", *narrowed]
    if by:
        parts.append(f"by {by.replace(',', ', ')}")
    return ", ".join(parts) + (" /s" if unit == "rate" else "")


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{colour}" stroke="#c9c9d3"/>'


def _text(x: float, y: float, text: str, size: int, weight: str = "normal", colour: str = "#222222") -> str:
    style = 'font-family="monospace"' if weight == "mono" else f'font-weight="{weight}"'
    spaced = ' xml:space="preserve"' if text.startswith(" ") else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" {style}{spaced}>{escape(text)}</text>'


def drawn(source: Path = SOURCE) -> str:
    """The picture that belongs to a dashboard.json."""
    return picture(json.loads(source.read_text(encoding="utf-8")))


def main() -> None:
    """Draw, or say whether the picture is up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--update", action="store_true", help="write docs/dashboard.svg")
    if parser.parse_args().update:
        PICTURE.write_text(drawn(), encoding="utf-8")
    elif drawn() != PICTURE.read_text(encoding="utf-8"):
        raise SystemExit("docs/dashboard.svg shows another dashboard; --update draws it anew")


if __name__ == "__main__":
    main()
