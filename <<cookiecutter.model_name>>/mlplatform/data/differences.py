"""What came, went and changed between two dataset versions."""

from collections import Counter
from dataclasses import dataclass

from mlplatform.data.catalog import Dataset
from mlplatform.data.dataset import SPLITS
from mlplatform.data.writing import hash_inputs


@dataclass(frozen=True)
class Difference:
    """Ids in order. came, went: in the second or the first version only; changed: other inputs; relabelled: same inputs
    and another label; moved: in another split. labels: by label, examples in the first and in the second version; none
    of values.
    """

    came: tuple[str, ...]
    went: tuple[str, ...]
    changed: tuple[str, ...]
    relabelled: tuple[str, ...]
    moved: tuple[str, ...]
    labels: dict[str, tuple[int, int]]


def difference(one: Dataset, other: Dataset) -> Difference:
    """Compare two versions by the ids of their examples."""
    before, after = _examples(one), _examples(other)
    both = sorted(before.keys() & after.keys())
    changed = [key for key in both if before[key][0] != after[key][0]]
    relabelled = [key for key in both if before[key][0] == after[key][0] and before[key][1] != after[key][1]]
    moved = [key for key in both if before[key][2] != after[key][2]]
    labelled = one.target.labels or other.target.labels
    counts = [Counter(label for _, label, _ in found.values() if labelled) for found in (before, after)]
    return Difference(
        came=_text(sorted(after.keys() - before.keys())),
        went=_text(sorted(before.keys() - after.keys())),
        changed=_text(changed),
        relabelled=_text(relabelled),
        moved=_text(moved),
        labels={label: (counts[0][label], counts[1][label]) for label in sorted({*counts[0], *counts[1]})},
    )


def _text(ids: list[bytes]) -> tuple[str, ...]:
    return tuple(example_id.decode() for example_id in ids)


def _examples(dataset: Dataset) -> dict[bytes, tuple[int, str, str]]:
    """By id: a hash of the inputs, the label, the split."""
    examples: dict[bytes, tuple[int, str, str]] = {}
    splits, target = dataset.splits(), dataset.target
    for indices in dataset.batches():
        hashes = hash_inputs(dataset.input_columns(indices), dataset.inputs)
        rows = zip(
            dataset.column("id", indices).tolist(),
            hashes.tolist(),
            dataset.column("label", indices).tolist(),
            splits[indices].tolist(),
            strict=True,
        )
        examples |= {key: (content, target.shown(label), SPLITS[split]) for key, content, label, split in rows}
    return examples
