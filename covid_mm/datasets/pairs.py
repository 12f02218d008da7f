"""CT slices and X-rays paired within a class (paper, section II.A; it does not say how they were drawn)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.config import CLASSES
from covid_mm.errors import DataError

_TRAINING, _VALIDATION, _POSSIBILITIES = 1, 2, 3  # keep the streams of one seed apart


def training_pairs(
    ct_labels: ArrayLike, xray_labels: ArrayLike, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Pairs of one epoch: (n, 2) int64 row indices (CT, X-ray) of one class each, shuffled.

    Each class has as many pairs as its larger side; the smaller side is used again in a new order
    once it is through. The same seed and epoch (from 0) give the same pairs.

    Raises:
        DataError: where a class is on one side only, or no class is there.
    """
    generator = np.random.default_rng([seed, _TRAINING, epoch])
    pairs = []
    for ct, xray in _rows_by_class(ct_labels, xray_labels):
        count = max(len(ct), len(xray))
        pairs.append(np.stack([_cycle(ct, count, generator), _cycle(xray, count, generator)], axis=1))
    return generator.permutation(np.concatenate(pairs))


def validation_pairs(ct_labels: ArrayLike, xray_labels: ArrayLike, *, seed: int) -> NDArray[np.int64]:
    """Fixed pairs: (n, 2) int64 row indices (CT, X-ray) of one class each, each image at most once.

    Each class has as many pairs as its smaller side.

    Raises:
        DataError: where a class is on one side only, or no class is there.
    """
    generator = np.random.default_rng([seed, _VALIDATION])
    pairs = []
    for ct, xray in _rows_by_class(ct_labels, xray_labels):
        count = min(len(ct), len(xray))
        pairs.append(
            np.stack([generator.permutation(ct)[:count], generator.permutation(xray)[:count]], axis=1)
        )
    return np.concatenate(pairs)


def possibility_pairs(
    ct_labels: ArrayLike, xray_labels: ArrayLike, *, ct_label: int, xray_label: int, seed: int
) -> NDArray[np.int64]:
    """Fixed pairs of a CT slice of one label with an X-ray of one label: (n, 2) int64 row indices.

    The paper's "four possibilities" are the four choices of the two labels. Each image is in at
    most one pair; there are as many pairs as the smaller side has images, perhaps none.
    """
    generator = np.random.default_rng([seed, _POSSIBILITIES, ct_label, xray_label])
    ct = generator.permutation(np.flatnonzero(np.asarray(ct_labels) == ct_label))
    xray = generator.permutation(np.flatnonzero(np.asarray(xray_labels) == xray_label))
    count = min(len(ct), len(xray))
    return np.stack([ct[:count], xray[:count]], axis=1).astype(np.int64)


def _cycle(rows: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-count // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:count]


def _rows_by_class(
    ct_labels: ArrayLike, xray_labels: ArrayLike
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    sides = [np.asarray(ct_labels), np.asarray(xray_labels)]
    found = []
    for label, name in enumerate(CLASSES):
        ct, xray = (np.flatnonzero(side == label).astype(np.int64) for side in sides)
        if len(ct) == 0 and len(xray) == 0:
            continue
        if len(ct) == 0 or len(xray) == 0:
            raise DataError(
                f"Pairs need both modalities of a class: {name} has {len(ct)} CT slices and {len(xray)}"
                " X-rays."
            )
        found.append((ct, xray))
    if not found:
        raise DataError("Pairs need images: there is no CT slice and no X-ray.")
    return found
