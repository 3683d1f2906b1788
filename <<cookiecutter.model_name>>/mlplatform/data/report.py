"""The report of a dataset version: a page of HTML that needs nothing but a browser, and a page in the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mlplatform.contract.drift import describe as in_words
from mlplatform.data.catalog import Dataset
from mlplatform.data.columns import Array
from mlplatform.data.dataset import SPLITS
from mlplatform.data.distributions import Production, describe, distances
from mlplatform.data.findings import Finding, scalar_features
from mlplatform.data.label_errors import LabelErrors
from mlplatform.data.pictures import as_text, is_picture, png, url
from mlplatform.reporting import charts, page

Described = list[dict[str, Any]]

TEMPLATE = Path(__file__).with_name("report_template.html")

SHOWN_EXAMPLES = 24
SHOWN_ERRORS = 10
SHOWN_CLASSES = 20
SHOWN_FEATURES = 60
SHOWN_VALUES = 3
BINS = 20


@dataclass(frozen=True)
class Drift:
    """How far the inputs of the train split have moved. against: from what, for a person.

    rows: an input's name, and its PSI against each, in words as well; empty where the other has no such input.
    """

    against: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


NO_DRIFT = Drift()


def render(
    dataset: Dataset,
    findings: Sequence[Finding],
    described: Described,
    service: str,
    drift: Drift = NO_DRIFT,
    wrong: LabelErrors | None = None,
) -> str:
    """The page. described: the `features`.

    wrong: labels that are probably wrong, if a model was trained on the version.
    """
    return page.render(
        TEMPLATE,
        service=service,
        version=dataset.version,
        splits=dataset.split_sizes(),
        total=len(dataset),
        findings=findings,
        drift=drift,
        balance=balance(dataset),
        features=described,
        examples=[_shown(dataset, row) for row in chosen(dataset, SHOWN_EXAMPLES)],
        wrong=wrong,
        suspects=[{**_shown(dataset, e.row), "error": e} for e in (wrong.errors[:SHOWN_EXAMPLES] if wrong else ())],
        pictures=any(is_picture(spec) or spec.media_type.startswith("image/") for spec in dataset.inputs),
        duplicates=dataset.version.properties["duplicates"],
        records=dataset.version.properties.get("records"),
    )


def as_page_of_text(
    dataset: Dataset,
    findings: Sequence[Finding],
    described: Described,
    drift: Drift = NO_DRIFT,
    wrong: LabelErrors | None = None,
) -> str:
    """What the page says first, for a terminal."""
    splits = ", ".join(f"{size} {name}" for name, size in dataset.split_sizes().items())
    lines = [f"dataset {dataset.version.id}, {len(dataset)} examples: {splits}", ""]
    lines += [f"{len(findings)} findings" if findings else "nothing to look at was found"]
    for finding in findings:
        lines.append(f"  {finding.kind}: {finding.message}")
        if finding.ids:
            more = f" and {finding.count - len(finding.ids)} more" if finding.count > len(finding.ids) else ""
            lines.append(f"    ids: {', '.join(finding.ids)}{more}")
    if wrong is not None:
        lines += ["", f"{len(wrong.errors)} labels of {wrong.examples} are probably wrong, as run {wrong.run} says"]
        lines += [
            f"  {error.id}: is {error.label} ({page.as_percent(error.probability_of_label)}), "
            f"says {error.suggested} ({page.as_percent(error.probability)})"
            for error in wrong.errors[:SHOWN_ERRORS]
        ]
    if rows_of_classes := balance(dataset):
        lines += ["", columns([("class", *SPLITS), *((row["name"], *row["counts"]) for row in rows_of_classes)])]
    if described:
        head = ("input", "minimum", "median", "maximum", "distinct", "missing", "most frequent")
        names = ("name", "minimum", "median", "maximum", "distinct", "missing", "frequent")
        rows = [tuple(feature[name] for name in names) for feature in described]
        lines += ["", columns([head, *rows])]
    if drift.against:
        lines += ["", columns([("PSI against", *drift.against), *((name, *said) for name, *said in drift.rows)])]
    return "\n".join(lines)


def drift(dataset: Dataset, previous: Dataset | None, production: Production | None) -> Drift:
    """Against the version before and the model in production, where there are such."""
    described: dict[str, Mapping[str, Any]] = {}
    if previous is not None:
        described[f"version {previous.version.id}"] = describe(previous.split("train"), previous.inputs)
    if production is not None:
        described[f"{production.version}, in production"] = production.baseline
    train = dataset.split("train")
    found = [distances(train, dataset.inputs, each) for each in described.values()]
    names = list(dict.fromkeys(name for each in found for name in each))[:SHOWN_FEATURES]
    said = [tuple(_in_words(each[name]) if name in each else "" for each in found) for name in names]
    return Drift(tuple(described) if names else (), tuple((name, *row) for name, row in zip(names, said, strict=True)))


def _in_words(value: float) -> str:
    return f"{value:.3f} {in_words(value)}"


def balance(dataset: Dataset) -> list[dict[str, Any]]:
    """Per class its examples in each split and their shares; of many classes the most and the least frequent ones."""
    splits: Mapping[str, Any] = dataset.version.properties["splits"]
    sizes = dataset.split_sizes()
    rows = [
        {
            "name": label,
            "counts": [splits[split]["classes"][label] for split in SPLITS],
            "shares": [splits[split]["classes"][label] / max(1, sizes[split]) for split in SPLITS],
        }
        for label in splits["train"].get("classes", ())
    ]
    if len(rows) <= SHOWN_CLASSES:
        return rows
    rows.sort(key=lambda row: -sum(row["counts"]))
    return rows[: SHOWN_CLASSES // 2] + rows[-SHOWN_CLASSES // 2 :]


def features(dataset: Dataset) -> Described:
    """Per single number or text its figures as text; with a histogram, train beside the others, for numbers."""
    train = dataset.splits() == 0
    described: Described = []
    for name, values in scalar_features(dataset):
        if len(described) == SHOWN_FEATURES or not len(values):
            break
        text = values.dtype == object
        sizes = np.array([len(value) for value in values]) if text else values.astype(np.float64)
        there = ~np.isnan(sizes)
        missing = len(sizes) - int(there.sum())
        counts = Counter(values[there].tolist())
        most = counts.most_common(SHOWN_VALUES)
        frequent = ", ".join(f"{as_text(value)} ({100 * count / len(values):.0f} %)" for value, count in most)
        figures = np.quantile(sizes[there], [0, 0.5, 1]).tolist() if there.any() else [np.nan] * 3
        low, middle, high = map(page.as_input, figures)
        unit = " bytes" if text else ""
        described.append(
            {
                "name": name,
                "minimum": low + unit,
                "median": middle + unit,
                "maximum": high + unit,
                "distinct": f"{len(counts):,}",
                "missing": f"{missing:,} ({100 * missing / len(values):.0f} %)" if missing else "",
                "frequent": frequent if most and most[0][1] > 1 else "",
                "chart": _histogram(f"length of {name}" if text else name, sizes, train),
            }
        )
    return described


def chosen(dataset: Dataset, count: int) -> list[int]:
    """Indices of examples to look at: as many of each class as of the others, in turn; each run shows the same."""
    labels = dataset.column("label")
    if not dataset.labels:
        # By their values, from the lowest to the highest.
        places = np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(np.int64)
        ordered: list[int] = np.argsort(labels.reshape(len(labels), -1)[:, 0])[places].tolist()
        return ordered
    rows = [np.flatnonzero(labels == label).tolist()[: count + 1] for label in np.unique(labels)]
    picked: list[int] = []
    for turn in range(count):
        picked += [members[turn] for members in rows if turn < len(members)]
        if len(picked) >= count:
            break
    return picked[:count]


def _histogram(name: str, values: Array, train: Array) -> Markup:
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        return Markup("")
    edges = np.histogram_bin_edges(finite, BINS)
    there = np.isfinite(values)
    masks = (train & there, ~train & there)
    shares = [np.histogram(values[mask], edges)[0] / max(1, int(mask.sum())) for mask in masks]
    return charts.histograms(name, edges.tolist(), shares[0].tolist(), shares[1].tolist())


def _shown(dataset: Dataset, row: int) -> dict[str, Any]:
    at = np.array([row])
    statistics = dataset.version.properties["splits"]["train"]["inputs"]
    shown: dict[str, Any] = {
        "id": dataset.column("id", at)[0].decode(),
        "label": dataset.truth(row),
        "split": SPLITS[int(dataset.splits()[row])],
        "pictures": [],
        "values": [],
    }
    for spec in dataset.inputs:
        value = dataset.value(spec, row)
        if is_picture(spec):
            there = np.nan_to_num(value)
            known = statistics.get(spec.name) or {"minimum": float(there.min()), "maximum": float(there.max())}
            shown["pictures"].append((spec.name, png(value, known["minimum"], known["maximum"])))
        elif spec.media_type and not spec.shape and (shown_as := url(value, spec.media_type)):
            shown["pictures"].append((spec.name, shown_as))
        else:
            shown["values"].append((spec.name, as_text(value)))
    return shown


def columns(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells as text, one below the other; what is wide is cut off."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [min(40, max(len(row[i]) for row in texts)) for i in range(len(texts[0]))]
    lines = ["  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)) for row in texts]
    return "\n".join(line.rstrip() for line in lines)
