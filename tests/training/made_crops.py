"""Collections without files and lung crops of them, for tests of what branches learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covid_mm.config import Modality
from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.training.branch_batches import BranchSamples
from covid_mm.training.crops import OTHER, LungCrops

SIZE = 64  # pixels per side that the toy network reads
WIDE = 79  # the same with room


def make_collection(
    name: str,
    labels: Sequence[int | None],
    *,
    modality: Modality = "ct",
    patients: Sequence[str] = (),
    sites: Sequence[str] = (),
) -> Collection:
    """A collection of images that are never opened."""
    images = tuple(
        CollectionImage(
            path=Path(f"{name}/{row}.png"),
            name=f"{name}/{row}.png",
            modality=modality,
            label=label,
            patient=patients[row] if patients else "",
            site=sites[row] if sites else "",
        )
        for row, label in enumerate(labels)
    )
    return Collection(name, modality, images, name, "made up", "none")


def make_crops_of(collection: Collection, seed: int = 0) -> LungCrops:
    """Noise crops of 8 pixels; every image shows lungs."""
    rng = np.random.default_rng(seed)
    count = len(collection.images)
    wide = rng.integers(0, 256, (count, 10, 10), dtype=np.uint8)
    return LungCrops(
        wide=wide,
        exact=wide[:, 1:9, 1:9],
        lungs=np.zeros_like(wide),
        targets=np.zeros_like(wide),
        located=np.array([image.label == 0 for image in collection.images]),
        has_lungs=np.ones(count, bool),
        boxes=np.tile(np.float32([0.1, 0.1, 0.9, 0.9]), (count, 1)),
        labels=np.array([OTHER if i.label is None else i.label for i in collection.images], np.int64),
    )


def make_samples(count: int = 12, seed: int = 0) -> BranchSamples:
    """Crops for the toy network; positive ones, half of them annotated, have a bright disc."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    row, column = np.mgrid[0:WIDE, 0:WIDE]
    discs = np.stack([np.hypot(row - 30 - i % 5, column - 40) < 9 for i in range(count)])
    targets = discs & (labels == 1)[:, None, None]
    crops = np.clip(rng.normal(90, 20, discs.shape) + 90 * targets, 0, 255).astype(np.uint8)
    located = (labels == 0) | (np.arange(count) % 4 == 1)
    return BranchSamples(
        crops=crops,
        lungs=np.zeros_like(crops),
        labels=labels.astype(np.int64),
        sources=(np.arange(count) // 2 % 2).astype(np.int64),
        targets=(255 * (targets & located[:, None, None])).astype(np.uint8),
        located=located,
        hosts=np.zeros(count, bool),
    )
