"""How events note vectors: as text of a bounded length, from which their pairs can be told again.

Up to NOTED values, each as one of 255 steps of the row's largest one, in base64 with that step: 176 characters a row.
A longer vector is projected onto NOTED dimensions first, which keeps the cosine c of two of them to within
(1 - c^2) / sqrt(NOTED), and their distance to within 6 % (Johnson and Lindenstrauss (1984), Contemp. Math. 26, 189).
"""

import base64
import binascii
from functools import lru_cache

import numpy as np

from mlplatform.contract.targets.base import Array, Floats, Objects

NOTED = 128
_STEPS = 127
_HEAD = np.dtype("<f4").itemsize


def as_texts(vectors: Array) -> list[str]:
    """A text for each of the vectors (rows, size); an empty one for what is not finite."""
    finite = np.asarray(np.isfinite(vectors).all(axis=1), bool)
    wide = np.where(finite[:, None], vectors, 0).astype(np.float64)
    if wide.shape[1] > NOTED:
        wide = wide @ _projection(wide.shape[1])
    step = np.abs(wide).max(axis=1) / _STEPS
    whole = np.rint(wide / np.where(step > 0, step, 1)[:, None]).astype(np.int8)
    heads = step.astype("<f4")
    return [
        base64.b64encode(head.tobytes() + row.tobytes()).decode() if there else ""
        for head, row, there in zip(heads, whole, finite, strict=True)
    ]


def is_text(text: object) -> bool:
    """Whether it may be of `as_texts`, and not empty."""
    return len(_bytes(text)) > _HEAD


def of_texts(texts: Objects) -> Floats:
    """(rows, up to NOTED): the vectors of `as_texts`; NaN for other text, and for one of another size than most."""
    contents = [_bytes(text) for text in texts]
    sizes = [len(content) for content in contents if len(content) > _HEAD]
    if not sizes:
        return np.full((len(texts), 1), np.nan)
    size = max(sorted({*sizes}), key=sizes.count)
    vectors = np.full((len(texts), size - _HEAD), np.nan)
    for row, content in enumerate(contents):
        if len(content) == size:
            step = float(np.frombuffer(content[:_HEAD], "<f4")[0])
            vectors[row] = np.frombuffer(content[_HEAD:], np.int8) * step
    return vectors


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


@lru_cache(maxsize=4)
def _projection(size: int) -> Floats:
    """(size, NOTED): orthogonal directions at random, the same for all vectors of a size."""
    directions, _ = np.linalg.qr(np.random.default_rng(size).standard_normal((size, NOTED)))
    return np.asarray(directions * np.sqrt(size / NOTED))
