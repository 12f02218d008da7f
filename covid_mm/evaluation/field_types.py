"""Does a value read from a file have the types that its dataclass declares?"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_type(value: Any, expected: Any, place: str) -> None:
    """Compare with a type hint: plain types, Literal, unions, tuples, lists, dicts, typed dicts, dataclasses.

    place: the value's name, for the message. An int passes for a float, a bool for neither.

    Raises:
        TypeError: the first part that is of another type, and where.
    """
    if expected is Any:
        return
    kind, parts = get_origin(expected), get_args(expected)
    if kind in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return
        (expected,) = (part for part in parts if part is not type(None))  # only `X | None` is used
        check_type(value, expected, place)
    elif kind is Literal:
        _require(isinstance(value, str) and value in parts, value, " or ".join(parts), place)
    elif kind in (tuple, list):
        _require(isinstance(value, kind), value, "a list", place)
        is_open = kind is list or parts[-1] is Ellipsis
        _require(is_open or len(value) == len(parts), value, f"a list of {len(parts)}", place)
        for number, part in enumerate(value):
            check_type(part, parts[0] if is_open else parts[number], f"{place}[{number}]")
    elif kind is dict:
        _require(isinstance(value, dict), value, "an object", place)
        for key, part in value.items():
            check_type(key, parts[0], f"a key of {place}")
            check_type(part, parts[1], f"{place}.{key}")
    elif typing.is_typeddict(expected):
        _require(isinstance(value, dict), value, "an object", place)
        for name, part in _read_hints(expected).items():
            _require(name in value or name not in expected.__required_keys__, None, f"{name!r}", place)
            if name in value:
                check_type(value[name], part, f"{place}.{name}")
    elif dataclasses.is_dataclass(expected):
        _require(isinstance(value, typing.cast(type, expected)), value, "an object", place)
        hints = _read_hints(typing.cast(Any, expected))
        for field in dataclasses.fields(expected):
            check_type(getattr(value, field.name), hints[field.name], f"{place}.{field.name}")
    else:
        accepted = (int, float) if expected is float else expected
        fits = isinstance(value, accepted) and (expected is bool or not isinstance(value, bool))
        _require(fits, value, expected.__name__, place)


@functools.cache
def _read_hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _require(fits: bool, value: Any, expected: str, place: str) -> None:
    if not fits:
        raise TypeError(f"{place} is {str(value)[:40]!r}, {expected} is expected")
