"""The report on a run: one self-contained HTML file, which is the model card of a published model.

report_template.html is the same for every model; each kind of target fills its blocks, and report_several.html fills
them with those of several.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from markupsafe import Markup
from numpy.typing import NDArray

from mlplatform.contract.criteria import Criterion
from mlplatform.contract.gate import figure
from mlplatform.contract.metrics import METRICS, split_name
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import SPLITS, Split
from mlplatform.data.pictures import bytes_as_text, is_picture, url
from mlplatform.reporting import charts, page
from mlplatform.reporting.page import as_number
from mlplatform.training import report_classes, report_number, report_tags, report_vector
from mlplatform.training.findings import Findings, Mistake

KINDS: Mapping[str, ModuleType] = {
    "classes": report_classes,
    "number": report_number,
    "ordinal": report_classes,
    "tags": report_tags,
    "vector": report_vector,
}
"""By kind of target a module with a TEMPLATE, `mistakes(rows, count)` and `values(findings)` for the template."""

SEVERAL = "report_several.html"
MISTAKES = 12
# Pixels along the longer side of a picture: twelve of noise are 0.5 MB. Smaller ones are enlarged by the browser.
PICTURE = 96
# Values shown of an input that is neither a picture nor a single value, inputs shown of an example, letters of a text.
SHOWN_VALUES = 8
SHOWN_INPUTS = 24
SHOWN_TEXT = 600


def collect_mistakes(target: Target, test: Split, rows: Any) -> list[Mistake]:
    """The worst predictions for the test split. rows: of the target, of the whole split."""
    if len(target.parts) > 1:
        several = zip(target.parts, rows.of, strict=True)
        return [
            replace(mistake, target=part.name) for part, own in several for mistake in collect_mistakes(part, test, own)
        ]
    worst = KINDS[target.kind].mistakes(rows, MISTAKES)
    indices = np.array([prediction.row for prediction in worst], np.int64)
    inputs = {name: test.rows(name, indices) for name in test.inputs}
    ids = test.column("id", indices)
    return [
        Mistake(_text(ids[n]), prediction, {name: rows[n] for name, rows in inputs.items()})
        for n, prediction in enumerate(worst)
    ]


def render(findings: Findings) -> str:
    """The page."""
    if len(findings.schema.target.parts) > 1:
        return _render_several(findings)
    kind = KINDS[findings.schema.target.kind]
    values = {**_values_of_all(findings), "asked": _asked(findings), **kind.values(findings)}
    return page.render(Path(__file__).with_name(kind.TEMPLATE), **values)


def _render_several(findings: Findings) -> str:
    """The page about several targets, each with the blocks that it would have alone."""
    parts = []
    for of in findings.of_targets():
        kind = KINDS[of.schema.target.kind]
        values = {**_values_of_all(of), "asked": _asked(of), **kind.values(of)}
        block = page.blocks(Path(__file__).with_name(kind.TEMPLATE), **values)
        parts.append({**values, "name": of.schema.target.name, "block": block})
    asked = [row for part in parts for row in part["asked"]]
    compared = any(part["comparison"] for part in parts)
    template = Path(__file__).with_name(SEVERAL)
    return page.render(template, **_values_of_all(findings), asked=asked, comparison=compared, parts=parts)


def _values_of_all(findings: Findings) -> dict[str, Any]:
    """What the template shows of every model."""
    return {
        "findings": findings,
        "service": findings.service,
        "metrics": findings.metrics,
        "verdict": findings.verdict,
        "compared": findings.compared,
        "curves": _curves(findings.history),
        "totals": {name: findings.dataset.properties["splits"][name]["examples"] for name in SPLITS},
        "inputs": _inputs(findings),
        "mistakes": [_shown(mistake, findings) for mistake in findings.mistakes],
    }


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """A chart per metric, the loss first; `best`: the epoch with the lowest validation loss."""
    names = list(dict.fromkeys(name.removeprefix("val_") for epoch in history for name in epoch))
    names.sort(key=lambda name: ("loss", "accuracy").index(name) if name in ("loss", "accuracy") else 2)
    losses = [epoch.get("val_loss", float("nan")) for epoch in history]
    best = int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else None
    drawn = []
    for name in names:
        train = [epoch.get(name) for epoch in history] if any(name in epoch for epoch in history) else []
        held_out = [epoch.get(f"val_{name}") for epoch in history]
        validation = held_out if any(value is not None for value in held_out) else []
        drawn.append({"name": name, "chart": charts.lines(name, train, validation, best)})
    return {"charts": drawn, "epochs": len(history), "best": best, "best_loss": losses[best - 1] if best else None}


def _asked(findings: Findings) -> list[dict[str, str]]:
    """The gate's tables: what each asks for, the model's figure, production's, and how much may be lost."""
    criteria, compared = findings.verdict.criteria, findings.compared
    rows = []
    for row in criteria.rows:
        bound = row.minimum if row.minimum is not None else row.maximum
        value, label = _value(findings.metrics, row)
        production, label_of_production = _value(compared.metrics, row) if compared else ("", "")
        least = "at least" if row.facts.higher_is_better else "at most"
        rows.append(
            {
                "metric": f"{row.name} of each class" if row.of_each_class else row.name,
                "asked": "" if bound is None or not math.isfinite(bound) else f"{least} {_figure(row.metric, bound)}",
                "value": value,
                "label": label,
                "production": production,
                "label_of_production": label_of_production,
                "margin": "" if row.maximum_regression is None else _figure(row.metric, row.maximum_regression),
            }
        )
    return rows


def _value(metrics: Mapping[str, Any], row: Criterion) -> tuple[str, str]:
    """A figure of the gate's tables, and its class; of each class that of the class that has the worst."""
    if not row.of_each_class:
        found = figure(metrics, row.metric)
        return "\N{EN DASH}" if found is None else _figure(row.metric, found), ""
    of_classes = {label: figure(metrics, f"{row.metric}.{label}") for label in metrics["classes"]}
    known = {label: found for label, found in of_classes.items() if found is not None}
    worst = min(known, key=lambda label: known[label])
    return _figure(row.metric, known[worst]), worst


def _figure(metric: str, value: float) -> str:
    """Metrics that are shares in per cent, others as numbers."""
    facts = METRICS[split_name(metric)[0]]
    return page.as_percent(value) if facts.higher_is_better and facts.worst == 0 else as_number(value)


def _inputs(findings: Findings) -> list[dict[str, Any]]:
    """Name, dtype, shape and, if it is numeric, the statistics of each input over the train split."""
    statistics = findings.dataset.properties["splits"]["train"].get("inputs", {})
    return [
        {
            **spec.to_json(),
            "shape": ["any" if size is None else size for size in spec.shape],
            "statistics": statistics.get(spec.name),
        }
        for spec in findings.schema.inputs
    ]


def _shown(mistake: Mistake, findings: Findings) -> dict[str, Any]:
    """A mistake as the page shows it: pictures, texts, and rows of values."""
    statistics = findings.dataset.properties["splits"]["train"].get("inputs", {})
    pictures, texts, numbers = [], [], []
    for spec in findings.schema.inputs:
        array = mistake.inputs[spec.name]
        if is_picture(spec):
            small = max(spec.sizes[:2]) <= PICTURE
            pictures.append({"name": spec.name, "url": picture(array, statistics.get(spec.name)), "small": small})
        elif spec.media_type and not spec.shape and (shown_as := url(bytes(array), spec.media_type)):
            pictures.append({"name": spec.name, "url": shown_as, "small": False})
        elif spec.dtype == "string":
            text = " · ".join(_text(value) for value in np.atleast_1d(array).ravel()[:SHOWN_VALUES])
            texts.append({"name": spec.name, "text": text[:SHOWN_TEXT] + ("…" if len(text) > SHOWN_TEXT else "")})
        else:
            numbers.append({"name": spec.name, **_values(array, statistics.get(spec.name))})
    return {
        "mistake": mistake,
        "pictures": pictures,
        "texts": texts,
        "numbers": numbers[:SHOWN_INPUTS],
        "more": max(0, len(numbers) - SHOWN_INPUTS),
    }


def picture(array: NDArray[Any], statistics: Mapping[str, float] | None) -> Markup:
    """An array (h, w), (h, w, 1) or (h, w, 3) as the data URL of a PNG.

    The minimum of the train split, or without statistics of the array, is black, the maximum white.
    """
    values = np.nan_to_num(array.astype(np.float32)).reshape(*array.shape[:2], -1)
    known = statistics or {}
    low, high = (
        known.get(name, float(bound)) for name, bound in (("minimum", values.min()), ("maximum", values.max()))
    )
    scale = PICTURE / max(values.shape[:2])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in values.shape[:2]]
        values = tf.image.resize(values, size, method="area").numpy()
    levels = np.clip((values - low) / ((high - low) or 1) * 255, 0, 255).round().astype(np.uint8)
    png = base64.b64encode(tf.io.encode_png(levels).numpy()).decode()
    return Markup("data:image/png;base64,") + png


def _values(array: NDArray[Any], statistics: Mapping[str, float] | None) -> dict[str, Any]:
    """Numbers as text; of a single one also its place between the train split's minimum and maximum, in per cent, and
    whether it lies beyond them.
    """
    if array.ndim:
        flat = array.ravel()
        text = ", ".join(page.as_input(float(value)) for value in flat[:SHOWN_VALUES])
        text = f"{text}, … ({flat.size} values)" if flat.size > SHOWN_VALUES else text
        return {"text": text, "single": False, "place": None, "beyond": False}
    value = float(array)
    place, beyond = None, False
    if statistics and statistics["maximum"] > statistics["minimum"] and not math.isnan(value):
        share = (value - statistics["minimum"]) / (statistics["maximum"] - statistics["minimum"])
        place, beyond = round(100 * min(1.0, max(0.0, share)), 1), not 0 <= share <= 1
    return {"text": page.as_input(value), "single": True, "place": place, "beyond": beyond}


def _text(value: Any) -> str:
    return bytes_as_text(value) if isinstance(value, bytes) else str(value)
