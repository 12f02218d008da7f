"""A layer's cells and the pixels of what the network read."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def interpolation_matrix(length: int, cells: int) -> NDArray[np.float32]:
    """Linear interpolation from `cells` grid points to `length` pixels, ends on ends: (length, cells), read-only."""
    matrix = np.zeros((length, cells), dtype=np.float32)
    position = np.linspace(0.0, cells - 1.0, length)
    below = np.minimum(np.floor(position).astype(int), max(cells - 2, 0))
    share = (position - below).astype(np.float32)
    rows = np.arange(length)
    matrix[rows, below] += 1.0 - share
    if cells > 1:
        matrix[rows, below + 1] += share
    matrix.flags.writeable = False  # one for all who ask
    return matrix


def enlarge_cells(cells: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Maps (n, rows, columns) as (n, side, side), linear between cells, the outer ones at the rim."""
    count, rows, columns = cells.shape
    high = interpolation_matrix(side, rows) @ cells
    # one product of matrices for all maps: NumPy takes half as long again for one each
    wide = high.reshape(count * side, columns) @ interpolation_matrix(side, columns).T
    return np.asarray(wide.reshape(count, side, side), np.float32)


def weigh_by_lungs(
    heatmap: NDArray[np.float32], lungs: NDArray[np.float32], grid: tuple[int, int]
) -> NDArray[np.float32]:
    """A map (side, side) times the lungs' share of each of its cells, both between cells interpolated alike.

    Args:
        heatmap: 0 or more. lungs: (side, side), 0..1, in the same frame. grid: the map's rows and columns of cells.
    """
    rows, columns = grid
    shares = cv2.resize(lungs, (columns, rows), interpolation=cv2.INTER_AREA)
    height, width = heatmap.shape
    weights = interpolation_matrix(height, rows) @ shares @ interpolation_matrix(width, columns).T
    return np.asarray(heatmap * weights, np.float32)
