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

Result = Mapping[str, Any]
Content = Mapping[str, Any]
Read = Callable[[Result], float]
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
        wanted = f"{sign} {self.wanted:,g}{self.unit}"
        verdict = "met" if self.met else "**missed**"
        return f"| {self.text} | {wanted} | {self.found.text(self.digits)}{self.unit} | {verdict} |"


class Figures:
    """What gave figures: a result is one server in one round."""

    def __init__(self, content: Content) -> None:
        self._results: dict[tuple[str, str, int], Result] = {
            (result["model"], result["server"], result["round"]): result for result in content["results"]
        }

    def rounds(self, model: str, server: str) -> list[int]:
        """The rounds in which a server was measured."""
        return [
            number
            for (m, s, number), result in self._results.items()
            if (m, s) == (model, server) and "error" not in result
        ]

    def errors(self) -> list[str]:
        """What could not be measured, and why."""
        return [
            f"{server}, {model} model, round {number + 1}: {result['error']}"
            for (model, server, number), result in self._results.items()
            if "error" in result
        ]

    def spread(self, model: str, server: str, read: Read) -> Spread:
        """A figure of a server."""
        return Spread([read(self._results[model, server, number]) for number in self.rounds(model, server)])

    def open(self, model: str, server: str, read: Read) -> Spread:
        """A figure of its open loops, in the rounds that have them."""
        results = (self._results[model, server, number] for number in self.rounds(model, server))
        return Spread([read(result) for result in results if "open" in result])

    def cold(self, model: str, server: str) -> Spread:
        """Seconds from the command to the first right answer, in the rounds before which it was started."""
        results = (self._results[model, server, number] for number in self.rounds(model, server))
        return Spread([float(result["cold_seconds"]) for result in results if "cold_seconds" in result])

    def ratio(
        self, model: str, server: str, read: Read, others: Sequence[str], of: Read, best: Callable[..., float] = max
    ) -> Spread:
        """A figure of a server divided by the best that others have of theirs in the same round, seconds apart."""
        values = []
        for number in self.rounds(model, server):
            against = [
                of(self._results[model, other, number]) for other in others if number in self.rounds(model, other)
            ]
            if against and best(against):
                values.append(read(self._results[model, server, number]) / best(against))
        return Spread(values)


def rate(connections: int) -> Read:
    return lambda result: float(result["closed"][str(connections)]["goodput"])


def latency(connections: int, point: str) -> Read:
    return lambda result: float(result["closed"][str(connections)]["accepted"].get(point, float("inf")))


def health(connections: int, point: str) -> Read:
    return lambda result: float(result["closed"][str(connections)]["health"].get(point, float("inf")))


def cpu(result: Result) -> float:
    """Processor time of all the server's processes for a request at 64 connections, in microseconds."""
    loop = result["closed"]["64"]
    return 1e6 * float(loop["server_cpu_seconds"]) / max(float(loop["accepted"]["count"]), 1e-9)


def open_loop(factor: str, *path: str) -> Read:
    def read(result: Result) -> float:
        value: Any = result.get("open", {}).get(factor, {})
        for name in path:
            value = value.get(name, {}) if isinstance(value, dict) else value
        return float(value) if isinstance(value, int | float) else float("inf")

    return read


def kept(factor: str) -> Read:
    """Goodput under an open loop as a share of the best that a closed loop reached in the same round."""
    return lambda result: open_loop(factor, "goodput")(result) / max(*(rate(n)(result) for n in (1, 16, 64)), 1e-9)


def faults(result: Result) -> float:
    """Answers in the closed loops that are no 200, and connections that broke."""
    each = result["closed"].values()
    return float(sum(sum(loop["statuses"].values()) - loop["statuses"].get("200", 0) + loop["broken"] for loop in each))


def rows(size: str) -> Read:
    return lambda result: float(result["rows_per_second"][size])


def bare(result: Result) -> float:
    """The best rows per second over the sizes of a call."""
    return float(max(result["rows_per_second"].values()))


def targets(figures: Figures) -> list[Target]:
    """What the server is held to."""
    packaged = [server.name for server in SERVERS if server.packaged]
    ours, light = "ours-tensorflow", "ours-litert"
    found = [
        Target(
            "small, 64 connections: requests/s, against the best packaged server",
            figures.ratio("small", ours, rate(64), packaged, rate(64)),
            *(8, True, " x"),
        ),
        Target(
            "small, 64 connections: requests/s, against the hand-written batcher on FastAPI",
            figures.ratio("small", ours, rate(64), ["fastapi-batched"], rate(64)),
            *(1.7, True, " x"),
        ),
        Target(
            "small, 1 connection: requests/s, against the hand-written batcher on FastAPI",
            figures.ratio("small", ours, rate(1), ["fastapi-batched"], rate(1)),
            *(2, True, " x"),
        ),
        Target(
            "our worker without a model, 64 connections: requests per core-second",
            figures.spread("small", "wsgi-nothing", lambda result: 1e6 / max(cpu(result), 1e-9)),
            *(40_000, True, "", 0),
        ),
        Target(
            "small, 64 connections: p99, against the lowest of the packaged servers",
            figures.ratio("small", ours, latency(64, "p99"), packaged, latency(64, "p99"), min),
            *(0.1, False, " x"),
        ),
        *(
            Target(
                f"medium, {connections} connections: requests/s, against FastAPI with the signature",
                figures.ratio("medium", ours, rate(connections), ["fastapi"], rate(connections)),
                *(2, True, " x"),
            )
            for connections in (16, 64)
        ),
        *(
            Target(
                f"medium, 16 connections: requests/s, against the model without HTTP ({runtime})",
                figures.ratio("medium", f"ours-{runtime}", rate(16), [f"call-{runtime}"], bare),
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
                    figures.open(model, name, open_loop("3", "accepted", "p99")),
                    *(100 if model == "small" else 60, False, " ms", 0),
                ),
                Target(
                    f"{model}, {runtime}: goodput at 3x overload, of capacity",
                    figures.open(model, name, kept("3")),
                    *(0.9 if model == "small" else 0.85, True, " x"),
                ),
                Target(
                    f"{model}, {runtime}: cold start to the first right answer",
                    figures.cold(model, name),
                    *(4 if name == ours else 1, False, " s"),
                ),
            ]
    return [target for target in found if target.found.values]


def text(content: Content) -> str:
    """All tables as Markdown."""
    figures = Figures(content)
    machine, results = content["machine"], content["results"]
    rounds = 1 + max((result["round"] for result in results), default=0)
    seconds = "/".join(f"{each:g}" for each in sorted({result["seconds"] for result in results}))
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['system']}, CPython {machine['python']}; "
        f"{rounds} rounds, turns of {seconds} s, twice that in open loops; median [lowest-highest] over the rounds, of "
        f"ratios as well; code at {', '.join(sorted({result['commit'] for result in results}))}. {_calm(results)}",
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


def _calm(results: Sequence[Result]) -> str:
    """What the machine did besides."""
    turns = [turn for each in results for way in ("closed", "open") for turn in each.get(way, {}).values()]
    if not turns:
        return ""
    core, others = Spread([turn["core_ms"] for turn in turns]), Spread([turn["others"] for turn in turns])
    return (
        f"The same work took the server's core {core.text(1)} ms from turn to turn; other processes had "
        f"{others.text(2)} of a core."
    )


def _tables(figures: Figures, model: str, names: Sequence[str]) -> list[str]:
    closed = [
        "Closed loop: requests/s, and p50 / p99 in ms. CPU: what one request takes with 64 connections, in us, and how",
        "many take a second of one core.",
        "",
        "| server | 1 connection | p50 / p99 | 16 | p50 / p99 | 64 | p50 / p99 | CPU | per core-second "
        "| health p99 / max | not 200 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        cells = [BY_NAME[name].title]
        for connections in (1, 16, 64):
            points = [figures.spread(model, name, latency(connections, p)).middle for p in ("p50", "p99")]
            cells += [figures.spread(model, name, rate(connections)).text(), f"{points[0]:.2f} / {points[1]:.1f}"]
        microseconds = figures.spread(model, name, cpu).middle
        cells += [f"{microseconds:,.0f}", f"{1e6 / max(microseconds, 1e-9):,.0f}"]
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
        if not figures.open(model, name, kept("3")).values:
            continue
        cells = [BY_NAME[name].title]
        for factor in ("0.5", "1", "3"):
            points = [figures.open(model, name, open_loop(factor, "accepted", p)).middle for p in ("p50", "p99")]
            cells += [figures.open(model, name, kept(factor)).text(2), f"{points[0]:.1f} / {points[1]:.0f}"]
        share = figures.open(model, name, _share("refused", "count")).middle
        cells += [f"{share:.0%}", f"{figures.open(model, name, open_loop('3', 'refused', 'p99')).middle:.0f}"]
        cells += [f"{figures.open(model, name, _share('unanswered')).middle:.0%}"]
        cells += [f"{figures.open(model, name, open_loop('3', 'health', 'p99')).middle:.0f}"]
        opened.append(f"| {' | '.join(cells)} |".replace("| inf |", "| - |"))
    rest = [
        "Start; memory of all processes after the closed loops: resident, and in brackets with what they share once.",
        "",
        "| server | cold start, s | memory, MB |",
        "| --- | --- | --- |",
    ]
    for name in names:
        cold = figures.cold(model, name).text(2)
        rss = figures.spread(model, name, lambda result: float(result["loaded"]["rss_mb"])).middle
        once = figures.spread(model, name, lambda result: float(result["loaded"]["once_mb"])).middle
        rest.append(f"| {BY_NAME[name].title} | {cold} | {rss:,.0f} ({once:,.0f}) |")
    return ["\n".join(closed), "\n".join(opened), "\n".join(rest)]


def _share(*path: str) -> Read:
    def read(result: Result) -> float:
        due = open_loop("3", "scheduled")(result)
        return open_loop("3", *path)(result) / due

    return read


def _calls(figures: Figures) -> str:
    sizes = ("1", "2", "4", "8", "16", "32", "64")
    lines = [f"| rows/s in calls of | {' | '.join(sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for model in MODELS:
        for runtime in ("tensorflow", "litert"):
            if figures.rounds(model, f"call-{runtime}"):
                cells = [figures.spread(model, f"call-{runtime}", rows(size)).middle for size in sizes]
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
    """The raw figures, a server in a round a line, and the chart."""
    parts = {name: json.dumps(content[name]) for name in ("machine", "versions")}
    results = ",\n".join(json.dumps(result) for result in content["results"])
    (directory / "results.json").write_text(
        f'{{"machine": {parts["machine"]},\n"versions": {parts["versions"]},\n"results": [\n{results}\n]}}\n'
    )
    (directory / "chart.svg").write_text(chart(content))


def keep(content: Content) -> None:
    """Write the figures beside this file, and put the tables into README.md."""
    write(content, HERE)
    readme = HERE / "README.md"
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    readme.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text(content)}\n\n{END}", readme.read_text()))
