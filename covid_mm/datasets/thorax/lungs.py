"""What fills the phantom's lungs: the vessel tree, the grain of the tissue, and the lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax.anatomy import Anatomy, cage_outline, diaphragm, lung_distance
from covid_mm.datasets.thorax.canvas import Array, Grid
from covid_mm.datasets.thorax.waves import Waves, sum_products


@dataclass(frozen=True)
class LungTexture:
    """Fine and coarse unevenness of healthy lung, in HU."""

    coarse: Waves
    fine: Waves
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LungTexture:
        """Texture from the generator's next numbers."""
        return cls(Waves.draw(rng, 14), Waves.draw(rng, 2.6, 32), float(rng.uniform(6, 16)))

    def sample(self, grid: Grid) -> Array:
        """HU to add, (z, y, x)."""
        return (self.coarse.sample(grid) + self.fine.sample(grid)) * np.float32(self.strength)


@dataclass(frozen=True)
class Lesions:
    """Ground-glass patches, some with consolidated cores, most under the pleura at the back.

    centres, radii: (n, 3) in mm. weights: (n,) how dense. patchiness: how far the coarse noise
    breaks the patches up. strength 0..1 scales them all; 0 is a healthy lung.
    """

    centres: Array
    radii: Array
    weights: Array
    coarse: Waves
    fine: Waves
    patchiness: float
    glass_hu: float
    solid_hu: float
    consolidation: float  # 0: pure ground-glass, 1: mostly consolidated
    paving: float  # strength of thickened septa within ground-glass (crazy paving), 0..1
    haze: float  # faint ground-glass all around the patches, share of their density
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy, level: float, strength: float) -> Lesions:
        """Lesions from the generator's next numbers; some lie at `level`, the height of the slice."""
        count = int(rng.integers(14, 30))
        side = rng.choice([-1.0, 1.0], count)
        if rng.random() < 0.2:  # mostly one lung
            side = np.where(rng.random(count) < 0.85, side[0], side)
        near = rng.random(count) < 0.35
        near[:3] = True
        z = np.where(near, rng.normal(level, 14, count), rng.normal(-40, 30, count))
        z = np.clip(z, -100, 85)
        angle = np.abs(rng.normal(0, 0.75, count))  # from the back round to the front
        angle = np.where(rng.random(count) < 0.15, rng.uniform(0, 2.6, count), angle) + 0.35
        width, depth, back = cage_outline(anatomy, z.astype(np.float32))
        inward = rng.uniform(0.62, 0.95, count)
        x = side * np.sin(angle) * width * inward
        y = back + np.cos(angle) * depth * inward
        floor = diaphragm(anatomy, x.astype(np.float32), y.astype(np.float32)) + 6
        size = rng.uniform(12, 32, count)[:, None]
        return cls(
            centres=np.stack([x, y, np.maximum(z, floor)], axis=1),
            radii=size * rng.uniform([0.7, 0.6, 0.8], [1.2, 1.0, 1.5], (count, 3)),
            weights=rng.uniform(0.8, 1.6, count),
            coarse=Waves.draw(rng, 7),
            fine=Waves.draw(rng, 3.0, 32),
            patchiness=float(rng.uniform(0.3, 0.65)),
            glass_hu=float(rng.uniform(-600, -330)),
            solid_hu=float(rng.uniform(-60, 30)),
            consolidation=float(rng.uniform(0, 1) ** 2),
            paving=float(rng.uniform(0.3, 1)) if rng.random() < 0.5 else 0.0,
            haze=float(rng.uniform(0.15, 0.33)),
            strength=strength,
        )

    def sample(self, grid: Grid) -> tuple[Array, Array]:
        """(coverage 0..1, HU of the diseased tissue), each (z, y, x)."""
        factors = [
            np.exp(-0.5 * ((axis[:, None] - self.centres[:, i]) / self.radii[:, i]) ** 2).astype(np.float32)
            for i, axis in enumerate((grid.x, grid.y, grid.z))
        ]
        factors[0] *= self.weights.astype(np.float32)
        amount = sum_products(*factors)
        coarse, fine = self.coarse.sample(grid), self.fine.sample(grid)
        amount *= 1 + np.float32(self.patchiness) * coarse + np.float32(0.12) * fine
        glass = np.clip((amount - np.float32(0.32)) * np.float32(2.0), 0, 1)
        threshold = np.float32(1.9 - 1.0 * self.consolidation)
        solid = np.clip((amount + np.float32(0.1) * fine - threshold) * np.float32(2.2), 0, 1)
        dense = np.float32(self.glass_hu) + np.float32(60) * fine
        if self.paving:
            septa = np.clip(1 - np.abs(fine) * np.float32(4.5), 0, 1) if self.fine.seen_on(grid) else 0.18
            dense = dense + np.float32(260 * self.paving) * septa
        dense = dense + solid * (np.float32(self.solid_hu) - dense)
        height = grid.z[:, None, None]
        spread = np.float32(self.haze) * np.exp(-(((height + 25) / np.float32(60)) ** 2))
        cover = np.maximum(glass, spread * (1 + np.float32(0.3) * coarse))
        return np.clip(cover, 0, 1) * np.float32(self.strength), dense


@dataclass(frozen=True)
class Vessels:
    """Points along the pulmonary arteries and veins: (n, 3) centres and (n,) radii in mm."""

    points: Array
    radii: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy) -> Vessels:
        """Two trees that grow from the hila by forking, generation by generation."""
        points, radii = [], []
        for side in (-1.0, 1.0):
            roots = 18
            start = np.array([side * 34.0, 14.0, 2.0]) + rng.normal(0, [3, 7, 11], (roots, 3))
            fan = np.linspace(-1.35, 1.3, roots) + rng.normal(0, 0.12, roots)
            swing = rng.uniform(-1.15, 1.15, roots)
            heading = np.stack(
                [side * np.cos(fan) * np.cos(swing), np.cos(fan) * np.sin(swing), np.sin(fan)], axis=1
            )
            radius = rng.uniform(2.8, 6.0, roots)
            for generation in range(8):
                length = rng.uniform(0.7, 1.3, len(start)) * (25.0 * 0.88**generation)
                steps = np.linspace(0, 1, 16)[None, :, None]
                curve = rng.normal(0, 0.12, (len(start), 1, 3))
                path = start[:, None] + length[:, None, None] * steps * (heading[:, None] + curve * steps)
                thickness = radius[:, None] * np.linspace(1, 0.86, 16)
                inside = lung_distance(anatomy, path.reshape(-1, 3)).reshape(path.shape[:2]) > 2.5
                inside = np.logical_and.accumulate(inside | (generation == 0), axis=1)
                points.append(path[inside])
                radii.append(thickness[inside])
                alive = inside[:, -1]
                end, tip = path[alive, -1], heading[alive] + curve[alive, 0]
                if not len(end):
                    break
                turn = rng.normal(0, 0.34, (len(end), 3))
                heading = np.concatenate([tip + turn, tip - turn + rng.normal(0, 0.15, turn.shape)])
                heading /= np.linalg.norm(heading, axis=1, keepdims=True)
                start = np.concatenate([end, end])
                share = rng.uniform(0.68, 0.82, len(end))
                radius = np.concatenate([radius[alive] * share, radius[alive] * (1.44 - share)])
                keep = radius > 0.4
                start, heading, radius = start[keep], heading[keep], radius[keep]
        return cls(np.concatenate(points), np.concatenate(radii))
