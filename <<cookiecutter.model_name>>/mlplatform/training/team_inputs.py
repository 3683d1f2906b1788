"""Inputs by what model.RECORD says: all of it for `model.train`, where there is no network to ask before it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.missing import MISSING, sentinel_fault
from mlplatform.data.checking import says_null, sentinel
from mlplatform.data.dataset import InputSpec

DTYPES = {"number": "float32", "integer": "int64", "string": "string", "boolean": "bool"}


def chosen(properties: Mapping[str, Any], named: Sequence[str] | None, reserved: Sequence[str]) -> list[str]:
    """Which of the record's properties are inputs: those that model.INPUTS names, or all that have no other purpose.

    reserved: those with another purpose. Raises PipelineError.
    """
    free = [name for name in properties if name not in reserved]
    if named is None:
        return free
    if isinstance(named, str) or not named:
        raise PipelineError(f"model.INPUTS is {named!r}; make it a tuple of names, or leave it out")
    for name in named:
        if name not in free:
            raise PipelineError(
                f"model.INPUTS: {name!r} cannot be an input; model.RECORD's properties that can be are: "
                f"{', '.join(free) or 'none'}"
            )
    return list(named)


def spec(name: str, schema: Any) -> InputSpec:
    """Shape and dtype of an input, of its JSON Schema. Raises PipelineError if that leaves them open."""
    shape: list[int] = []
    inner = schema if isinstance(schema, Mapping) else {}
    while _type(inner) == "array":
        least, most = inner.get("minItems"), inner.get("maxItems")
        if least is None or least != most:
            raise PipelineError(
                f"model.RECORD: {name!r} is a list of any length, and model.train's inputs have one shape; give it "
                "minItems and maxItems, both the same"
            )
        shape.append(int(least))
        inner = inner.get("items", {})
    if shape == [1]:
        raise PipelineError(f"model.RECORD: {name!r} is a list of one value; make it that value itself")
    dtype = DTYPES.get(_type(inner))
    if dtype is None:
        raise PipelineError(
            f"model.RECORD: {name!r} has no type that says what model.train gets; give it one of {', '.join(DTYPES)}, "
            "or an array of them, or name the inputs without it: INPUTS = (...)"
        )
    return InputSpec(name, tuple(shape), dtype)


def may_be_missing(spec: InputSpec, record: Mapping[str, Any]) -> bool:
    """Whether a record may lack an input, or a value of it."""
    column = record.get("properties", {}).get(spec.name)
    return spec.name not in record.get("required", ()) or says_null(column, record, len(spec.shape))


def with_sentinel(spec: InputSpec, record: Mapping[str, Any]) -> InputSpec:
    """An input with what stands for its missing values, if its schema names that. Raises PipelineError if it cannot."""
    column = record.get("properties", {}).get(spec.name)
    named = sentinel(column, record)
    if named is None:
        return spec
    if spec.media_type:
        raise PipelineError(f"model.RECORD: {spec.name!r} is bytes, which nothing stands for; leave {MISSING} out")
    if not may_be_missing(spec, record):
        raise PipelineError(
            f"model.RECORD: {spec.name!r} names {MISSING} = {named!r}, and is never missing; let its type have null, "
            f"or required leave it out, or leave {MISSING} out"
        )
    if fault := sentinel_fault(named, spec.dtype):
        raise PipelineError(
            f"model.RECORD: {spec.name!r} names {MISSING} = {named!r}, and the model takes it as {spec.dtype}; name "
            f"{fault}"
        )
    return replace(spec, missing=named)


def _type(schema: Mapping[str, Any]) -> str:
    """The one type of a value, null apart; of an enum that of its values. Empty if there is none, or several."""
    named = schema.get("type")
    if named is None and "enum" in schema:
        named = ["string" if isinstance(value, str) else "number" for value in schema["enum"]]
    types = {named} if isinstance(named, str) else set(named or ()) - {"null"}
    return types.pop() if len(types) == 1 else ""
