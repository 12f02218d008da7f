"""Images of several modalities joined within a class (paper, section II.A; it does not say how they were drawn).

Rows are int64 (n, modalities): in each a row index per modality, in the order of the labels given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.config import CLASSES, MODALITIES, Modality, join_titles
from covid_mm.errors import DataError

_TRAINING, _VALIDATION, _POSSIBILITIES = 1, 2, 3  # keep the streams of one seed apart

Labels = Mapping[Modality, ArrayLike]


def training_pairs(labels: Labels, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Rows of one epoch, one class in each, shuffled: pairs of two modalities, triples of three.

    Each class has as many rows as its largest modality; the others are used again in a new order
    once they are through. The same seed and epoch (from 0) give the same rows.

    Raises:
        DataError: where a class lacks a modality, or no class is there.
    """
    generator = np.random.default_rng([seed, _TRAINING, epoch])
    parts = []
    for images in _rows_by_class(labels):
        count = max(map(len, images))
        parts.append(np.stack([_cycle(rows, count, generator) for rows in images], axis=1))
    return generator.permutation(np.concatenate(parts))


def validation_pairs(labels: Labels, *, seed: int) -> NDArray[np.int64]:
    """Fixed rows, one class in each, each image at most once; as many as a class's smallest modality has.

    Raises:
        DataError: where a class lacks a modality, or no class is there.
    """
    generator = np.random.default_rng([seed, _VALIDATION])
    return np.concatenate([_draw_once(images, generator) for images in _rows_by_class(labels)])


def possibility_pairs(labels: Labels, chosen: Mapping[Modality, int], *, seed: int) -> NDArray[np.int64]:
    """Fixed rows in which each modality has a label of its own, which may differ.

    The paper's "four possibilities" are the four choices of two labels. Each image is in at most one row; there
    are as many rows as the smallest modality has such images, perhaps none.

    Args:
        chosen: modality -> the label of its images.
    """
    generator = np.random.default_rng([seed, _POSSIBILITIES, *(chosen[m] for m in labels)])
    return _draw_once([_find_rows(part, chosen[m]) for m, part in labels.items()], generator)


def _find_rows(labels: ArrayLike, label: int) -> NDArray[np.int64]:
    return np.flatnonzero(np.asarray(labels) == label).astype(np.int64)


def _draw_once(images: Sequence[NDArray[np.int64]], generator: np.random.Generator) -> NDArray[np.int64]:
    count = min(map(len, images))
    return np.stack([generator.permutation(rows)[:count] for rows in images], axis=1)


def _cycle(rows: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-count // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:count]


def _rows_by_class(labels: Labels) -> list[list[NDArray[np.int64]]]:
    by_class = []
    for label, name in enumerate(CLASSES):
        images = [_find_rows(part, label) for part in labels.values()]
        if not any(map(len, images)):
            continue
        if not all(map(len, images)):
            counts = ", ".join(
                f"{len(rows)} of {MODALITIES[m].title}" for m, rows in zip(labels, images, strict=True)
            )
            raise DataError(f"Pairs need images of every modality in a class: {name} has {counts}.")
        by_class.append(images)
    if not by_class:
        raise DataError(f"Pairs need images: there is none of {join_titles(labels)}.")
    return by_class
