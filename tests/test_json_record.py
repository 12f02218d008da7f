"""Records as JSON: written plainly, read strictly, damage named in one phrase."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from covid_mm.json_record import WITH_DERIVED, JsonRecord


@dataclass(frozen=True)
class Point(JsonRecord):
    x: float
    kind: Literal["a", "b"]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line(JsonRecord):
    __pydantic_config__ = WITH_DERIVED

    points: tuple[Point, ...]
    ends: tuple[int, int]
    names: dict[str, Point]
    note: str | None = None

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a line needs a point")

    def to_dict(self):
        return super().to_dict() | {"length": len(self.points)}


LINE = Line((Point(1.5, "a", ("t",)),), (0, 1), {"p": Point(2.0, "b")})
PLAIN = {
    "points": [{"x": 1.5, "kind": "a", "tags": ["t"]}],
    "ends": [0, 1],
    "names": {"p": {"x": 2.0, "kind": "b", "tags": []}},
    "note": None,
    "length": 1,
}


def test_a_record_is_written_plainly_and_read_back():
    assert LINE.to_dict() == PLAIN
    assert Line.from_dict(json.loads(json.dumps(PLAIN))) == LINE


def test_an_int_passes_for_a_float_and_a_bool_for_neither():
    assert Point.from_dict({"x": 1, "kind": "a"}) == Point(1.0, "a")
    with pytest.raises(ValueError, match=r"^point\.x is 'True', float is expected$"):
        Point.from_dict({"x": True, "kind": "a"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": [0, "1"]}, "line.ends[1] is '1', int is expected"),
        ({"ends": [0]}, "line.ends lacks 1"),
        ({"points": None}, "line.points is 'None', a list is expected"),
        ({"points": []}, "line: a line needs a point"),
        ({"names": {"p": {"x": 1.0, "kind": "c"}}}, "line.names.p.kind is 'c', a or b is expected"),
        ({"names": {"p": {"kind": "a"}}}, "line.names.p lacks 'x'"),
        ({"names": {"p": 3}}, "line.names.p is '3', an object is expected"),
        ({"note": 3}, "line.note is '3', str is expected"),
    ],
)
def test_damage_is_named(change, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        Line.from_dict(PLAIN | change)
    assert str(caught.value) == message


def test_fields_of_another_version_are_refused_where_none_are_derived():
    with pytest.raises(ValueError, match=r"point\.colour is 'red'"):
        Point.from_dict({"x": 1.0, "kind": "a", "colour": "red"})
