"""Radiological pictures that are neither an axial chest slice nor a frontal chest film.

The content check learns from them what it has to refuse though it looks medical: the
same bodies from other sides, cuts through the belly, heads, arms and legs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from covid_mm.datasets.thorax.anatomy import Anatomy, skin_outline
from covid_mm.datasets.thorax.body import Patient, sample_body
from covid_mm.datasets.thorax.canvas import Array, Grid, Painter
from covid_mm.datasets.thorax.organs import FAT, MUSCLE
from covid_mm.datasets.thorax.pictures import blur

SIDE = 128  # pixels per side at which each is made
_BONE, _MARROW, _BRAIN = 900.0, 250.0, 35.0  # HU
_WATER = 0.019  # attenuation of water per mm at about 70 keV

View = Callable[[np.random.Generator], Array]


def draw_other_view(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture of a randomly chosen kind, uint8 (128, 128)."""
    view = VIEWS[[*VIEWS][int(rng.integers(len(VIEWS)))]]
    return np.clip(np.rint(view(rng)), 0, 255).astype(np.uint8)


def cut_coronal(rng: np.random.Generator) -> Array:
    """A frontal CT cut, lung or soft tissue window."""
    patient = _draw_patient(rng)
    half = 170 * patient.anatomy.width
    grid = Grid.of(
        np.linspace(-half, half, SIDE),
        np.array([rng.uniform(-40, 40)]),
        np.linspace(190, -170, SIDE),
        edge=2.5,
    )
    flipped = Grid(grid.x, grid.y, grid.z[::-1], grid.edge)
    return _window(sample_body(patient, flipped).hu[::-1, 0], rng)


def cut_sagittal(rng: np.random.Generator) -> Array:
    """A CT cut from front to back, lung or soft tissue window."""
    patient = _draw_patient(rng)
    grid = Grid.of(
        np.array([rng.uniform(-90, 90)]), np.linspace(-150, 150, SIDE), np.linspace(-170, 190, SIDE), edge=2.5
    )
    return _window(sample_body(patient, grid).hu[::-1, :, 0], rng)


def cut_belly(rng: np.random.Generator) -> Array:
    """An axial CT cut well below the lungs."""
    patient = _draw_patient(rng)
    level = float(rng.uniform(-260, -190))
    half, depth = (float(v[0]) for v in skin_outline(patient.anatomy, np.array([level], np.float32)))
    grid = Grid.of(
        np.linspace(-half * 1.1, half * 1.1, SIDE),
        np.linspace(-depth * 1.1, depth * 1.1, SIDE),
        np.array([level]),
        edge=2.5,
    )
    return _window(sample_body(patient, grid).hu[0], rng)


def project_lateral(rng: np.random.Generator) -> Array:
    """A chest film from the side."""
    patient = _draw_patient(rng)
    grid = Grid.of(np.linspace(-190, 190, 40), np.linspace(-150, 150, 96), np.linspace(-170, 170, 96), edge=6)
    hu = sample_body(patient, grid).hu[::-1]
    return _develop(np.maximum(1 + hu / 1000, 0).sum(axis=2) * np.float32(380 / 39), rng)


def cut_head(rng: np.random.Generator) -> Array:
    """An axial CT cut of a head, soft tissue or bone window."""
    grid = Grid.of(np.linspace(-100, 100, SIDE), np.linspace(-120, 120, SIDE), np.array([0.0]), edge=2)
    painter = Painter(grid)
    width, length, skull = rng.uniform(60, 78), rng.uniform(78, 98), rng.uniform(5, 9)
    for inset, value in ((0.0, FAT), (5.0, _BONE), (5.0 + skull, _BRAIN)):
        painter.ellipsoid((0, 0, 0), (width - inset, length - inset, 60), value)
    for side in (-1, 1):
        centre = (side * rng.uniform(8, 14), rng.uniform(-20, 10), 0.0)
        painter.ellipsoid(centre, (rng.uniform(4, 8), rng.uniform(15, 28), 20), 5.0)
    level, width_hu = (40.0, rng.uniform(80, 200)) if rng.random() < 0.6 else (500.0, 2000.0)
    return np.asarray(np.clip((painter.hu[0] - (level - width_hu / 2)) / width_hu, 0, 1) * 255, np.float32)


def project_limb(rng: np.random.Generator) -> Array:
    """A film of an arm or a leg: two bones or one, with a joint."""
    grid = Grid.of(np.linspace(-90, 90, 96), np.linspace(-60, 60, 24), np.linspace(-120, 120, 96), edge=3)
    painter = Painter(grid)
    lean = rng.uniform(-25, 25)
    painter.capsule((-lean, 0, -150), (lean, 0, 150), float(rng.uniform(40, 58)), MUSCLE)
    offsets = (0.0,) if rng.random() < 0.4 else (-float(rng.uniform(11, 20)), float(rng.uniform(11, 20)))
    joint = float(rng.uniform(-60, 60))
    for offset in offsets:
        for low, high in ((-150.0, joint - 3), (joint + 3, 150.0)):
            radius = float(rng.uniform(6, 13))
            start = (offset + lean * low / 150, 0.0, low)
            end = (offset + lean * high / 150, 0.0, high)
            painter.capsule(start, end, radius, _BONE, core=(radius * 0.6, _MARROW))
            painter.ellipsoid(
                (offset + lean * joint / 150, 0, low if low > -150 else high),
                (radius * 1.5, radius * 1.4, radius * 1.2),
                _BONE * 0.6,
            )
    path = np.maximum(1 + painter.hu / 1000, 0).sum(axis=1) * np.float32(120 / 23)
    return _develop(path[::-1], rng)


def project_skull(rng: np.random.Generator) -> Array:
    """A film of a head from the side."""
    grid = Grid.of(np.linspace(-90, 90, 32), np.linspace(-125, 125, 96), np.linspace(-125, 125, 96), edge=3)
    painter = Painter(grid)
    painter.capsule((0, 20, -60), (0, 20, -140), float(rng.uniform(35, 50)), MUSCLE)
    radii = np.array([70.0, 95.0, 85.0]) * rng.uniform(0.9, 1.1)
    for inset, value in ((0.0, MUSCLE), (6.0, _BONE), (12.0, _BRAIN)):
        w, d, h = (float(radius - inset) for radius in radii)
        painter.ellipsoid((0, 0, 25), (w, d, h), value)
    painter.capsule((0, -70, -60), (0, -20, -80), 12.0, _BONE * 0.7)
    for number in range(5):
        painter.ellipsoid((0, 30, -75 - 14.0 * number), (14, 14, 6), _BONE * 0.7)
    path = np.maximum(1 + painter.hu / 1000, 0).sum(axis=2) * np.float32(180 / 31)
    return _develop(path[::-1], rng)


VIEWS: dict[str, View] = {
    "coronal CT": cut_coronal,
    "sagittal CT": cut_sagittal,
    "abdominal CT": cut_belly,
    "lateral chest film": project_lateral,
    "head CT": cut_head,
    "limb film": project_limb,
    "skull film": project_skull,
}


def _draw_patient(rng: np.random.Generator) -> Patient:
    return Patient.draw(rng, Anatomy.draw(rng), None)


def _window(hu: Array, rng: np.random.Generator) -> Array:
    """A lung window more often than a soft tissue one; 0..255 with a little noise."""
    level, width = (-550.0, 1500.0) if rng.random() < 0.6 else (40.0, 400.0)
    noisy = hu + rng.normal(0, rng.uniform(5, 25), hu.shape)
    return np.clip((noisy - (level - width / 2)) / width, 0, 1) * 255


def _develop(path: Array, rng: np.random.Generator) -> Array:
    """Film brightness 0..255 from mm of water along each ray."""
    signal = _WATER * path + rng.normal(0, rng.uniform(0.01, 0.05), path.shape)
    signal = signal + 0.5 * (signal - blur(signal.astype(np.float32), 8))
    low, high = np.percentile(signal, [2, 99.5])
    shade = np.clip((signal - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray(np.log1p(3 * shade) / np.log1p(3) * 235, np.float32)
