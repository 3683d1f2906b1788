"""What a person should look at in a dataset version before a model learns from it.

Each function names one kind of fault by the ids of the examples that show it. They read the examples, not the sources:
what was left out of a version is in the list of problems that `gather` writes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.drift import BINS as BASELINE_BINS
from mlplatform.contract.drift import SHIFTED, histogram, psi_of
from mlplatform.data.catalog import Dataset
from mlplatform.data.columns import Array
from mlplatform.data.dataset import SPLITS
from mlplatform.data.distributions import Production, distances
from mlplatform.data.likeness import Likeness
from mlplatform.data.settings import KINDS
from mlplatform.data.writing import hash_inputs

# Kinds that compare whole examples, and those that go through single values.
HASHED = frozenset(("contradiction", "across splits", "repetition"))
FEATURED = frozenset(("leak", "constant", "changed unit", "outlier"))
# Ids that a finding names; all are counted.
SHOWN_IDS = 10
# Mean recall over the classes from which an input alone is said to tell the label.
LEAK_RECALL = 0.98
BINS = 64
# Ratios of units that are mixed up: tens, time, length, weight.
UNITS = (10, 100, 1000, 1e6, 60, 3600, 24, 12, 2.54, 25.4, 3.2808, 1.6093, 2.2046)
UNIT_TOLERANCE = 0.15
# Share of the values on either side of a gap that makes two units of it, and the gap in powers of ten.
UNIT_SHARE = 0.05
UNIT_GAP = 0.3
# Difference of shares from which what is missing, or a label, has become more or less frequent.
DRIFT = 0.1
# How many times the PSI that few examples make on the average, without any change, is no chance any more.
CHANCE = 3
# Interquartile ranges from the median beyond which a value is an outlier, if so few are.
FAR = 20
FAR_SHARE = 0.01


@dataclass(frozen=True)
class Finding:
    """One thing to look at. kind: a word or two; message: a sentence without a full stop; ids: the first of them."""

    kind: str
    message: str
    count: int
    ids: tuple[str, ...] = ()


def all_findings(
    dataset: Dataset,
    previous: Dataset | None = None,
    kinds: Collection[str] = KINDS,
    production: Production | None = None,
) -> list[Finding]:
    """Findings of these kinds, the worst first. What only others need is not computed.

    previous, production: what drift is against; None: against nothing.
    """
    hashes = _hashes(dataset) if HASHED.intersection(kinds) else np.empty(0, np.uint64)
    features = list(scalar_features(dataset)) if FEATURED.intersection(kinds) else []
    look: Mapping[str, Callable[[], Iterable[Finding]]] = {
        "missing class": lambda: missing_classes(dataset),
        "contradiction": lambda: contradictions(dataset, hashes),
        "leak": lambda: leaks(dataset, features),
        "group across splits": lambda: groups_across_splits(dataset),
        "across splits": lambda: [
            *across_splits(dataset, hashes, "the same inputs"),
            *across_splits(dataset, _hashes(dataset, alike=True), "nearly the same inputs", besides=hashes),
        ],
        "repetition": lambda: repetitions(dataset, hashes),
        "constant": lambda: constants(features),
        "changed unit": lambda: changed_units(dataset, features),
        "outlier": lambda: outliers(dataset, features),
        "null": lambda: nulls(dataset),
        "drift": lambda: [
            *(drift(dataset, previous) if previous is not None else ()),
            *(drift_from_production(dataset, production) if production is not None else ()),
        ],
    }
    return [finding for kind in KINDS if kind in kinds for finding in look[kind]()]


def scalar_features(dataset: Dataset) -> Iterator[tuple[str, Array]]:
    """Name and values (n,) of each single number and single text, and of each place of a short row of numbers.

    Of lists of any length these are the lengths.
    """
    for spec in dataset.inputs:
        if spec.length:
            yield f"length of {spec.name}", np.array(list(map(len, dataset.lists(spec))), np.int64)
        elif spec.shape == ():
            yield spec.name, dataset.column(spec.name)
        elif spec.dtype != "string" and len(spec.sizes) == 1 and spec.sizes[0] <= BINS:
            values = dataset.column(spec.name)
            yield from ((f"{spec.name}[{i}]", values[:, i]) for i in range(spec.sizes[0]))


def missing_classes(dataset: Dataset) -> Iterator[Finding]:
    """Labels without an example in a split."""
    for split in SPLITS:
        classes: Mapping[str, int] = dataset.version.properties["splits"][split].get("classes", {})
        missing = [label for label, count in classes.items() if not count]
        if missing:
            yield Finding(
                "missing class", f"the {split} split has no example of {', '.join(missing[:SHOWN_IDS])}", len(missing)
            )


def contradictions(dataset: Dataset, hashes: NDArray[np.uint64]) -> Iterator[Finding]:
    """Examples with the same inputs and different labels."""
    truths = dataset.truths()
    rows = [row for group in _groups(hashes) if len({truths[row] for row in group}) > 1 for row in group.tolist()]
    if rows:
        yield Finding(
            "contradiction",
            f"{len(rows)} examples have the same inputs as one with another label",
            len(rows),
            _ids(dataset, rows),
        )


def repetitions(dataset: Dataset, hashes: NDArray[np.uint64]) -> Iterator[Finding]:
    """Examples with the inputs and the label of another one under another id."""
    truths = dataset.truths()
    rows = [row for group in _groups(hashes) if len({truths[row] for row in group}) == 1 for row in group.tolist()]
    if rows:
        yield Finding(
            "repetition", f"{len(rows)} examples have inputs and label of another id", len(rows), _ids(dataset, rows)
        )


def across_splits(
    dataset: Dataset, hashes: NDArray[np.uint64], what: str, besides: NDArray[np.uint64] | None = None
) -> Iterator[Finding]:
    """Examples outside the train split that look like one inside; `besides`: of those, not if these are the same."""
    splits = dataset.splits()
    rows = []
    for group in _groups(hashes):
        inside = group[splits[group] == 0]
        for row in group[splits[group] != 0].tolist():
            if len(inside) and (besides is None or besides[row] not in besides[inside]):
                rows.append(row)
    if rows:
        yield Finding(
            "across splits",
            f"{len(rows)} examples outside the train split have {what} as one inside, which flatters the metrics; "
            "near_duplicates_together keeps them in one split",
            len(rows),
            _ids(dataset, rows),
        )


def groups_across_splits(dataset: Dataset) -> Iterator[Finding]:
    """Values of a property that is no input, such as a patient, that several examples share, in several splits."""
    splits = dataset.splits()
    members: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for split, properties in zip(splits.tolist(), dataset.metadata(), strict=True):
        for name, value in properties.items():
            if isinstance(value, str | int):
                members[name][str(value)].add(split)
                sizes[name][str(value)] += 1
    for name, values in members.items():
        shared = [value for value in values if sizes[name][value] > 1]
        # Few values for many examples are properties of examples, such as a country, not groups.
        if not shared or len(values) * 100 < len(dataset):
            continue
        torn = [value for value in shared if len(values[value]) > 1]
        if torn:
            yield Finding(
                "group across splits",
                f"{len(torn)} of {len(shared)} values of {name!r} that examples share stand in several splits, such as "
                f"{', '.join(sorted(torn)[:3])}; split by it if they belong together",
                len(torn),
            )


def leaks(dataset: Dataset, features: Sequence[tuple[str, Array]]) -> Iterator[Finding]:
    """Inputs that alone tell the label: learned on the train split, measured on the others."""
    labels, train = dataset.column("label"), dataset.splits() == 0
    if not dataset.labels or len(np.unique(labels[~train])) < 2:
        return
    for name, values in features:
        recall = _recall_alone(values, labels, train, len(dataset.labels))
        if recall >= LEAK_RECALL:
            yield Finding(
                "leak",
                f"{name!r} alone tells the label with a recall of {recall:.3f}, as a copy of the label would",
                len(dataset),
            )


def _recall_alone(values: Array, labels: Array, train: NDArray[np.bool_], classes: int) -> float:
    if values.dtype == object:
        _, codes = np.unique(values.astype(object), return_inverse=True)
        if len(np.unique(codes)) > len(codes) / 2:
            return 0.0
    else:
        numbers, there = values.astype(np.float64), ~_missing(values)
        if not there[train].any():
            return 0.0
        edges = np.unique(np.quantile(numbers[train & there], np.arange(1, BINS) / BINS, method="inverted_cdf"))
        # That a value is missing may tell the label as well.
        codes = np.where(there, np.searchsorted(edges, numbers, side="left"), len(edges) + 1)
    table = np.zeros((int(codes.max()) + 1, classes), np.int64)
    np.add.at(table, (codes[train], labels[train]), 1)
    guesses, others = table.argmax(axis=1)[codes[~train]], labels[~train]
    return float(np.mean([np.mean(guesses[others == label] == label) for label in np.unique(others)]))


def constants(features: Sequence[tuple[str, Array]]) -> Iterator[Finding]:
    """Inputs with one value, or none."""
    for name, values in features:
        if len(values) > 1 and _missing(values).all():
            yield Finding("constant", f"{name!r} is missing in every example", len(values))
        elif len(values) > 1 and np.all(values == values[0]):
            yield Finding("constant", f"{name!r} has the same value in every example", len(values))


def changed_units(dataset: Dataset, features: Sequence[tuple[str, Array]]) -> Iterator[Finding]:
    """Inputs whose values fall into two heaps, one about as far above the other as two units are apart."""
    for name, values in features:
        if values.dtype == object:
            continue
        numbers = values.astype(np.float64)
        rows = np.flatnonzero(numbers > 0)
        if len(rows) < 0.9 * np.count_nonzero(~np.isnan(numbers)) or len(np.unique(numbers[rows])) < 20:
            continue
        order = rows[np.argsort(numbers[rows])]
        powers = np.log10(numbers[order])
        margin = max(1, int(UNIT_SHARE * len(order)))
        gaps = np.diff(powers)[margin - 1 : len(order) - margin]
        if not len(gaps) or gaps.max() < UNIT_GAP:
            continue
        cut = margin + int(gaps.argmax())
        ratio = float(10 ** (np.median(powers[cut:]) - np.median(powers[:cut])))
        unit = min(UNITS, key=lambda factor: abs(np.log(ratio / factor)))
        if abs(ratio / unit - 1) <= UNIT_TOLERANCE:
            yield Finding(
                "changed unit",
                f"{len(order) - cut} values of {name!r} are about {unit:g} times the other {cut}, as in another unit",
                len(order) - cut,
                _ids(dataset, order[cut:].tolist()),
            )


def outliers(dataset: Dataset, features: Sequence[tuple[str, Array]]) -> Iterator[Finding]:
    """Single values far from all others."""
    for name, values in features:
        if values.dtype == object or _missing(values).all():
            continue
        numbers = values.astype(np.float64)
        low, middle, high = np.nanquantile(numbers, [0.25, 0.5, 0.75])
        distance = np.abs(numbers - middle)
        rows = np.flatnonzero(distance > FAR * (high - low)) if high > low else np.empty(0, np.int64)
        if 0 < len(rows) <= FAR_SHARE * len(numbers):
            rows = rows[np.argsort(-distance[rows])]
            yield Finding(
                "outlier",
                f"{len(rows)} values of {name!r} are far from all others, such as {numbers[rows[0]]:g} beside a median "
                f"of {middle:g}",
                len(rows),
                _ids(dataset, rows.tolist()),
            )


def nulls(dataset: Dataset) -> Iterator[Finding]:
    """Inputs of which numbers are missing, and other properties that are null, in some examples."""
    counts: Counter[str] = Counter()
    for properties in dataset.metadata():
        counts.update(name for name, value in properties.items() if value is None)
    for spec in dataset.inputs:
        if spec.nullable and spec.length:
            counts[spec.name] = sum(bool(_missing(value).any()) for value in dataset.lists(spec))
        elif spec.optional and not spec.length:
            values = dataset.column(spec.name)
            gap = spec.missing.encode() if isinstance(spec.missing, str) else spec.missing
            gaps = (_missing(values) if gap is None else values == gap).reshape(len(dataset), -1)
            counts[spec.name] = int(np.count_nonzero(gaps.any(axis=1)))
    for name, count in counts.most_common():
        if count:
            yield Finding("null", f"{name!r} is null in {count} of {len(dataset)} examples", count)


def drift(dataset: Dataset, previous: Dataset) -> Iterator[Finding]:
    """Inputs and labels that are spread otherwise than in another version."""
    before = dict(scalar_features(previous))
    for name, values in scalar_features(dataset):
        if name in before and values.dtype != object and before[name].dtype != object:
            yield from _drift_of_numbers(name, values, before[name], previous.version.id)
    now, then = (_label_shares(version) for version in (dataset, previous))
    for label in sorted(now.keys() | then.keys()):
        if abs(now.get(label, 0) - then.get(label, 0)) > DRIFT:
            yield Finding(
                "drift",
                f"label {label!r} makes {100 * now.get(label, 0):.0f} % of the examples, in {previous.version.id} "
                f"{100 * then.get(label, 0):.0f} %",
                len(dataset),
            )


def _drift_of_numbers(name: str, values: Array, before: Array, version: str) -> Iterator[Finding]:
    gaps, gaps_before = _missing(values), _missing(before)
    now, then = values[~gaps].astype(np.float64), before[~gaps_before].astype(np.float64)
    bins = histogram(then)
    distance = psi_of(now, bins) if len(then) else 0.0
    if distance > _least_shift(len(bins["shares"]), len(now), len(then)):
        yield Finding(
            "drift",
            f"{name!r} is spread otherwise than in {version}: median {np.median(now):g}, before {np.median(then):g} "
            f"(PSI {distance:.2g})",
            len(values),
        )
    if abs(gaps.mean() - gaps_before.mean()) > DRIFT:
        yield Finding(
            "drift",
            f"{name!r} is missing in {100 * gaps.mean():.0f} % of the examples, in {version} in "
            f"{100 * gaps_before.mean():.0f} %",
            int(gaps.sum()),
        )


def drift_from_production(dataset: Dataset, production: Production) -> Iterator[Finding]:
    """Inputs that are spread otherwise than in what the model in production learned from."""
    train = dataset.split("train")
    learned = production.baseline["examples"]["train"]
    for name, distance in distances(train, dataset.inputs, production.baseline).items():
        if distance > _least_shift(BASELINE_BINS, len(train), learned):
            yield Finding(
                "drift",
                f"{name!r} is spread otherwise than in what {production.version}, in production, learned from "
                f"(PSI {distance:.2g})",
                len(train),
            )


def _least_shift(bins: int, examples: int, others: int) -> float:
    """PSI above which so many examples, against others, have shifted: neither a little nor by chance."""
    return max(SHIFTED, CHANCE * (bins - 1) * (1 / max(1, examples) + 1 / max(1, others)))


def _missing(values: Array) -> NDArray[np.bool_]:
    """Which values of an input are missing, of its shape."""
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def _label_shares(dataset: Dataset) -> dict[str, float]:
    if not dataset.labels:
        return {}
    counts = Counter(dataset.column("label").tolist())
    return {dataset.labels[label]: count / len(dataset) for label, count in counts.items()}


def _groups(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Indices of the examples with each hash that more than one has."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order])) + 1
    return (group for group in np.split(order, starts) if len(group) > 1)


def _hashes(dataset: Dataset, alike: bool = False) -> NDArray[np.uint64]:
    """64 bits for each example that follow from its inputs; alike: from what they look like."""
    likeness = Likeness(dataset.inputs)
    if alike and likeness.needs_figures:
        for indices in dataset.batches():
            likeness.add(dataset.input_columns(indices))
    pieces = [np.empty(0, np.uint64)]
    for indices in dataset.batches():
        columns = dataset.input_columns(indices)
        pieces.append(likeness.keys(columns) if alike else hash_inputs(columns, dataset.inputs))
    return np.concatenate(pieces)


def _ids(dataset: Dataset, rows: Sequence[int]) -> tuple[str, ...]:
    ids = dataset.column("id", np.array(rows[:SHOWN_IDS], np.int64))
    return tuple(example_id.decode() for example_id in ids.tolist())
