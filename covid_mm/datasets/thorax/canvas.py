"""Grids of points in the body, and shapes painted one over another on them.

Coordinates in millimetres of an adult: x to the patient's left (right in the picture), y to the
back, z to the head; the origin lies in the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless said otherwise
Box = tuple[float, float, float, float, float, float]  # x0, x1, y0, y1, z0, z1 in millimetres
Window = tuple[slice, slice, slice]  # index ranges z, y, x

AIR = -1000.0  # HU


@dataclass(frozen=True)
class Grid:
    """Points at every combination of three axes, shaped (z, y, x); `edge` mm blurs each surface."""

    x: Array
    y: Array
    z: Array
    edge: float

    @classmethod
    def of(cls, x: Array, y: Array, z: Array, edge: float) -> Grid:
        """The grid with its axes in single precision."""
        axes = [np.asarray(axis, np.float32) for axis in (x, y, z)]
        return cls(axes[0], axes[1], axes[2], edge)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) counts."""
        return (len(self.z), len(self.y), len(self.x))

    @property
    def everywhere(self) -> Window:
        """The window that holds all points."""
        return (slice(None), slice(None), slice(None))

    def window(self, box: Box) -> Window:
        """Index ranges (z, y, x) of the points inside a box."""
        slices = []
        for axis, low, high in ((self.z, *box[4:]), (self.y, *box[2:4]), (self.x, *box[:2])):
            slices.append(slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, "right"))))
        return (slices[0], slices[1], slices[2])

    def coordinates(self, where: Window) -> tuple[Array, Array, Array]:
        """x, y, z of a window, broadcastable against one another."""
        return (
            self.x[where[2]][None, None, :],
            self.y[where[1]][None, :, None],
            self.z[where[0]][:, None, None],
        )

    def soften(self, distance: Array) -> Array:
        """Coverage 0..1 from a signed distance in mm, positive inside."""
        coverage = np.asarray(distance * np.float32(1 / self.edge), np.float32)
        coverage += np.float32(0.5)
        np.maximum(coverage, 0, out=coverage)
        np.minimum(coverage, 1, out=coverage)
        return coverage


class Painter:
    """Puts shapes one over another on a grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.hu = np.full(grid.shape, AIR, np.float32)
        self.air = np.zeros(grid.shape, np.float32)

    def blend(self, where: Window, coverage: Array, value: float | Array) -> None:
        """Move what lies there towards a value by its coverage; solid organs displace lung."""
        view = self.hu[where]
        view += coverage * (value - view)
        self.air[where] *= 1 - coverage

    def ellipsoid(
        self,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        value: float,
        axes: Array | None = None,
        wobble: Array | None = None,
    ) -> None:
        """An ellipsoid; the rows of `axes` are its own directions, `wobble` mm are added all over."""
        reach = max(radii) + self.grid.edge if axes is not None else None
        box = [
            edge
            for c, r in zip(centre, radii, strict=True)
            for edge in (c - (reach or r + self.grid.edge), c + (reach or r + self.grid.edge))
        ]
        where = self.grid.window((box[0], box[1], box[2], box[3], box[4], box[5]))
        x, y, z = self.grid.coordinates(where)
        offset = (x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2]))
        rows = np.eye(3) if axes is None else axes
        total: Array = np.zeros((1, 1, 1), np.float32)
        for row, radius in zip(rows, radii, strict=True):
            part = sum(np.float32(w / radius) * o for w, o in zip(row, offset, strict=True) if w)
            total = total + part * part
        size = np.float32(min(radii))
        distance = (1 - np.sqrt(total)) * size
        if wobble is not None:
            distance = distance + wobble[where]
        self.blend(where, self.grid.soften(distance), value)

    def capsule(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radius: float,
        value: float,
        core: tuple[float, float] | None = None,
    ) -> None:
        """A rod with round ends; `core` (radius, value) fills its inside with something else."""
        low = np.minimum(start, end) - radius - self.grid.edge
        high = np.maximum(start, end) + radius + self.grid.edge
        where = self.grid.window((low[0], high[0], low[1], high[1], low[2], high[2]))
        x, y, z = self.grid.coordinates(where)
        axis = np.subtract(end, start).astype(np.float32)
        offset = (x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2]))
        along = sum(o * a for o, a in zip(offset, axis, strict=True)) / np.float32(axis @ axis)
        along = np.clip(along, 0, 1)
        distance = np.sqrt(sum((o - along * a) ** 2 for o, a in zip(offset, axis, strict=True)))
        self.blend(where, self.grid.soften(radius - distance), value)
        if core is not None:
            self.blend(where, self.grid.soften(core[0] - distance), core[1])
