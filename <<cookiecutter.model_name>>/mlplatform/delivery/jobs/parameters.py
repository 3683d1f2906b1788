"""The training's parameters, as the code says them that the training image is built of.

That code needs TensorFlow to run, so it is read, not run: the fields of `TrainingParameters` in training/ and of
`Hyperparameters` in model/, with types, defaults, bounds and descriptions. So a wrong parameter is refused before an
image is built and a machine waited for. What cannot be read so, such as a bound that is computed, the job checks.
"""

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from mlplatform.config.settings import Section, load
from mlplatform.delivery.errors import DeliveryError

# Of each: the room it is in and the class that holds the fields.
SOURCES = (("mlplatform/training", "TrainingParameters"), ("model", "Hyperparameters"))
TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
BOUNDS = ("ge", "gt", "le", "lt", "pattern", "min_length", "max_length", "multiple_of")


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type (Any where that is not known), its default as text, and what pydantic checks."""

    name: str
    type: Any
    default: Any
    description: str
    bounds: Mapping[str, Any]


def read_parameters(root: Path = Path()) -> list[Parameter]:
    """Every parameter, in the order of the code. Raises DeliveryError if there is no such code."""
    found: list[Parameter] = []
    for room, name in SOURCES:
        classes = [node for path in sorted((root / room).glob("*.py")) for node in _classes(path, name)]
        if not classes:
            raise DeliveryError(f"{room}/: holds no class {name}; run from the repository's root")
        found += [_parameter(node) for node in _fields(classes[0])]
    return found


def effective(parameters: list[Parameter]) -> dict[str, Any]:
    """Every parameter as a run would have it without arguments. Raises SettingsError."""
    return _loaded(parameters, {}).model_dump()


def given(parameters: list[Parameter], arguments: Mapping[str, str]) -> dict[str, str]:
    """The parameters that are given, as the job takes them: by arguments, or by TRAINING_* in the environment.

    Raises SettingsError naming every one that is unknown or out of range.
    """
    loaded = _loaded(parameters, arguments)
    chosen = {**_from_environment(parameters), **arguments}
    return {name: str(value) for name, value in chosen.items() if name in type(loaded).model_fields}


def _loaded(parameters: list[Parameter], arguments: Mapping[str, str]) -> Section:
    fields: dict[str, Any] = {each.name: (each.type, _checked(each)) for each in parameters}
    base = cast(type[Section], type("Base", (Section,), {"__module__": __name__}, section="training", closed=True))
    return load(create_model("Parameters", __base__=base, **fields), arguments)


def _from_environment(parameters: list[Parameter]) -> dict[str, str]:
    variables = {each.name: os.environ.get(f"TRAINING_{each.name.upper()}") for each in parameters}
    return {name: value for name, value in variables.items() if value}


def _checked(parameter: Parameter) -> FieldInfo:
    return cast(FieldInfo, Field(default=parameter.default, **parameter.bounds))


def _classes(path: Path, name: str) -> Iterator[ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _fields(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    return (each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name))


def _parameter(node: ast.AnnAssign) -> Parameter:
    """A field of the form `name: type = default`, or `= Field(...)`, or `= field(default=..., metadata={...})`."""
    name = cast(ast.Name, node.target).id
    if not isinstance(node.value, ast.Call):
        return Parameter(name, _type(node.annotation), _value(node.value), "", {})
    keywords = {each.arg: each.value for each in node.value.keywords if each.arg}
    said = {key: _value(value) for key, value in keywords.items()}
    said |= said.get("metadata") or {}
    bounds = {key: said[key] for key in BOUNDS if said.get(key) is not None}
    return Parameter(name, _type(node.annotation), said.get("default"), str(said.get("description") or ""), bounds)


def _type(annotation: ast.expr) -> Any:
    if isinstance(annotation, ast.Name):
        return TYPES.get(annotation.id, Any)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        values = _value(annotation.slice)
        return Literal[values if isinstance(values, tuple) else (values,)] if values is not None else Any
    return Any


def _value(expression: ast.expr | None) -> Any:
    """What a literal stands for, or None if it is none."""
    if isinstance(expression, ast.BinOp):
        # 2**31 - 1
        left, right = _value(expression.left), _value(expression.right)
        if not (isinstance(left, int) and isinstance(right, int) and 0 <= right < 1000):
            return None
        match expression.op:
            case ast.Pow():
                return left**right
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
        return None
    if isinstance(expression, ast.Dict):
        keys = [(_value(key), value) for key, value in zip(expression.keys, expression.values, strict=True)]
        return {key: _value(value) for key, value in keys if isinstance(key, str)}
    try:
        return ast.literal_eval(expression) if expression is not None else None
    except ValueError:
        return None
