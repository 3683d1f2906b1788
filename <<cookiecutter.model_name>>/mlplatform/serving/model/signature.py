"""What a model takes and gives, as its manifest says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import Sentinel, sentinel_fault
from mlplatform.runtime.call import DTYPES

Array = NDArray[Any]

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(object if name == "string" else name) for name in DTYPES}


class SignatureError(ValueError):
    """The manifest's signature is not one that can be served; the message says which tensor and why."""


@dataclass(frozen=True)
class Tensor:
    """One input or output. `shape` is that of one row (None: any length); `dtype` a TensorFlow name such as float32.

    nullable: whether numbers of an input may be missing; they are NaN then. missing: what stands for a missing value in
    place of NaN; None if nothing does. media_type: what the bytes of an input are; empty if they are text. length: of
    an input whose rows may be lists of several lengths; the first size of its shape is None then. Rows of an input of
    any length without it share a call of the model only with those as long.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    nullable: bool = False
    media_type: str = ""
    length: Length | None = None
    missing: Sentinel = None

    @property
    def may_be_null(self) -> bool:
        """Whether null may stand for a value."""
        return self.nullable or self.missing is not None

    @property
    def gap(self) -> str | float | bool:
        """What stands for a value that is missing."""
        return math.nan if self.missing is None else self.missing

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The NumPy type; object (of bytes) for strings."""
        return NUMPY_DTYPES[self.dtype]

    @property
    def optional(self) -> bool:
        """Whether a row may lack an input. A list of any length may not: nobody knows how much of it is missing."""
        return self.may_be_null and self.length is None

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item of lists of several lengths; of others that of a row as far as it is fixed."""
        return tuple(size for size in self.shape if size is not None)

    def describe(self) -> str:
        """Dtype and shape of one row in words: `float32 of shape [8, 8]`, `one float32 or null`."""
        kind = f"{self.media_type or self.dtype}{' or null' if self.may_be_null else ''}"
        if not self.shape:
            return f"one {kind}"
        any_length = f"{self.length.least} to {self.length.most}" if self.length else "any"
        return f"{kind} of shape [{', '.join(any_length if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in the order in which arrays are handed around. Rows are the first dimension."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def one_shape(self) -> bool:
        """Whether all rows have the same shape, or can be filled up to it, so that any requests share a model call."""
        return all(None not in tensor.shape or tensor.length for tensor in self.inputs)


def read_signature(properties: Mapping[str, Any]) -> Signature:
    """The signature in a model manifest's properties. Raises SignatureError."""
    try:
        raw = properties["signature"]
        return Signature(
            inputs=tuple(_tensor(entry, "input") for entry in raw["inputs"]),
            outputs=tuple(_tensor(entry, "output") for entry in raw["outputs"]),
        )
    except (KeyError, TypeError) as error:
        raise SignatureError(f"the manifest has no usable signature ({type(error).__name__}: {error})") from None


def _tensor(entry: Mapping[str, Any], kind: str) -> Tensor:
    name, shape, dtype = str(entry["name"]), list(entry["shape"]), str(entry["dtype"])
    if dtype not in DTYPES:
        raise SignatureError(f"{kind} {name!r} is {dtype}, which cannot be sent; use one of: {', '.join(DTYPES)}")
    if not shape or shape[0] is not None:
        raise SignatureError(f"{kind} {name!r} has shape {shape}; its first dimension must be free (null): the rows")
    nullable = entry.get("nullable") is True
    if nullable and not dtype.startswith("float"):
        raise SignatureError(f"{kind} {name!r} is {dtype} and nullable; only floats can be, as NaN")
    missing = entry.get("missing")
    fault = "" if missing is None else sentinel_fault(missing, dtype)
    if fault:
        raise SignatureError(f"{kind} {name!r} is {dtype}, and {missing!r} stands for missing values; use {fault}")
    media_type = str(entry.get("media_type", ""))
    sizes = tuple(None if size is None else int(size) for size in shape[1:])
    length = Length.of_json(entry.get("length"))
    if length and (sizes[:1] != (None,) or None in sizes[1:] or dtype == "string"):
        raise SignatureError(f"{kind} {name!r} is {dtype} of shape {shape}; only lists of numbers can have a length")
    return Tensor(name, sizes, dtype, nullable, media_type, length, missing)
