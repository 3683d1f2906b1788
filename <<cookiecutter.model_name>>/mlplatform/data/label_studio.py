"""Label Studio's formats: tasks and a labelling interface to import there, and what it exports."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.contract.labels import label_text
from mlplatform.data.dataset import InputSpec
from mlplatform.data.pictures import EDGE, is_picture, png
from mlplatform.data.traffic import Row

# Names in a task's data and of the control that takes the label.
EXAMPLE, VALUES, LABEL = "example_id", "values", "label"
# How the data URL of an image begins.
PICTURE = "data:image/"
# Columns that say who labelled an example and when; the first that a table has counts.
PEOPLE, MOMENTS = ("labelled_by", "annotator"), ("labelled_at", "updated_at", "created_at")


class LabelsFileError(CommandError):
    """A file of labels cannot be read."""

    exit_code = ExitCode.BAD_REQUEST


@dataclass(frozen=True)
class Label:
    """What a person said of an example. by: number, address or name of that person; at: ISO 8601; empty if not said."""

    id: str
    label: str
    by: str = ""
    at: str = ""


@dataclass
class Given:
    """Labels of a file, one for each example. left_out: tasks or rows by reason."""

    labels: list[Label]
    left_out: Counter[str] = field(default_factory=Counter)


def tasks(rows: Sequence[Row], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tasks to import, each with what the model said. records: the inputs of each row, as they may be shown."""
    columns = _columns(rows, records)
    shown = {name: _kind(values) for name, values in columns.items()}
    arrays = {name for name, kind in shown.items() if kind == "Image" and not isinstance(columns[name][0], str)}
    bounds = {name: _bounds(columns[name]) for name in arrays}
    first = _objects(shown)[0][1]
    written = []
    for row, record in zip(rows, records, strict=True):
        data: dict[str, Any] = {EXAMPLE: row.id}
        for name, kind in shown.items():
            value = record.get(name)
            if name in arrays and value is not None:
                data[name] = str(png(_enlarged(np.asarray(value, np.float64)), *bounds[name]))
            elif kind in ("Text", "Image"):
                data[name] = value
            else:
                data.setdefault(VALUES, {})[name] = json.dumps(value)
        written.append({"data": data, "predictions": _said(row, first)})
    return written


def interface(rows: Sequence[Row], records: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    """The labelling interface of a project for these tasks, to paste in its settings: XML."""
    view = ElementTree.Element("View")
    objects = _objects({name: _kind(values) for name, values in _columns(rows, records).items()})
    for tag, name in objects:
        ElementTree.SubElement(view, tag, name=name, value=f"${name}")
    choices = ElementTree.SubElement(
        view, "Choices", name=LABEL, toName=objects[0][1], choice="single", required="true"
    )
    for label in labels:
        ElementTree.SubElement(choices, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def read_labels(path: Path) -> Given:
    """The labels in an export of Label Studio (JSON, JSON_MIN or CSV), or in a table with the columns id and label.

    Of several people's labels of an example the most frequent counts; where none is, the example is left out.
    Raises LabelsFileError.
    """
    given = Given([])
    try:
        if path.suffix.lower() == ".json":
            said = list(_of_json(json.loads(path.read_bytes()), given.left_out))
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                said = list(_of_rows(csv.DictReader(file), given.left_out))
    except OSError as error:
        raise LabelsFileError(f"{path}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        known = "JSON, JSON_MIN or CSV of Label Studio, or a table with the columns id and label"
        raise LabelsFileError(f"{path}: is none of {known}: {type(error).__name__}: {error}") from None
    by_id: dict[str, list[Label]] = defaultdict(list)
    for label in said:
        by_id[label.id].append(label)
    for labels in by_id.values():
        counts = Counter(label.label for label in labels).most_common(2)
        if len(counts) > 1 and counts[0][1] == counts[1][1]:
            given.left_out["examples of which people say different things, as many each"] += 1
            continue
        agreeing = [label for label in labels if label.label == counts[0][0]]
        people = ", ".join(dict.fromkeys(label.by for label in agreeing if label.by))
        given.labels.append(Label(agreeing[0].id, counts[0][0], people, max(label.at for label in agreeing)))
    return given


def _of_json(tasks: Any, left_out: Counter[str]) -> Iterator[Label]:
    if tasks and "annotations" not in tasks[0]:
        yield from _of_rows(tasks, left_out)
        return
    for task in tasks:
        example = str(task["data"].get(EXAMPLE) or task["data"]["id"])
        annotations = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
        # What the project's owners marked as true outdoes the others.
        truths = [annotation for annotation in annotations if annotation.get("ground_truth")]
        if not annotations:
            left_out["tasks without an annotation"] += 1
        for annotation in truths or annotations:
            chosen = [c for result in annotation["result"] for c in result["value"].get("choices", ())]
            if len(chosen) != 1:
                left_out["annotations with another number of choices than one"] += 1
                continue
            at = annotation.get("updated_at") or annotation.get("created_at") or ""
            yield Label(example, label_text(chosen[0]), _person(annotation.get("completed_by")), at)


def _of_rows(rows: Iterable[Mapping[str, Any]], left_out: Counter[str]) -> Iterator[Label]:
    for row in rows:
        example = row[EXAMPLE if EXAMPLE in row else "id"]
        label = row[LABEL]
        if isinstance(label, Mapping | list) or label in (None, ""):
            left_out["rows with another number of choices than one"] += 1
            continue
        by = next((row[name] for name in PEOPLE if row.get(name)), "")
        at = next((row[name] for name in MOMENTS if row.get(name)), "")
        yield Label(str(example), label_text(label), _person(by), str(at))


def _person(by: Any) -> str:
    """Whom Label Studio names: by number, or with an address."""
    return str(by.get("email") or by.get("id") or "") if isinstance(by, Mapping) else "" if by is None else str(by)


def _said(row: Row, shown: str) -> list[dict[str, Any]]:
    if row.predicted is None:
        return []
    choice = {"choices": [label_text(row.predicted)]}
    result = {"id": LABEL, "from_name": LABEL, "to_name": shown, "type": "choices", "value": choice}
    prediction = {"model_version": row.version, "result": [result]}
    return [prediction if row.score is None else {**prediction, "score": row.score}]


def _columns(rows: Sequence[Row], records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By input its values, where it has one."""
    names = sorted({name for row in rows for name in row.inputs})
    return {name: [record[name] for record in records if name in record] for name in names}


def _objects(shown: Mapping[str, str]) -> list[tuple[str, str]]:
    """Tag and name of what a task shows."""
    objects = [(kind, name) for name, kind in shown.items() if kind in ("Image", "Text")]
    return [*objects, *([("Table", VALUES)] if "Table" in shown.values() or not objects else [])]


def _kind(values: Sequence[Any]) -> str:
    """The tag that shows an input."""
    if values and all(isinstance(value, str) for value in values):
        return "Image" if all(value.startswith(PICTURE) for value in values) else "Text"
    try:
        arrays = [np.asarray(value, np.float64) for value in values]
    except (ValueError, TypeError):
        return "Table"
    pictures = arrays and all(is_picture(InputSpec("", array.shape, "float64")) for array in arrays)
    return "Image" if pictures else "Table"


def _enlarged(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """A picture large enough to be looked at: each pixel becomes a square of several."""
    times = max(1, EDGE // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _bounds(values: Sequence[Any]) -> tuple[float, float]:
    """The smallest and the largest number of a picture's values."""
    arrays = [np.asarray(value, np.float64) for value in values]
    flat = np.nan_to_num(np.concatenate([array.reshape(-1) for array in arrays]))
    return float(flat.min()), float(flat.max())
