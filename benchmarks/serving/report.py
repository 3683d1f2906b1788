"""The figures of a benchmark as Markdown tables, a chart, and the targets with what was reached."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from environments import HERE
from servers import BY_NAME, SERVERS

Visit = Mapping[str, Any]
Content = Mapping[str, Any]
Read = Callable[[Visit], float]
MODELS = {"small": "Small model: the digits, JSON", "medium": "Medium model: MobileNetV2 96x96x3, bytes"}
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    values: Sequence[float]

    @property
    def middle(self) -> float:
        return median(self.values)

    def text(self, digits: int = 0) -> str:
        """Median, and the range if there were several rounds."""
        if not self.values:
            return "-"
        found = f"{self.middle:,.{digits}f}"
        if len(self.values) == 1:
            return found
        return f"{found} [{min(self.values):,.{digits}f}-{max(self.values):,.{digits}f}]"


@dataclass(frozen=True)
class Target:
    """What was asked for: `found` should be at least or at most `wanted`. found: one value a round."""

    text: str
    found: Spread
    wanted: float
    at_least: bool
    unit: str = ""
    digits: int = 2

    @property
    def met(self) -> bool:
        return self.found.middle >= self.wanted if self.at_least else self.found.middle <= self.wanted

    def row(self) -> str:
        sign = "at least" if self.at_least else "at most"
        wanted = f"{sign} {self.wanted:g}{self.unit}"
        verdict = "met" if self.met else "**missed**"
        return f"| {self.text} | {wanted} | {self.found.text(self.digits)}{self.unit} | {verdict} |"


class Figures:
    """The visits that gave figures."""

    def __init__(self, content: Content) -> None:
        self._visits: dict[tuple[str, str, int], Visit] = {
            (visit["model"], visit["server"], visit["round"]): visit for visit in content["visits"]
        }

    def rounds(self, model: str, server: str) -> list[int]:
        """The rounds in which a server was measured."""
        return [
            number
            for (m, s, number), visit in self._visits.items()
            if (m, s) == (model, server) and "error" not in visit
        ]

    def errors(self) -> list[str]:
        """What could not be measured, and why."""
        return [
            f"{server}, {model} model, round {number + 1}: {visit['error']}"
            for (model, server, number), visit in self._visits.items()
            if "error" in visit
        ]

    def spread(self, model: str, server: str, read: Read) -> Spread:
        """A figure of a server."""
        return Spread([read(self._visits[model, server, number]) for number in self.rounds(model, server)])

    def ratio(self, model: str, server: str, others: Sequence[str], read: Read, best: Callable[..., float]) -> Spread:
        """A figure of a server divided by the best of others in the same round."""
        values = []
        for number in self.rounds(model, server):
            against = [
                read(self._visits[model, other, number]) for other in others if number in self.rounds(model, other)
            ]
            if against and best(against):
                values.append(read(self._visits[model, server, number]) / best(against))
        return Spread(values)


def rate(connections: int) -> Read:
    return lambda visit: float(visit["closed"][str(connections)]["goodput"])


def latency(connections: int, point: str) -> Read:
    return lambda visit: float(visit["closed"][str(connections)]["accepted"].get(point, float("inf")))


def health(connections: int, point: str) -> Read:
    return lambda visit: float(visit["closed"][str(connections)]["health"].get(point, float("inf")))


def cpu(visit: Visit) -> float:
    """Processor time of all the server's processes for a request at 64 connections, in microseconds."""
    loop = visit["closed"]["64"]
    return 1e6 * float(loop["server_cpu"]) / max(float(loop["goodput"]), 1e-9)


def open_loop(factor: str, *path: str) -> Read:
    def read(visit: Visit) -> float:
        value: Any = visit.get("open", {}).get(factor, {})
        for name in path:
            value = value.get(name, {}) if isinstance(value, dict) else value
        return float(value) if isinstance(value, int | float) else float("inf")

    return read


def kept(factor: str) -> Read:
    """Goodput under an open loop as a share of the best that a closed loop reached in the same visit."""
    return lambda visit: open_loop(factor, "goodput")(visit) / max(*(rate(n)(visit) for n in (1, 16, 64)), 1e-9)


def faults(visit: Visit) -> float:
    """Answers in the closed loops that are no 200, and connections that broke."""
    each = visit["closed"].values()
    return float(sum(sum(loop["statuses"].values()) - loop["statuses"].get("200", 0) + loop["broken"] for loop in each))


def bare(visit: Visit) -> float:
    """The best rows per second over the sizes of a call."""
    return float(max(visit["rows_per_second"].values()))


def targets(figures: Figures) -> list[Target]:
    """What the server is held to."""
    packaged = [server.name for server in SERVERS if server.packaged]
    ours, light = "ours-tensorflow", "ours-litert"
    found = [
        Target(
            "small, 64 connections: requests/s, against the best packaged server",
            figures.ratio("small", ours, packaged, rate(64), max),
            *(5, True, " x"),
        ),
        Target(
            "small, 64 connections: requests/s, against the hand-written batcher on FastAPI",
            figures.ratio("small", ours, ["fastapi-batched"], rate(64), max),
            *(1, True, " x"),
        ),
        Target(
            "small, 64 connections: p99, against the lowest of the packaged servers",
            figures.ratio("small", ours, packaged, latency(64, "p99"), min),
            *(0.1, False, " x"),
        ),
        *(
            Target(
                f"medium, {connections} connections: requests/s, against FastAPI with the signature",
                figures.ratio("medium", ours, ["fastapi"], rate(connections), max),
                *(2, True, " x"),
            )
            for connections in (16, 64)
        ),
        *(
            Target(
                f"medium, 16 connections: requests/s, against the model without HTTP ({runtime})",
                _of_bare(figures, f"ours-{runtime}", f"call-{runtime}"),
                *(0.65, True, " x"),
            )
            for runtime in ("tensorflow", "litert")
        ),
    ]
    for name, runtime in ((ours, "TensorFlow"), (light, "LiteRT")):
        for model in MODELS:
            found += [
                Target(
                    f"{model}, {runtime}: p99 of health at 64 connections",
                    figures.spread(model, name, health(64, "p99")),
                    *(20, False, " ms", 1),
                ),
                Target(
                    f"{model}, {runtime}: p99 of accepted requests at 3x overload",
                    figures.spread(model, name, open_loop("3", "accepted", "p99")),
                    *(60, False, " ms", 0),
                ),
                Target(
                    f"{model}, {runtime}: goodput at 3x overload, of capacity",
                    figures.spread(model, name, kept("3")),
                    *(0.8, True, " x"),
                ),
                Target(
                    f"{model}, {runtime}: cold start to the first right answer",
                    figures.spread(model, name, lambda visit: float(visit["cold_seconds"])),
                    *(6 if name == ours else 1, False, " s"),
                ),
            ]
    return [target for target in found if target.found.values]


def _of_bare(figures: Figures, server: str, call: str) -> Spread:
    calls = figures.spread("medium", call, bare)
    mine = figures.spread("medium", server, rate(16))
    return Spread([value / calls.middle for value in mine.values]) if calls.values else Spread([])


def text(content: Content) -> str:
    """All tables as Markdown."""
    figures = Figures(content)
    machine, visits = content["machine"], content["visits"]
    rounds = 1 + max((visit["round"] for visit in visits), default=0)
    seconds = sorted({visit["seconds"] for visit in visits})
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['system']}, CPython {machine['python']}; "
        f"{rounds} rounds, {'/'.join(f'{each:g}' for each in seconds)} s a measurement; median [lowest-highest] over "
        f"the rounds; code at {', '.join(sorted({visit['commit'] for visit in visits}))}.",
        "### Targets",
        "\n".join(["| | target | reached | |", "| --- | --- | --- | --- |", *(t.row() for t in targets(figures))]),
    ]
    for model, title in MODELS.items():
        names = [server.name for server in SERVERS if figures.rounds(model, server.name)]
        if names:
            parts += [f"### {title}", *_tables(figures, model, names)]
    parts += ["### The models without HTTP", _calls(figures)]
    parts += ["### Versions and installed size", _versions(content)]
    errors = figures.errors()
    if errors:
        parts += ["### Not measured", "\n".join(f"- {error}" for error in errors)]
    return "\n\n".join(parts)


def _tables(figures: Figures, model: str, names: Sequence[str]) -> list[str]:
    closed = [
        "Closed loop: requests/s, and p50 / p99 in ms. CPU: what one request takes with 64 connections, in us.",
        "",
        "| server | 1 connection | p50 / p99 | 16 | p50 / p99 | 64 | p50 / p99 | CPU | health p99 / max | not 200 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        cells = [BY_NAME[name].title]
        for connections in (1, 16, 64):
            points = [figures.spread(model, name, latency(connections, p)).middle for p in ("p50", "p99")]
            cells += [figures.spread(model, name, rate(connections)).text(), f"{points[0]:.2f} / {points[1]:.1f}"]
        cells.append(f"{figures.spread(model, name, cpu).middle:,.0f}")
        points = [figures.spread(model, name, health(64, p)).middle for p in ("p99", "max")]
        cells += [f"{points[0]:.1f} / {points[1]:.1f}", f"{sum(figures.spread(model, name, faults).values):.0f}"]
        closed.append(f"| {' | '.join(cells)} |")
    opened = [
        "Open loop at 0.5, 1 and 3 times the best rate of the closed loops: answers 200 per second while it lasted,",
        "as a share of that rate, and p50 / p99 of those answers in ms from the time that a request was due. The last",
        "four columns are of 3x.",
        "",
        "| server | 0.5x | p50 / p99 | 1x | p50 / p99 | 3x | p50 / p99 | refused | their p99 | lost | health p99 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        cells = [BY_NAME[name].title]
        for factor in ("0.5", "1", "3"):
            points = [figures.spread(model, name, open_loop(factor, "accepted", p)).middle for p in ("p50", "p99")]
            cells += [figures.spread(model, name, kept(factor)).text(2), f"{points[0]:.1f} / {points[1]:.0f}"]
        share = figures.spread(model, name, _share("refused", "count")).middle
        cells += [f"{share:.0%}", f"{figures.spread(model, name, open_loop('3', 'refused', 'p99')).middle:.0f}"]
        cells += [f"{figures.spread(model, name, _share('unanswered')).middle:.0%}"]
        cells += [f"{figures.spread(model, name, open_loop('3', 'health', 'p99')).middle:.0f}"]
        opened.append(f"| {' | '.join(cells)} |".replace("| inf |", "| - |"))
    rest = [
        "Start and memory (all processes; resident, and proportional in brackets) after the closed loops.",
        "",
        "| server | cold start, s | memory, MB |",
        "| --- | --- | --- |",
    ]
    for name in names:
        cold = figures.spread(model, name, lambda visit: float(visit["cold_seconds"])).text(2)
        rss = figures.spread(model, name, lambda visit: float(visit["loaded"]["rss_mb"])).middle
        pss = figures.spread(model, name, lambda visit: float(visit["loaded"]["pss_mb"])).middle
        rest.append(f"| {BY_NAME[name].title} | {cold} | {rss:,.0f} ({pss:,.0f}) |")
    return ["\n".join(closed), "\n".join(opened), "\n".join(rest)]


def _share(*path: str) -> Read:
    def read(visit: Visit) -> float:
        due = open_loop("3", "scheduled")(visit)
        return open_loop("3", *path)(visit) / due

    return read


def _calls(figures: Figures) -> str:
    sizes = ("1", "2", "4", "8", "16", "32", "64")
    lines = [f"| rows/s in calls of | {' | '.join(sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for model in MODELS:
        for runtime in ("tensorflow", "litert"):
            if figures.rounds(model, f"call-{runtime}"):
                cells = [
                    figures.spread(model, f"call-{runtime}", lambda visit, s=size: visit["rows_per_second"][s]).middle  # type: ignore[misc]
                    for size in sizes
                ]
                lines.append(f"| {model}, {runtime} | {' | '.join(f'{cell:,.0f}' for cell in cells)} |")
    return "\n".join(lines)


def _versions(content: Content) -> str:
    lines = ["| environment | MB | |", "| --- | --- | --- |"]
    for name, found in content["versions"].items():
        listed = ", ".join(f"{package} {version}" for package, version in found.items() if package != "megabytes")
        lines.append(f"| {name} | {int(found['megabytes']):,} | {listed} |")
    return "\n".join(lines)


def chart(content: Content) -> str:
    """Requests per second at 64 connections (small) and 16 (medium) as bars, with the p99 beside them: SVG."""
    figures = Figures(content)
    height, y, parts = 0, 24, []
    for model, connections in (("small", 64), ("medium", 16)):
        found = [
            (
                server,
                figures.spread(model, server.name, rate(connections)).middle,
                figures.spread(model, server.name, latency(connections, "p99")).middle,
            )
            for server in SERVERS
            if figures.rounds(model, server.name)
        ]
        if not found:
            continue
        most = max(value for _, value, _ in found)
        parts.append(
            f'<text x="0" y="{y}" class="t">{escape(MODELS[model])}, {connections} connections: requests/s</text>'
        )
        for server, value, p99 in sorted(found, key=lambda each: -each[1]):
            y += 24
            kind = "limit" if server.limit else "ours" if server.name.startswith("ours") else "peer"
            width = 330 * value / most
            parts.append(
                f'<text x="185" y="{y + 4}" text-anchor="end">{escape(server.title)}</text>'
                f'<rect x="192" y="{y - 9}" width="{width:.1f}" height="17" class="{kind}"/>'
                f'<text x="{198 + width:.1f}" y="{y + 4}">{value:,.0f} <tspan class="n">p99 {p99:.0f} ms</tspan></text>'
            )
        y += 40
    height = y - 20
    style = (
        "text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.n{fill:#6e7781}.ours{fill:#0969da}"
        ".peer{fill:#8c959f}.limit{fill:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#8d96a0}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" width="680" height="{height}" role="img" '
        f'aria-label="Throughput of the servers">\n<style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def write(content: Content, directory: Path) -> None:
    """The raw figures, a visit a line, and the chart."""
    parts = {name: json.dumps(content[name]) for name in ("machine", "versions")}
    visits = ",\n".join(json.dumps(visit) for visit in content["visits"])
    (directory / "results.json").write_text(
        f'{{"machine": {parts["machine"]},\n"versions": {parts["versions"]},\n"visits": [\n{visits}\n]}}\n'
    )
    (directory / "chart.svg").write_text(chart(content))


def keep(content: Content) -> None:
    """Write the figures beside this file, and put the tables into README.md."""
    write(content, HERE)
    readme = HERE / "README.md"
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    readme.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text(content)}\n\n{END}", readme.read_text()))
