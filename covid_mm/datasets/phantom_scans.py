"""Whole CT scans of made-up bodies, with lesions of a known extent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax.anatomy import Anatomy
from covid_mm.datasets.thorax.body import Patient
from covid_mm.datasets.thorax.lungs import Lesions
from covid_mm.datasets.thorax.pictures import cut_volume
from covid_mm.errors import UsageError
from covid_mm.imaging import CtScan

LOWEST, HIGHEST = -110.0, 120.0  # mm: from below the diaphragm to above the apices
_AIR_HU, _BONE_HU = -1024, 3071


@dataclass(frozen=True)
class PhantomScan:
    """scan: in HU. lesion_ml, lung_ml: how much tissue is diseased, and how much lung there is."""

    scan: CtScan
    lesion_ml: float
    lung_ml: float


def make_phantom_scan(
    seed: int,
    patches: int,
    *,
    size: float = 1.0,
    spacing: float = 8.0,
    side: int = 192,
    strength: float = 1.0,
) -> PhantomScan:
    """The body number `seed` from the feet to the head, with this many patches of its ground-glass and consolidation.

    The same seed gives the same body whatever the patches; the first few are the same in a body with more, of which
    there are at most 14 to 29. size: of the patches, a factor of their radii. spacing: of the slices, in mm. side:
    pixels. strength 0..1 fades the patches.

    Raises:
        UsageError: negative seed or patches, or slices that make no scan.
    """
    if seed < 0 or patches < 0 or not 1.0 <= spacing <= 50.0 or side < 32:
        raise UsageError(
            "A phantom scan needs seed and patches of at least 0, spacing from 1 to 50 mm and a side of at least 32;"
            f" got seed {seed}, patches {patches}, spacing {spacing:g}, side {side}."
        )
    streams = [np.random.default_rng([seed, part]) for part in range(4)]
    anatomy = Anatomy.draw(streams[0])
    lesions = None
    if patches:
        whole = Lesions.draw(streams[1], anatomy, float(streams[1].uniform(-60, 50)), strength)
        lesions = dataclasses.replace(
            whole,
            centres=whole.centres[:patches],
            radii=size * whole.radii[:patches],
            weights=whole.weights[:patches],
            haze=whole.haze if patches >= len(whole.weights) else 0.0,  # spreads over both lungs
        )
    patient = Patient.draw(streams[2], anatomy, lesions)
    levels = np.arange(LOWEST, HIGHEST + spacing / 2, spacing)
    noise = float(streams[3].uniform(5, 30))
    hu, lungs, diseased, pitch = cut_volume(patient, levels, side, min(spacing, 5.0), noise, streams[3])
    millilitres = spacing * pitch**2 / 1000
    slices = tuple(np.clip(np.rint(part), _AIR_HU, _BONE_HU).astype(np.int16) for part in hu)
    return PhantomScan(
        CtScan(slices, tuple(float(level) for level in levels)),
        float(diseased.sum()) * millilitres,
        float(lungs.sum()) * millilitres,
    )
