"""Smooth random fields in space, cheap on separable grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax.canvas import Array, Grid


@dataclass(frozen=True)
class Waves:
    """A random field of mean 0 and standard deviation about 1: a sum of standing waves.

    Each of the n waves is a product of three cosines, so that a grid costs one matrix product.
    numbers, phases: (3, n) float64 for x, y, z, in radians per mm and radians.
    """

    numbers: Array
    phases: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, length: float, count: int = 40) -> Waves:
        """Waves of a typical size `length` in mm."""
        return cls(rng.normal(0, 1 / length, (3, count)), rng.uniform(0, 2 * np.pi, (3, count)))

    def sample(self, grid: Grid) -> Array:
        """The field on a grid, (z, y, x) float32."""
        factors = [
            np.cos(np.outer(axis, numbers) + phases).astype(np.float32)
            for axis, numbers, phases in zip((grid.x, grid.y, grid.z), self.numbers, self.phases, strict=True)
        ]
        return sum_products(*factors) * np.float32(np.sqrt(8 / self.numbers.shape[1]))


def sum_products(x: Array, y: Array, z: Array) -> Array:
    """Sum over n of x[:, n] * y[:, n] * z[:, n] at every (z, y, x)."""
    plane = (z[:, None, :] * y[None, :, :]).reshape(-1, x.shape[1])
    return (plane @ x.T).reshape(len(z), len(y), len(x))
