"""A three-dimensional thorax of simple shapes in Hounsfield units, sampled on any grid of points.

The body is a handful of numbers (`Anatomy`), a vessel tree and a list of lesions; nothing is stored
as voxels. `sample_body` evaluates it on a separable grid, so that a fine plane (the CT slice) and a
coarse volume (the X-ray) come from the same body.

Coordinates in millimetres of an adult: x to the patient's left (right in the picture), y to the
back, z to the head; the origin lies in the middle of the chest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Box = tuple[float, float, float, float, float, float]  # x0, x1, y0, y1, z0, z1 in millimetres

AIR, FAT, MUSCLE, SOFT, CARTILAGE = -1000.0, -95.0, 50.0, 35.0, 90.0
MARROW, CORTEX = 260.0, 620.0

# Half widths and depths at heights z, in millimetres of an average adult.
_LEVELS = (-260.0, -190.0, -100.0, -40.0, 20.0, 60.0, 85.0, 105.0, 118.0, 126.0, 150.0, 172.0, 200.0, 260.0)
_CAGE_WIDTH = (126.0, 132.0, 136.0, 133.0, 122.0, 106.0, 90.0, 66.0, 40.0, 8.0, 8.0, 8.0, 8.0, 8.0)
_CAGE_DEPTH = (86.0, 90.0, 92.0, 88.0, 78.0, 64.0, 52.0, 38.0, 24.0, 6.0, 6.0, 6.0, 6.0, 6.0)
_CAGE_BACK = (0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 9.0, 14.0, 18.0, 20.0, 20.0, 20.0, 20.0, 20.0)
_SKIN_WIDTH = (148.0, 152.0, 157.0, 158.0, 158.0, 164.0, 168.0, 165.0, 150.0, 125.0, 78.0, 56.0, 58.0, 66.0)
_SKIN_DEPTH = (108.0, 112.0, 113.0, 110.0, 104.0, 94.0, 86.0, 78.0, 72.0, 68.0, 60.0, 56.0, 66.0, 82.0)
_MEDIASTINUM = (24.0, 24.0, 24.0, 24.0, 25.0, 28.0, 32.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0)
_TABLE_Z = np.arange(-260.0, 261.0, 2.0)


def _profile(z: Array, values: tuple[float, ...]) -> Array:
    """The value at each height, interpolated without corners."""
    table = np.interp(_TABLE_Z, _LEVELS, values)
    padded = np.pad(table, 6, mode="edge")
    smooth = np.convolve(padded, np.hanning(15)[1:-1] / np.hanning(15).sum(), mode="valid")
    return np.interp(z, _TABLE_Z, smooth).astype(np.float32)


@dataclass(frozen=True)
class Anatomy:
    """What differs from body to body: factors around 1, lengths in mm, densities in HU."""

    width: float
    depth: float
    squareness: float  # 0: elliptic chest, 0.5: boxy
    fat: float
    muscle: float
    lung_hu: float
    lung_gradient: float  # HU from front to back: dependent lung is denser
    dome_right: float  # z of the top of the diaphragm
    dome_left: float
    heart_size: float
    heart_shift: float
    aorta: float  # radius
    blood_hu: float  # above muscle where contrast medium was given
    rib_spacing: float
    rib_tilt: float
    rib_phase: float
    bone: float  # density factor
    trachea: float  # radius
    trachea_shift: float
    arm_lift: float
    stomach_gas: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """A body from the generator's next numbers."""
        dome = float(rng.normal(-66, 8))
        return cls(
            width=float(rng.uniform(0.9, 1.1)),
            depth=float(rng.uniform(0.88, 1.12)),
            squareness=float(rng.uniform(0.1, 0.45)),
            fat=float(rng.gamma(3.0, 3.0) + 4.0),
            muscle=float(rng.uniform(0.7, 1.2)),
            lung_hu=float(rng.uniform(-890, -840)),
            lung_gradient=float(rng.uniform(15, 60)),
            dome_right=dome,
            dome_left=dome - float(rng.uniform(2, 16)),
            heart_size=float(rng.uniform(0.86, 1.08)),
            heart_shift=float(rng.uniform(-6, 8)),
            aorta=float(rng.uniform(10.5, 14.5)),
            blood_hu=float(rng.choice([40.0, 40.0, 110.0, 200.0])),
            rib_spacing=float(rng.uniform(22, 26)),
            rib_tilt=float(rng.uniform(0.38, 0.6)),
            rib_phase=float(rng.uniform(0, 1)),
            bone=float(rng.uniform(0.75, 1.15)),
            trachea=float(rng.uniform(7.5, 10.0)),
            trachea_shift=float(rng.uniform(-4, 3)),
            arm_lift=float(rng.uniform(-0.2, 1.2)),
            stomach_gas=bool(rng.random() < 0.6),
        )


@dataclass(frozen=True)
class Grid:
    """Points at every combination of three axes, shaped (z, y, x); `edge` mm blurs each surface."""

    x: Array
    y: Array
    z: Array
    edge: float

    @classmethod
    def of(cls, x: NDArray, y: NDArray, z: NDArray, edge: float) -> Grid:
        """The grid with its axes in single precision."""
        return cls(*(np.asarray(axis, np.float32) for axis in (x, y, z)), edge)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) counts."""
        return (len(self.z), len(self.y), len(self.x))

    def window(self, box: Box) -> tuple[slice, slice, slice]:
        """Index ranges (z, y, x) of the points inside a box."""
        slices = []
        for axis, low, high in ((self.z, *box[4:]), (self.y, *box[2:4]), (self.x, *box[:2])):
            slices.append(slice(int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, "right"))))
        return (slices[0], slices[1], slices[2])

    def coordinates(self, where: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """x, y, z of a window, broadcastable against one another."""
        return (
            self.x[where[2]][None, None, :],
            self.y[where[1]][None, :, None],
            self.z[where[0]][:, None, None],
        )

    def soften(self, distance: Array) -> Array:
        """Coverage 0..1 from a signed distance in mm, positive inside."""
        return np.clip(distance * np.float32(1 / self.edge) + np.float32(0.5), 0, 1)


@dataclass(frozen=True)
class Body:
    """The volume on one grid, each array (z, y, x) float32.

    hu: Hounsfield units. lungs: air-bearing coverage 0..1. lesions: lesion coverage 0..1.
    """

    hu: Array
    lungs: Array
    lesions: Array


LesionField = Callable[[Grid, Array], tuple[Array, Array]]


class _Painter:
    """Puts shapes one over another on a grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.hu = np.full(grid.shape, AIR, np.float32)
        self.air = np.zeros(grid.shape, np.float32)

    def blend(self, where: tuple[slice, slice, slice], coverage: Array, value: float | Array) -> None:
        """Move what lies there towards a value by its coverage; solid organs displace lung."""
        view = self.hu[where]
        view += coverage * (value - view)
        self.air[where] *= 1 - coverage

    def ellipsoid(
        self,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        value: float,
        axes: NDArray | None = None,
    ) -> None:
        """An ellipsoid; the rows of `axes` are its own directions."""
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
        total = None
        for row, radius in zip(rows, radii, strict=True):
            part = sum(np.float32(w / radius) * o for w, o in zip(row, offset, strict=True) if w)
            total = part * part if total is None else total + part * part
        size = np.float32(min(radii))
        self.blend(where, self.grid.soften((1 - np.sqrt(total)) * size), value)

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


def cage_outline(anatomy: Anatomy, z: Array) -> tuple[Array, Array, Array]:
    """Half width, half depth and y of the centre of the pleural space at each height, in mm."""
    return (
        _profile(z, _CAGE_WIDTH) * np.float32(anatomy.width),
        _profile(z, _CAGE_DEPTH) * np.float32(anatomy.depth),
        _profile(z, _CAGE_BACK) * np.float32(anatomy.depth),
    )


def skin_outline(anatomy: Anatomy, z: Array) -> tuple[Array, Array]:
    """Half width and half depth of the body at each height, in mm."""
    spare = np.float32(anatomy.fat - 10 + (anatomy.muscle - 1) * 12)
    return (
        _profile(z, _SKIN_WIDTH) * np.float32(anatomy.width) + spare,
        _profile(z, _SKIN_DEPTH) * np.float32(anatomy.depth) + spare,
    )


def diaphragm(anatomy: Anatomy, x: Array, y: Array) -> Array:
    """Height z of the diaphragm above each (x, y): two domes, deep gutters at the side and back."""
    side = np.abs(x) / np.float32(anatomy.width) - 66
    top = np.where(x < 0, np.float32(anatomy.dome_right), np.float32(anatomy.dome_left))
    across = np.where(side > 0, side / 68, side / 120) ** 2
    front = y / np.float32(anatomy.depth) + 14
    along = np.where(front > 0, front / 88, front / 105) ** 2
    return (top - 56 * (across + along)).astype(np.float32)


def chest_wall_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Signed distance in mm to the pleura, positive inside; x, y, z broadcast."""
    width, depth, back = cage_outline(anatomy, z.ravel())
    shape = z.shape
    a, b, c = (v.reshape(shape) for v in (width, depth, back))
    return _squircle(x / a, (y - c) / b, anatomy.squareness) * np.sqrt(a * b)


def _squircle(u: Array, v: Array, squareness: float) -> Array:
    """1 at the centre, 0 on a rounded rectangle of half sides 1, negative outside."""
    uu, vv = u * u, v * v
    return 1 - np.sqrt(np.maximum(uu + vv - np.float32(squareness) * np.minimum(uu * vv, 1), 0))


def lung_distance(anatomy: Anatomy, points: NDArray) -> Array:
    """About how deep (mm, positive) each (n, 3) point lies in a lung; hollows by organs ignored."""
    x, y, z = (np.asarray(points[:, i], np.float32) for i in range(3))
    wall = chest_wall_distance(anatomy, x, y, z)
    return np.minimum(np.minimum(wall, z - diaphragm(anatomy, x, y)), np.abs(x) - 14)


def sample_body(anatomy: Anatomy, grid: Grid, texture: LesionField, lesions: LesionField | None) -> Body:
    """The body on a grid.

    texture(grid, lungs) and lesions(grid, lungs) return (coverage 0..1, HU) for lung tissue, each
    (z, y, x); texture's coverage is ignored and its HU are added.
    """
    painter = _Painter(grid)
    everywhere = (slice(None), slice(None), slice(None))
    x, y, z = grid.coordinates(everywhere)
    skin_a, skin_b = (v[:, None, None] for v in skin_outline(anatomy, grid.z))
    skin = _squircle(x / skin_a, y / skin_b, 0.35) * np.sqrt(skin_a * skin_b)
    painter.blend(everywhere, grid.soften(skin), FAT)
    wall = chest_wall_distance(anatomy, x, y, z)
    flesh = np.minimum(skin - np.float32(anatomy.fat), 400)
    painter.blend(everywhere, grid.soften(flesh), MUSCLE)
    _paint_limbs(painter, anatomy)

    roof = z - diaphragm(anatomy, x[0], y[0])
    inside = grid.soften(np.minimum(wall, roof))
    mediastinum = _profile(grid.z, _MEDIASTINUM)[:, None, None]
    front = np.minimum(y + 6, 0) / np.float32(44)
    strip = mediastinum * (np.float32(0.12) + np.float32(0.88) * np.exp(-front * front))
    lungs = inside * (1 - grid.soften(strip - np.abs(x - np.float32(2))))
    _, grain = texture(grid, lungs)
    tissue = np.float32(anatomy.lung_hu) + np.float32(anatomy.lung_gradient / 160) * y + grain
    if lesions is None:
        lesion = np.zeros(grid.shape, np.float32)
    else:
        lesion, dense = lesions(grid, lungs)
        tissue = tissue + lesion * np.maximum(dense - tissue, 0)
    painter.hu += lungs * (tissue - painter.hu)
    painter.air += lungs
    _paint_organs(painter, anatomy)
    _paint_ribs(painter, anatomy, wall)
    _paint_spine(painter, anatomy)
    _paint_girdle(painter, anatomy)
    _paint_airways(painter, anatomy)
    return Body(hu=painter.hu, lungs=painter.air, lesions=lesion * painter.air)


def _paint_limbs(painter: _Painter, anatomy: Anatomy) -> None:
    """Upper arms away from the chest, raised or hanging out."""
    for side in (-1, 1):
        shoulder = (side * 150.0 * anatomy.width, 8.0, 108.0)
        hand = (side * 270.0 * anatomy.width, 0.0, 108.0 + 130.0 * anatomy.arm_lift)
        painter.capsule(shoulder, hand, 30 + 0.5 * anatomy.fat, FAT, core=(30, MUSCLE))
        painter.capsule(shoulder, hand, 10.5, CORTEX * anatomy.bone, core=(6.5, MARROW * anatomy.bone))
        painter.ellipsoid(shoulder, (21, 21, 21), MARROW * anatomy.bone)


def _paint_organs(painter: _Painter, anatomy: Anatomy) -> None:
    """Heart, great vessels, oesophagus; gas in the stomach."""
    size, blood, r = anatomy.heart_size, anatomy.blood_hu, anatomy.aorta
    shift, depth = anatomy.heart_shift, anatomy.depth
    axes = np.array([[0.78, -0.38, -0.50], [0.44, 0.90, 0.0], [0.45, -0.22, 0.87]])
    low = anatomy.dome_right + 66
    painter.ellipsoid(
        (20 + shift, -20 * depth, -42 + low / 2), (64 * size, 47 * size, 53 * size), SOFT + 5, axes
    )
    if blood > 100:
        painter.ellipsoid((27 + shift, -14 * depth, -48 + low / 2), (36, 22, 26), blood * 0.8, axes)
    painter.ellipsoid((-18, -16, -32 + low / 2), (30 * size, 34 * size, 44 * size), SOFT + 5)
    painter.capsule((-12, -20, -25), (-10, -18, 42), r * 1.15, blood)  # ascending aorta
    painter.capsule((-10, -18, 44), (14, 30, 48), r * 1.05, blood)  # arch
    painter.capsule((20, 40 * depth, 44), (16, 46 * depth, -190), r * 0.92, blood)  # descending
    painter.capsule((-26, -8, 70), (-24, -10, -15), r * 0.72, blood)  # superior vena cava
    painter.capsule((14, -30, -10), (18, -2, 22), r * 1.1, blood)  # pulmonary trunk
    painter.capsule((16, 0, 18), (-40, 8, 4), r * 0.8, blood)  # right pulmonary artery
    painter.capsule((18, 0, 22), (44, 14, 14), r * 0.75, blood)  # left pulmonary artery
    painter.capsule((-28, 12, -14), (0, 14, -18), r * 0.75, blood)  # veins
    painter.capsule((36, 14, -14), (0, 14, -18), r * 0.75, blood)
    for side in (-1, 1):  # vessels of the neck and shoulder
        painter.capsule((side * 10.0, 0, 58), (side * 26.0, 0, 130), r * 0.5, blood)
    painter.capsule((4, 36 * depth, 120), (6, 38 * depth, -150), 7, SOFT)
    if anatomy.stomach_gas:
        painter.ellipsoid((64, -18, anatomy.dome_left - 28), (30, 26, 15), AIR + 80)


def _paint_ribs(painter: _Painter, anatomy: Anatomy, wall: Array) -> None:
    """Twelve pairs of hoops, falling from back to front; cartilage near the breastbone."""
    grid = painter.grid
    x, y, z = grid.coordinates((slice(None), slice(None), slice(None)))
    spacing = anatomy.rib_spacing
    fall = np.float32(anatomy.rib_tilt) * y + np.float32(0.1) * np.abs(x)
    number = (z - fall) / np.float32(spacing) + np.float32(anatomy.rib_phase)
    height = np.abs(number - np.round(number)) * np.float32(spacing)
    flat = np.abs(wall + 6) * np.float32(1.15)  # ribs lie outside the pleura and are flat
    distance = np.sqrt(flat * flat + (height * np.float32(0.8)) ** 2)
    allowed = (z < 112) & (z - fall > -175)
    front = (y < 0) & (np.abs(x) < (50 - 0.22 * np.minimum(z, 60)) * anatomy.width)
    coverage = grid.soften(5.2 - distance) * allowed
    everywhere = (slice(None), slice(None), slice(None))
    value = np.where(front, np.float32(CARTILAGE), np.float32(CORTEX * 0.8 * anatomy.bone))
    painter.blend(everywhere, coverage, value)
    marrow = grid.soften(2.6 - distance) * allowed * ~front
    painter.blend(everywhere, marrow, np.float32(MARROW * 0.9 * anatomy.bone))


def _paint_spine(painter: _Painter, anatomy: Anatomy) -> None:
    """Vertebral bodies with discs between them, canal, arch and processes."""
    grid, bone, depth = painter.grid, anatomy.bone, anatomy.depth
    centre = 58.0 * depth
    where = grid.window((-62, 62, centre - 30, centre + 75, -260, 260))
    x, y, z = grid.coordinates(where)
    bend = np.float32(12) * np.clip((z - 60) / 90, 0, 1.2)  # the neck lies further forward
    y = y + bend
    phase = z / np.float32(anatomy.rib_spacing) + np.float32(anatomy.rib_phase)
    disc = np.clip(6 * np.abs(phase - np.round(phase)) - 0.35, 0, 1)
    radius = np.sqrt((x / np.float32(1.18)) ** 2 + (y - np.float32(centre)) ** 2)
    size = np.float32(16) - np.float32(0.03) * np.clip(z, 0, 150)
    painter.blend(where, grid.soften(size + 4 - radius), SOFT)
    shell = np.float32(CARTILAGE) + disc * np.float32(CORTEX * 0.8 * bone - CARTILAGE)
    painter.blend(where, grid.soften(size - radius), shell)
    core = np.float32(CARTILAGE) + disc * np.float32(MARROW * bone - CARTILAGE)
    painter.blend(where, grid.soften(size - 2.5 - radius), core)
    back = y - np.float32(centre + 24)
    arch = np.abs(np.sqrt((x * np.float32(0.85)) ** 2 + back * back) - 12)
    process = np.maximum(np.abs(x) - 3.2, np.abs(back - 24) - 14)
    wings = np.maximum(np.abs(back - 4 - 0.2 * np.abs(x)) - 4, np.abs(x) - 34)
    bony = np.minimum(np.minimum(arch - 3.4, process), np.maximum(wings, 11 - np.abs(x)))
    presence = np.float32(0.45) + np.float32(0.55) * disc
    painter.blend(where, grid.soften(-bony) * presence, CORTEX * 0.75 * bone)


def _paint_girdle(painter: _Painter, anatomy: Anatomy) -> None:
    """Breastbone, collarbones, shoulder blades, jaw."""
    bone = anatomy.bone
    heights = np.array([-70.0, 70.0], np.float32)
    _, depth, back = cage_outline(anatomy, heights)
    low, high = (float(back[i] - depth[i]) - 9 for i in (0, 1))
    for offset in (-9.0, 0.0, 9.0):
        painter.capsule(
            (offset, low, -55), (offset * 1.4, high, 74), 6.0, CORTEX * 0.6 * bone, core=(4.0, MARROW * bone)
        )
    for side in (-1, 1):
        width = anatomy.width
        start, bend = (side * 16.0, high + 2, 84.0), (side * 75.0 * width, high + 16, 98.0)
        end = (side * 146.0 * width, 4.0, 122.0)
        painter.capsule(start, bend, 6.0, CORTEX * bone, core=(3.2, MARROW * bone))
        painter.capsule(bend, end, 5.5, CORTEX * bone, core=(3.0, MARROW * bone))
        for share in (0.0, 0.33, 0.66, 1.0):  # a thin triangular blade
            top = (side * (100 + 36 * share) * width, (66 - 16 * share) * anatomy.depth, 96.0 + 8 * share)
            tip = (side * (112 + 10 * share) * width, (84 - 10 * share) * anatomy.depth, 2.0)
            painter.capsule(tip, top, 3.6, CORTEX * 0.7 * bone)
    painter.ellipsoid((0, -12, 236), (52, 66, 44), CORTEX * 0.7 * bone)
    painter.ellipsoid((0, -12, 236), (46, 60, 38), SOFT)


def _paint_airways(painter: _Painter, anatomy: Anatomy) -> None:
    """Windpipe and main bronchi with their walls."""
    r, shift, y = anatomy.trachea, anatomy.trachea_shift, 22.0 * anatomy.depth
    carina = (shift, y, 22.0)
    tubes = (
        ((shift, y - 14, 175.0), (shift, y, 70.0), r),
        ((shift, y, 70.0), carina, r),
        (carina, (-34.0, y + 2, 2.0), r * 0.72),
        (carina, (40.0, y + 4, -2.0), r * 0.66),
        ((-34.0, y + 2, 2.0), (-44.0, y + 10, -30.0), r * 0.5),
        ((40.0, y + 4, -2.0), (50.0, y + 14, -30.0), r * 0.48),
        ((-34.0, y + 2, 2.0), (-58.0, y - 4, 22.0), r * 0.4),
        ((40.0, y + 4, -2.0), (60.0, y - 2, 22.0), r * 0.4),
    )
    for start, end, radius in tubes:
        painter.capsule(start, end, radius + 2.2, SOFT)
    for start, end, radius in tubes:
        painter.capsule(start, end, radius, AIR + 20)
