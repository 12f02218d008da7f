"""The whole body on any grid of points: nothing is stored as voxels.

The CT slice asks for a fine plane, the X-ray for a coarse volume; both get the same body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax import organs
from covid_mm.datasets.thorax.anatomy import (
    Anatomy,
    chest_wall_distance,
    diaphragm,
    mediastinum_width,
    skin_distance,
)
from covid_mm.datasets.thorax.canvas import AIR, Array, Grid, Painter
from covid_mm.datasets.thorax.lungs import Lesions, LungTexture, Vessels
from covid_mm.datasets.thorax.waves import Waves


@dataclass(frozen=True)
class Patient:
    """One body; lesions is None in a healthy one. wobble: unevenness of the organs' surfaces."""

    anatomy: Anatomy
    wobble: Waves
    texture: LungTexture
    vessels: Vessels
    lesions: Lesions | None

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy, lesions: Lesions | None) -> Patient:
        """The rest of a body from the generator's next numbers, which do not depend on the lesions."""
        return cls(anatomy, Waves.draw(rng, 16), LungTexture.draw(rng), Vessels.draw(rng, anatomy), lesions)


@dataclass(frozen=True)
class Volume:
    """The body on one grid, each array (z, y, x) float32.

    hu: Hounsfield units. lungs: coverage by lung tissue 0..1. lesions: coverage by lesions 0..1.
    """

    hu: Array
    lungs: Array
    lesions: Array


def sample_body(patient: Patient, grid: Grid) -> Volume:
    """The body on a grid, all but the lungs' vessels, which are finer than a grid of the whole."""
    anatomy = patient.anatomy
    painter = Painter(grid)
    x, y, z = grid.coordinates(grid.everywhere)
    skin = skin_distance(anatomy, x, y, z)
    painter.blend(grid.everywhere, grid.soften(skin), organs.FAT)
    wobble = patient.wobble.sample(grid)
    flesh = np.minimum(skin, skin - anatomy.fat + 2 * wobble)  # uneven, yet never through the skin
    painter.blend(grid.everywhere, grid.soften(flesh), organs.MUSCLE)
    organs.paint_limbs(painter, anatomy)
    body = np.clip((painter.hu - AIR) / (organs.FAT - AIR), 0, 1)

    wall = chest_wall_distance(anatomy, x, y, z)
    roof = z - diaphragm(anatomy, x[0], y[0])
    strip = mediastinum_width(anatomy, y, z) + 3 * wobble - np.abs(x - np.float32(2))
    lungs = grid.soften(np.minimum(wall + np.float32(0.7) * wobble, roof)) * (1 - grid.soften(strip))
    tissue = np.float32(anatomy.lung_hu) + np.float32(anatomy.lung_gradient / 160) * y
    tissue = tissue + patient.texture.sample(grid)
    if patient.lesions is None:
        lesions = np.zeros(grid.shape, np.float32)
    else:
        lesions, dense = patient.lesions.sample(grid)
        tissue += lesions * np.maximum(dense - tissue, 0)
    painter.hu += lungs * (tissue - painter.hu)
    painter.air += lungs
    organs.paint_organs(painter, anatomy, wobble)
    organs.paint_ribs(painter, anatomy, wall)
    organs.paint_spine(painter, anatomy)
    organs.paint_girdle(painter, anatomy, skin)
    organs.paint_airways(painter, anatomy)
    painter.hu += (1 - body) * (AIR - painter.hu)  # no bone sticks out of a slim body
    return Volume(hu=painter.hu, lungs=painter.air, lesions=lesions * painter.air)
