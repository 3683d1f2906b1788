"""Charts of the reports as inline SVG.

Drawn by hand rather than by a plotting library: text and colours are the page's own, so a chart is readable on a phone,
in the dark and in print, and takes 2 KB. Text that comes from outside passes through Markup.format, which escapes it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

# Units of the drawing; a chart is shown 320 to 480 pixels wide, so text of 11 units stays about that many pixels.
WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 34
TICKS = 5
# More points than a chart has pixels show nothing more.
POINTS = 400

Values = Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """A linear scale: values `low` to `high` on the drawing's `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value in the drawing, to a hundredth."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """About `count` round numbers, 1, 2 or 5 times a power of ten apart, the outer ones at or beyond low and high."""
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def lines(name: str, train: Values, validation: Values, mark: int | None = None) -> Markup:
    """A metric over the epochs, from 1, on the train and, if it is there, the validation split.

    Values that are not finite leave a gap. mark: the epoch to point out.
    """
    height = 210
    finite = [value for values in (train, validation) for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return Markup('<p class="note">{} was never a finite number.</p>').format(name)
    epochs = max(len(train), len(validation))
    up = ticks(min(finite), max(finite))
    x = Axis(1, max(epochs, 2), LEFT, WIDTH - RIGHT)
    y = Axis(up[0], up[-1], height - BOTTOM, TOP)
    body = [_horizontal(y, up), _below(x, [t for t in ticks(1, epochs, 6) if t == int(t) and 1 <= t <= epochs], height)]
    body.append(_caption("epoch", height))
    if mark is not None:
        body.append(_line("mark", x.at(mark), TOP, x.at(mark), height - BOTTOM))
    body += [
        _curve(values, kind, x, y) for values, kind in ((train, "train"), (validation, "validation")) if len(values)
    ]
    return _svg(f"{name} by epoch", height, body)


def reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """How often the model is right by how sure it is, with 95 % intervals; below, how many examples that is.

    bins: of `evaluation.calibration`.
    """
    height, floor = 300, 228
    x, y = Axis(0, 1, LEFT, WIDTH - RIGHT), Axis(0, 1, floor, TOP)
    tenths = [0, 0.2, 0.4, 0.6, 0.8, 1]
    body = [
        _horizontal(y, tenths),
        _line("ideal", x.at(0), y.at(0), x.at(1), y.at(1)),
        _below(x, tenths, height),
        _caption("confidence: probability of the predicted class", height),
    ]
    most = max(bin["examples"] for bin in bins)
    bars = Axis(0, math.sqrt(most), height - BOTTOM, floor + 16)
    for bin in bins:
        if not bin["examples"]:
            continue
        left, right = x.at(bin["from"]), x.at(bin["to"])
        # Square roots, so that bins of a few examples are seen beside one of thousands.
        top = bars.at(math.sqrt(bin["examples"]))
        body.append(_rectangle("count", left + 1, top, right - left - 2, height - BOTTOM - top))
        body.append(_text("count", (left + right) / 2, top - 3, "middle", str(bin["examples"])))
        place = x.at(bin["confidence"])
        body.append(_line("whisker", place, y.at(bin["low"]), place, y.at(bin["high"])))
        body.append(_dot("dot", place, y.at(bin["accuracy"])))
    return _svg("accuracy by confidence", height, body)


def curve(
    names: tuple[str, str],
    points: Sequence[tuple[float, float]],
    chance: float | None,
    mark: tuple[float, float] | None,
) -> Markup:
    """A line of shares in a square, such as the ROC curve. names: of the axes, across and up.

    chance: what guessing gets, everywhere; None: the diagonal. mark: the point to show.
    """
    height = 300
    x, y = Axis(0, 1, LEFT, WIDTH - RIGHT), Axis(0, 1, height - BOTTOM, TOP)
    tenths = [0, 0.2, 0.4, 0.6, 0.8, 1]
    across, up = names
    ends = (0.0, 1.0) if chance is None else (chance, chance)
    body = [
        _horizontal(y, tenths),
        _below(x, tenths, height),
        _caption(across, height),
        _line("ideal", x.at(0), y.at(ends[0]), x.at(1), y.at(ends[1])),
        _polyline("model", [f"{x.at(a)},{y.at(b)}" for a, b in points]),
    ]
    if mark is not None:
        body.append(_dot("dot other", x.at(mark[0]), y.at(mark[1])))
    return _svg(f"{up} by {across}", height, body)


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """Shares with their intervals, one below the other. rows: name, low, value, high; the first is the model's own."""
    height = TOP + 44 * len(rows) + BOTTOM
    along = ticks(min(row[1] for row in rows), max(row[3] for row in rows))
    along = [tick for tick in along if 0 <= tick <= 1]
    low, high = min(along[0], *(row[1] for row in rows)), max(along[-1], *(row[3] for row in rows))
    # Half of "100 %" stands beyond the last tick, half of "99.5 %" before the first.
    x = Axis(low, high, 22, WIDTH - 20)
    body = [_below(x, along, height, percent=True), _grid(x, along, height), _caption("accuracy", height)]
    for i, (name, *figures) in enumerate(rows):
        kind = "" if i == 0 else " other"
        body += [_text("name", 22, TOP + 44 * i + 14, "start", name), _whisker(kind, x, TOP + 44 * i + 28, figures)]
    return _svg("accuracy of both models", height, body)


def difference(low: float, value: float, high: float, margin: float | None) -> Markup:
    """A difference with its interval, beside 0 and the margin that is allowed below it; None: any."""
    height = TOP + 88 + BOTTOM
    # A little of what is refused is always seen.
    refused = 0.0 if margin is None else -1.2 * min(margin, 0.8)
    along = ticks(min(low, refused, 0), max(high, 0))
    x = Axis(along[0], along[-1], 16, WIDTH - 16)
    body = [_below(x, along, height, percent=True, signed=True), _grid(x, along, height)]
    shaded = x.at(max(-margin, along[0])) - 16 if margin is not None and margin < 1 else 0.0
    if shaded > 0:
        body.append(_rectangle("refused", 16, TOP, shaded, 88))
    body += [
        _line("zero", x.at(0), TOP, x.at(0), height - BOTTOM),
        _whisker(" worse" if value < 0 else "", x, TOP + 50, [low, value, high]),
        _caption("difference of accuracy, percentage points", height),
    ]
    return _svg("difference of accuracy", height, body)


def histograms(name: str, edges: Sequence[float], model: Sequence[float], other: Sequence[float]) -> Markup:
    """How values are spread for two models: bars for the first, a line of steps for the other.

    edges: bounds of the bins, one more than there are bins; model, other: share of the values in each.
    """
    height = 210
    up = ticks(0, max(*model, *other, 1e-6))
    x, y = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT), Axis(up[0], up[-1], height - BOTTOM, TOP)
    along = [t for t in ticks(edges[0], edges[-1]) if edges[0] <= t <= edges[-1]]
    body = [_horizontal(y, up, percent=True), _below(x, along, height), _caption(name, height)]
    for left, right, share in zip(edges, edges[1:], model, strict=False):
        body.append(_rectangle("count", x.at(left), y.at(share), x.at(right) - x.at(left), y.at(0) - y.at(share)))
    steps = [(bound, share) for i, share in enumerate(other) for bound in edges[i : i + 2]]
    body.append(_polyline("other", [f"{x.at(bound)},{y.at(share)}" for bound, share in steps]))
    return _svg(name, height, body)


def percentiles(name: str, model: Sequence[float], other: Sequence[float]) -> Markup:
    """Values of two models by how many lie below them, on a logarithmic scale.

    model, other: the values above 0 at the percentiles 1 to 99; other may be empty.
    """
    height = 230
    low, high = math.log10(min(*model, *other)), math.log10(max(*model, *other))
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    low, high = low - 0.05, high + 0.05
    x, y = Axis(0, 100, LEFT, WIDTH - RIGHT), Axis(low, high, height - BOTTOM, TOP)
    seen = [mark for mark in marks if low <= math.log10(mark) <= high]
    seen = seen if len(seen) <= 8 else [mark for mark in seen if math.isclose(math.log10(mark) % 1, 0, abs_tol=1e-9)]
    body = [_line("grid", LEFT, y.at(math.log10(mark)), WIDTH - RIGHT, y.at(math.log10(mark))) for mark in seen]
    body += [_text("tick", LEFT - 6, y.at(math.log10(mark)) + 3.5, "end", _short(mark)) for mark in seen]
    body += [_below(x, [0, 25, 50, 75, 95], height), _caption("percentile", height)]
    for kind, values in (("other", other), ("model", model)):
        points = [f"{x.at(i)},{y.at(math.log10(value))}" for i, value in enumerate(values, start=1)]
        body += [_polyline(kind, points)] if points else []
    return _svg(name, height, body)


def _svg(label: str, height: float, body: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(body)
    )


def _horizontal(y: Axis, values: Sequence[float], percent: bool = False) -> Markup:
    drawn = [_line("grid", LEFT, y.at(v), WIDTH - RIGHT, y.at(v)) for v in values]
    names = [f"{100 * v:.6g} %" if percent else _short(v) for v in values]
    named = [_text("tick", LEFT - 6, y.at(v) + 3.5, "end", name) for v, name in zip(values, names, strict=True)]
    return Markup("").join([*drawn, *named])


def _grid(x: Axis, values: Sequence[float], height: float) -> Markup:
    return Markup("").join(_line("grid", x.at(v), TOP, x.at(v), height - BOTTOM) for v in values)


def _below(x: Axis, values: Sequence[float], height: float, percent: bool = False, signed: bool = False) -> Markup:
    # As many decimals as the ticks are apart, so that no two read the same.
    names = [f"{v * 100:+.6g}" if signed and v else f"{v * 100:.6g}" for v in values] if percent else []
    names = names or [f"{v:g}" for v in values]
    suffix = " %" if percent and not signed else ""
    placed = zip(values, names, strict=True)
    return Markup("").join(
        _text("tick", x.at(v), height - BOTTOM + 14, "middle", name.replace("-", "\N{MINUS SIGN}") + suffix)
        for v, name in placed
    )


def _short(value: float) -> str:
    """A number in at most six letters or so: what stands left of a chart."""
    plain = f"{value:g}"
    if len(plain) > 6 or "e" in plain:
        mantissa, exponent = f"{value:e}".split("e")
        plain = f"{float(mantissa):g}e{int(exponent)}"
    return plain.replace("-", "\N{MINUS SIGN}")


def _caption(text: str, height: float) -> Markup:
    return _text("caption", WIDTH / 2, height - 5, "middle", text)


def _curve(values: Values, kind: str, x: Axis, y: Axis) -> Markup:
    every = max(1, len(values) // POINTS)
    pieces: list[list[str]] = [[]]
    for epoch, value in enumerate(values, start=1):
        if value is None or not math.isfinite(value):
            pieces.append([])
        elif epoch % every == 0 or epoch in (1, len(values)):
            pieces[-1].append(f"{x.at(epoch)},{y.at(value)}")
    drawn = [_polyline(kind, piece) for piece in pieces if piece[1:]]
    # A single point has no line.
    drawn += [_dot(kind, *map(float, piece[0].split(","))) for piece in pieces if len(piece) == 1]
    return Markup("").join(drawn)


def _whisker(kind: str, x: Axis, height: float, figures: Sequence[float]) -> Markup:
    low, value, high = (x.at(figure) for figure in figures)
    return _line(f"whisker{kind}", low, height, high, height) + _dot(f"dot{kind}", value, height)


def _polyline(kind: str, points: Sequence[str]) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(points))


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, round(x, 2), round(y, 2), round(width, 2), round(height, 2)
    )


def _dot(kind: str, x: float, y: float) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="3.5"/>').format(kind, x, y)


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, round(x, 2), round(y, 2), anchor, text
    )
