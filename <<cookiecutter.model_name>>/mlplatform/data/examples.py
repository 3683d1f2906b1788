"""Examples: a checked record as arrays with the dtypes and shapes of the model's inputs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlplatform.contract.labels import label_text
from mlplatform.data.dataset import Array, InputSpec, Schema


class ExampleBuffer:
    """Examples in memory on their way to disk. `bytes`: about how much they take."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.bytes = 0
        self._labels = {label: index for index, label in enumerate(schema.labels)}
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, record: Mapping[str, Any]) -> str:
        """Add a record that fits the JSON Schema; return why it cannot be an example, or an empty text."""
        arrays = []
        for spec in self.schema.inputs:
            if spec.name not in record:
                return f"{spec.name}: missing, and the model has this input"
            try:
                array = _to_array(record[spec.name], spec)
            except (ValueError, TypeError, OverflowError) as error:
                return f"{spec.name}: not a {spec.dtype} array of shape {spec.shape}: {error}"
            if array.shape != spec.shape:
                return f"{spec.name}: has shape {array.shape}, the model takes {spec.shape}"
            arrays.append(array)
        given = record.get("label")
        label = None if given is None else self._labels.get(label_text(given))
        if label is None:
            return f"label: {record.get('label')!r} is none of model.LABELS"
        # Without an id the inputs are the id: the same inputs twice are one example, whatever their labels.
        content = hashlib.sha256(b"\0".join(array.tobytes() for array in arrays)).hexdigest()[:32]
        example_id = str(record.get("id", content)).encode()
        digest = hashlib.sha256(example_id).digest()
        high, low = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
        self._rows.append((high, low, example_id, label, *arrays))
        self.bytes += sum(array.nbytes for array in arrays) + len(example_id) + 20
        return ""

    def take(self) -> Array:
        """All examples as a structured array (n,) of `row_type`; the buffer is empty afterwards."""
        id_width = max(len(row[2]) for row in self._rows)
        dtypes = [
            f"S{max(1, *(row[4 + i].itemsize for row in self._rows))}" if spec.dtype == "string" else spec.dtype
            for i, spec in enumerate(self.schema.inputs)
        ]
        examples = np.array(self._rows, row_type(self.schema.inputs, dtypes, id_width))
        self._rows, self.bytes = [], 0
        return examples


def row_type(inputs: Sequence[InputSpec], dtypes: Sequence[str], id_width: int) -> np.dtype[Any]:
    """One example: 16 bytes of the id's hash as `high` and `low`, `id`, `label` (index), `input_<name>` per input."""
    fields: list[tuple[Any, ...]] = [("high", "<u8"), ("low", "<u8"), ("id", f"S{id_width}"), ("label", "<i4")]
    fields += [(f"input_{spec.name}", dtype, spec.shape) for spec, dtype in zip(inputs, dtypes, strict=True)]
    return np.dtype(fields)


def _to_array(value: Any, spec: InputSpec) -> Array:
    if spec.dtype == "string":
        return np.char.encode(np.asarray(value, dtype=np.str_), "utf-8")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype.name} values")
    cast = array.astype(spec.dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"{value!r} does not fit")
    return cast
