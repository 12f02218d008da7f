"""Frozen dataclasses as JSON and back: pydantic checks what is read, one sentence says what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any, Self

import pydantic

STRICT = pydantic.ConfigDict(extra="forbid", strict=True)
WITH_DERIVED = pydantic.ConfigDict(
    extra="ignore", strict=True
)  # figures written for readers are not read back
_EXPECTED = {
    "dict_type": "an object",
    "dataclass_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "str",
    "int_type": "int",
    "float_type": "float",
    "bool_type": "bool",
}


_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
}


class JsonRecord:
    """Base of a frozen dataclass that is kept as JSON.

    Types are strict, but for an int that passes for a float; what a field may not be beyond its type is
    checked in `__post_init__`, by a ValueError.
    """

    __pydantic_config__ = STRICT

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: dicts, lists, numbers, texts, None."""
        return {field.name: _to_plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """What `to_dict` wrote. Raises ValueError or TypeError for anything else, naming the first wrong part."""
        try:
            record: Self = _adapter(cls).validate_json(json.dumps(values))  # type: ignore[arg-type]
        except pydantic.ValidationError as error:
            raise ValueError(describe_damage(error, cls.__name__.lower())) from error
        return record


def describe_damage(error: pydantic.ValidationError, name: str) -> str:
    """The first wrong part in one phrase: where it is, what came, what is expected. name: of the whole."""
    first = error.errors(include_url=False)[0]
    is_missing = first["type"] in ("missing", "missing_argument")
    keys = first["loc"][:-1] if is_missing else first["loc"]
    where = (name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)).lstrip(".")
    if is_missing:
        return f"{where} lacks {first['loc'][-1]!r}"
    if first["type"] == "value_error":
        return f"{where}: {first['ctx']['error']}"
    expected = _EXPECTED.get(first["type"], first["msg"])
    if first["type"] in _BOUNDS:
        bound = next(value for key, value in first["ctx"].items() if key in ("ge", "gt", "le", "lt"))
        expected = f"{_BOUNDS[first['type']]} {bound:g}"
    if first["type"] == "literal_error":
        expected = first["ctx"]["expected"].replace("'", "").replace(", ", " or ")
    return f"{where} is {str(first['input'])[:40]!r}, {expected} is expected"


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _to_plain(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _to_plain(part) for key, part in value.items()}
    return [_to_plain(part) for part in value] if isinstance(value, (tuple, list)) else value
