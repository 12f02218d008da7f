"""Smooth random fields in space, cheap on separable grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covid_mm.datasets.thorax.canvas import Array, Grid


@dataclass(frozen=True)
class Waves:
    """A random field of mean 0 and standard deviation about 1: a sum of n plane waves.

    A wave is a product of three complex factors, one an axis, so that a grid costs one matrix
    product. numbers: (3, n) float64 for x, y, z, in radians per mm; phases: (n,) in radians.
    """

    length: float  # typical size in mm
    numbers: Array
    phases: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, length: float, count: int = 24) -> Waves:
        """Waves of a typical size `length` in mm."""
        return cls(length, rng.normal(0, 1 / length, (3, count)), rng.uniform(0, 2 * np.pi, count))

    def seen_on(self, grid: Grid) -> bool:
        """Whether the grid is fine enough to carry the field; a coarse one averages it out."""
        return self.length > grid.edge

    def sample(self, grid: Grid) -> Array:
        """The field on a grid, (z, y, x) float32; (1, 1, 1) of 0 where the grid is too coarse."""
        if not self.seen_on(grid):
            return np.zeros((1, 1, 1), np.float32)
        x, y, z = (
            np.exp(1j * np.outer(axis, numbers)).astype(np.complex64)
            for axis, numbers in zip((grid.x, grid.y, grid.z), self.numbers, strict=True)
        )
        z = z * np.exp(1j * self.phases).astype(np.complex64)
        plane = (z[:, None, :] * y[None, :, :]).reshape(-1, x.shape[1])
        # the real part of plane * x, as one product of real matrices
        left, right = np.concatenate([plane.real, -plane.imag], 1), np.concatenate([x.real, x.imag], 1)
        field: Array = (left @ right.T).reshape(grid.shape)
        return field * np.float32(np.sqrt(2 / x.shape[1]))


def sum_products(x: Array, y: Array, z: Array) -> Array:
    """Sum over n of x[:, n] * y[:, n] * z[:, n] at every (z, y, x)."""
    plane = (z[:, None, :] * y[None, :, :]).reshape(-1, x.shape[1])
    return (plane @ x.T).reshape(len(z), len(y), len(x))
