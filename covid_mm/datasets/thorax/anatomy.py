"""The numbers that make one body differ from another, and the outlines that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax.canvas import Array

# Half widths and depths at heights z, in millimetres of an average adult.
_LEVELS = (-260.0, -190.0, -100.0, -40.0, 20.0, 60.0, 85.0, 105.0, 118.0, 126.0, 150.0, 172.0, 200.0, 260.0)
_CAGE_WIDTH = (128.0, 136.0, 141.0, 140.0, 134.0, 123.0, 108.0, 84.0, 54.0, 12.0, 8.0, 8.0, 8.0, 8.0)
_CAGE_DEPTH = (92.0, 97.0, 99.0, 97.0, 90.0, 79.0, 67.0, 51.0, 33.0, 8.0, 6.0, 6.0, 6.0, 6.0)
_CAGE_BACK = (3.0, 3.0, 3.0, 3.0, 5.0, 8.0, 12.0, 17.0, 21.0, 23.0, 23.0, 23.0, 23.0, 23.0)
_SKIN_WIDTH = (146.0, 150.0, 154.0, 154.0, 152.0, 154.0, 158.0, 158.0, 146.0, 122.0, 78.0, 56.0, 58.0, 66.0)
_SKIN_DEPTH = (108.0, 112.0, 114.0, 111.0, 105.0, 97.0, 90.0, 82.0, 74.0, 68.0, 60.0, 56.0, 66.0, 82.0)
_MEDIASTINUM = (27.0, 27.0, 27.0, 27.0, 28.0, 32.0, 36.0, 38.0, 38.0, 38.0, 38.0, 38.0, 38.0, 38.0)
_TABLE_Z = np.arange(-260.0, 261.0, 2.0)


def _profile(z: Array, values: tuple[float, ...]) -> Array:
    """The value at each height, interpolated without corners."""
    table = np.interp(_TABLE_Z, _LEVELS, values)
    padded = np.pad(table, 6, mode="edge")
    smooth = np.convolve(padded, np.hanning(15)[1:-1] / np.hanning(15).sum(), mode="valid")
    return np.asarray(np.interp(z, _TABLE_Z, smooth), np.float32)


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
            squareness=float(rng.uniform(0.25, 0.6)),
            fat=float(rng.gamma(3.0, 3.0) + 4.0),
            muscle=float(rng.uniform(0.7, 1.2)),
            lung_hu=float(rng.uniform(-875, -820)),
            lung_gradient=float(rng.uniform(15, 60)),
            dome_right=dome,
            dome_left=dome - float(rng.uniform(2, 16)),
            heart_size=float(rng.uniform(0.95, 1.25)),
            heart_shift=float(rng.uniform(-6, 8)),
            aorta=float(rng.uniform(10.5, 14.5)),
            blood_hu=float(rng.choice([40.0, 40.0, 110.0, 200.0])),
            rib_spacing=float(rng.uniform(22, 26)),
            rib_tilt=float(rng.uniform(0.42, 0.62)),
            rib_phase=float(rng.uniform(0, 1)),
            bone=float(rng.uniform(0.75, 1.15)),
            trachea=float(rng.uniform(7.5, 10.0)),
            trachea_shift=float(rng.uniform(-4, 3)),
            arm_lift=float(rng.uniform(-0.2, 1.2)),
            stomach_gas=bool(rng.random() < 0.6),
        )


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


def skin_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Signed distance in mm to the skin, positive inside; x, y, z broadcast."""
    a, b = (v.reshape(z.shape) for v in skin_outline(anatomy, z.ravel()))
    distance: Array = _squircle(x / a, y / b, 0.4) * np.sqrt(a * b)
    return distance


def mediastinum_width(anatomy: Anatomy, y: Array, z: Array) -> Array:
    """Half width in mm of what keeps the lungs apart: a thin fold in front, wider at the vessels."""
    front = np.minimum(y / np.float32(anatomy.depth) + 6, 0) / np.float32(44)
    share = np.float32(0.08) + np.float32(0.92) * np.exp(-front * front)
    width: Array = _profile(z.ravel(), _MEDIASTINUM).reshape(z.shape) * share
    return width


def diaphragm(anatomy: Anatomy, x: Array, y: Array) -> Array:
    """Height z of the diaphragm above each (x, y): two domes, deep gutters at the side and back."""
    side = np.abs(x) / np.float32(anatomy.width) - 66
    top = np.where(x < 0, np.float32(anatomy.dome_right), np.float32(anatomy.dome_left))
    across = np.where(side > 0, side / 68, side / 120) ** 2
    front = y / np.float32(anatomy.depth) + 14
    along = np.where(front > 0, front / 88, front / 105) ** 2
    return np.asarray(top - 46 * (across + along), np.float32)


def chest_wall_distance(anatomy: Anatomy, x: Array, y: Array, z: Array) -> Array:
    """Signed distance in mm to the pleura, positive inside; x, y, z broadcast."""
    width, depth, back = cage_outline(anatomy, z.ravel())
    shape = z.shape
    a, b, c = (v.reshape(shape) for v in (width, depth, back))
    distance: Array = _squircle(x / a, (y - c) / b, anatomy.squareness) * np.sqrt(a * b)
    return distance


def _squircle(u: Array, v: Array, squareness: float) -> Array:
    """1 at the centre, 0 on a rounded rectangle of half sides 1, negative outside."""
    uu, vv = u * u, v * v
    inside: Array = 1 - np.sqrt(np.maximum(uu + vv - np.float32(squareness) * np.minimum(uu * vv, 1), 0))
    return inside


def lung_distance(anatomy: Anatomy, points: Array) -> Array:
    """About how deep (mm, positive) each (n, 3) point lies in a lung; hollows by organs ignored."""
    x, y, z = (np.asarray(points[:, i], np.float32) for i in range(3))
    wall = chest_wall_distance(anatomy, x, y, z)
    depth: Array = np.minimum(np.minimum(wall, z - diaphragm(anatomy, x, y)), np.abs(x) - 14)
    return depth
