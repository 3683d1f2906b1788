"""What a model must reach: the tables [gate.METRIC] of service.toml, by which gate and ghost verdict judge alike.

    [gate.macro_f1]
    minimum = 0.85              # or maximum, of a metric where lower is better
    maximum_regression = 0.01   # how much of it may be lost against the model in production

    [gate.recall.fraud]         # precision, recall, f1, roc_auc and average_precision also of one class;
    minimum = 0.7               # [gate.recall], without a class, is about each of them

    [gate.mean_absolute_error]  # of a number, in its unit
    maximum = 2500

    [gate.digit.accuracy]       # of the target `digit`, where the model has several; [gate.digit.recall.3] of a class
    minimum = 0.9

    [gate]
    absent_labels = ["owl"]     # labels of the model that the data does not have yet; of several targets "digit.7"
    cost_of_miss = 50           # of two classes: what missing one of the second costs, in false alarms

The environment overrides a table: GATE_MACRO_F1_MINIMUM.
"""

import difflib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlplatform.config.settings import SettingsError, read_section, settings_file
from mlplatform.contract.metrics import METRICS, SAME, Metric, split_name

log = logging.getLogger(__name__)

BOUNDS = ("minimum", "maximum", "maximum_regression")
SETTINGS = ("absent_labels", "cost_of_miss")


@dataclass(frozen=True)
class Criterion:
    """A row of the gate's tables. metric: `accuracy`, `recall.fraud`, or `recall` for each class; None: not asked.

    target: of which of several; empty for the only one.
    """

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    maximum_regression: float | None = None
    target: str = ""

    @property
    def name(self) -> str:
        """The metric, of several targets behind its target: `digit.accuracy`."""
        return f"{self.target}.{self.metric}" if self.target else self.metric

    @property
    def table(self) -> str:
        """Its table in service.toml."""
        return f"gate.{self.name}"

    @property
    def facts(self) -> Metric:
        """The metric without its class."""
        return METRICS[split_name(self.metric)[0]]

    @property
    def of_each_class(self) -> bool:
        """Whether it is about every class by itself."""
        return not self.facts.whole and "." not in self.metric

    @property
    def asks_nothing(self) -> bool:
        """Whether every model reaches what is asked, by intent: minimum = 0."""
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        return bool(bounds) and all(bound == self.facts.worst for bound in bounds)


DEFAULT = Criterion("accuracy", minimum=0.9, maximum_regression=0.01)


@dataclass(frozen=True)
class Criteria:
    """All that is asked of a model. rows: the tables, at least one. absent_labels: labels that data may lack.

    cost_of_miss: of two classes, what missing one of the second costs, in false alarms; for the report's threshold.
    by_default: whether there are no tables, so that the target's own default holds.
    """

    rows: tuple[Criterion, ...] = (DEFAULT,)
    absent_labels: tuple[str, ...] = ()
    cost_of_miss: float | None = None
    by_default: bool = False

    @property
    def asks_nothing(self) -> bool:
        """Whether any model will do, also one that always says the same: each table says so by minimum = 0."""
        return all(row.asks_nothing for row in self.rows)

    @property
    def judged(self) -> tuple[Criterion, ...]:
        """The rows about a single figure, whose loss against production is limited."""
        return tuple(row for row in self.rows if row.maximum_regression is not None and not row.of_each_class)

    def margin(self, metric: str) -> float | None:
        """maximum_regression of a metric."""
        return next((row.maximum_regression for row in self.rows if row.metric == metric), None)

    def of(self, target: str) -> "Criteria":
        """The criteria of one of several targets; its default, if it has no table."""
        rows = tuple(row for row in self.rows if row.target == target)
        start = f"{target}."
        absent = tuple(label.removeprefix(start) for label in self.absent_labels if label.startswith(start))
        return replace(self, rows=rows or (DEFAULT,), absent_labels=absent, by_default=not rows)

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `criteria` by metric, without what is not asked, and the settings of [gate]."""
        return {
            "criteria": {
                row.name: {
                    name: bound for name in BOUNDS if (bound := getattr(row, name)) is not None and math.isfinite(bound)
                }
                for row in self.rows
            },
            "absent_labels": list(self.absent_labels),
            "cost_of_miss": self.cost_of_miss,
        }


def load_criteria() -> Criteria:
    """The tables of service.toml and of the environment; without any, that of DEFAULT until the target is known.

    Raises SettingsError with a line for each fault.
    """
    content = read_section("gate")
    faults: list[str] = []
    rows = {row.name: row for row in _all_rows(content, faults)}
    for name, bound, given in _environment(faults, rows):
        before = rows.get(name) or Criterion(name)
        _checked(f"environment variable {given[0]} = {given[1]!r}", before, {bound: given[1]}, faults, rows)
    absent = content.get("absent_labels", [])
    if not isinstance(absent, list) or not all(isinstance(label, str) for label in absent):
        faults.append(f'gate.absent_labels = {absent!r} ({settings_file()}): it must be a list of labels, ["owl"]')
        absent = []
    cost = content.get("cost_of_miss")
    if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 < cost < math.inf):
        faults.append(f"gate.cost_of_miss = {cost!r} ({settings_file()}): it must be a number above 0")
    if faults:
        raise SettingsError("\n".join(faults))
    return Criteria(tuple(rows.values()) or (DEFAULT,), tuple(absent), cost, by_default=not rows)


def with_former(criteria: Criteria, section: str, former: Mapping[str, tuple[str, float | None]]) -> Criteria:
    """The criteria with bounds of accuracy that are given where they stood before there were tables, with a warning.

    former: by bound its old name in a section, and its value, None if it is not given.
    """
    rows = {row.metric: row for row in criteria.rows}
    given = any(value is not None for _, value in former.values())
    for bound, (name, value) in former.items():
        if value is not None:
            log.warning(
                "%s of [%s] is %s of [gate.accuracy] now, and taken as that; change it there", name, section, bound
            )
            rows["accuracy"] = _with(rows.get("accuracy", Criterion("accuracy")), {bound: value})
    return replace(criteria, rows=tuple(rows.values()), by_default=criteria.by_default and not given)


def _all_rows(content: Mapping[str, Any], faults: list[str]) -> Iterator[Criterion]:
    """The tables of the section [gate], with those of several targets, each within a table that has its name."""
    targets = {
        given: table for given, table in content.items() if given not in SETTINGS and _is_of_target(given, table)
    }
    yield from _rows({given: table for given, table in content.items() if given not in targets}, faults)
    for target, tables in targets.items():
        yield from _rows(tables, faults, target)


def _is_of_target(given: str, table: Any) -> bool:
    """Whether a table of [gate] holds those of a target: it is no metric, and holds tables of metrics alone."""
    if not isinstance(table, dict) or not table or SAME.get(given.lower(), given) in METRICS:
        return False
    return all(isinstance(inner, dict) for inner in table.values()) and any(
        SAME.get(name.lower(), name) in METRICS for name in table
    )


def _rows(content: Mapping[str, Any], faults: list[str], target: str = "") -> Iterator[Criterion]:
    """The tables of a section [gate], or of a target in it, with those of single classes."""
    within = f"gate.{target}" if target else "gate"
    for given, table in content.items():
        if given in SETTINGS and not target:
            continue
        place = f"[{within}.{given}] ({settings_file()})"
        name = _name(given, place, faults)
        if not name:
            continue
        if not isinstance(table, dict):
            faults.append(f"{within}.{given} = {table!r} ({settings_file()}): it must be a table, [{within}.{given}]")
            continue
        rows: dict[str, Criterion] = {}
        bounds = {key: value for key, value in table.items() if not isinstance(value, dict)}
        if bounds or not table:
            _checked(place, Criterion(name, target=target), bounds, faults, rows)
        for label, values in table.items():
            if not isinstance(values, dict):
                continue
            if not METRICS[name].of_class:
                faults.append(
                    f"[{within}.{given}.{label}]: {name} is of all classes together; there is [{within}.{name}]"
                )
            else:
                row = Criterion(f"{name}.{label}", target=target)
                _checked(f"[{within}.{given}.{label}]", row, values, faults, rows)
        yield from rows.values()


def _checked(
    place: str, row: Criterion, bounds: Mapping[str, Any], faults: list[str], rows: dict[str, Criterion]
) -> None:
    """Add a row with these bounds, or what is wrong with them."""
    higher = row.facts.higher_is_better
    wrong, right = ("maximum", "minimum") if higher else ("minimum", "maximum")
    if not bounds:
        faults.append(f"{place}: it asks for nothing; give it {right} or maximum_regression")
    found = []
    for name, value in bounds.items():
        if name not in BOUNDS:
            found.append(f"{place}: {name} is none of {right}, maximum_regression")
        elif isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            found.append(f"{place}: {name} = {value!r} must be a number")
        elif name == wrong:
            found.append(f"{place}: of {row.metric} {'more' if higher else 'less'} is better; ask for a {right}")
        elif name == "maximum_regression" and value < 0:
            found.append(f"{place}: {name} = {value!r} must be 0 or more")
        elif name == right and higher and not row.facts.worst <= value <= 1:
            found.append(f"{place}: {name} = {value!r} must be between {row.facts.worst:g} and 1")
    faults += found
    if not found and bounds:
        rows[row.name] = _with(row, bounds)


def _with(row: Criterion, bounds: Mapping[str, Any]) -> Criterion:
    return replace(row, **{name: float(value) for name, value in bounds.items()})  # type: ignore[arg-type]


def _name(given: str, place: str, faults: list[str]) -> str:
    """The metric that a name means, or nothing and a fault."""
    name = SAME.get(given.lower(), given)
    if name in METRICS:
        return name
    near = difflib.get_close_matches(name, [*METRICS, *SAME], 1)
    known = f"did you mean {near[0]}?" if near else f"there are: {', '.join(METRICS)}"
    faults.append(f"{place}: no such metric; {known}")
    return ""


def _environment(faults: list[str], rows: Mapping[str, Criterion]) -> Iterator[tuple[str, str, tuple[str, Any]]]:
    """Metric, bound, and variable with value, of GATE_<METRIC>_<BOUND>; other variables are not ours.

    rows: the tables; of several targets GATE_<TARGET>_<METRIC>_<BOUND> is about one that is there.
    """
    of_targets = {name.replace(".", "_").lower(): name for name, row in rows.items() if row.target}
    for variable, text in sorted(os.environ.items()):
        ending = next((b for b in reversed(BOUNDS) if variable.endswith(f"_{b.upper()}")), None)
        if not variable.startswith("GATE_") or ending is None or not text:
            continue
        given = variable.removeprefix("GATE_").removesuffix(f"_{ending.upper()}").lower()
        name = of_targets.get(given) or _name(given, f"environment variable {variable}", faults)
        if name:
            try:
                yield name, ending, (variable, float(text))
            except ValueError:
                yield name, ending, (variable, text)
