"""What makes a split's validation figures look better than they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, Modality
from covid_mm.datasets.grouping import near_identical
from covid_mm.datasets.index import ImageRecord, count_labels
from covid_mm.datasets.similarity import compute_signatures, find_similar_across
from covid_mm.datasets.split import Split

UNKNOWN_SOURCE = "not known"


@dataclass(frozen=True)
class CrossPair:
    """One image on each side, by name, and the correlation of their 32 x 32 reductions (1 for copies)."""

    train: str
    validation: str
    similarity: float


@dataclass(frozen=True)
class SharedPatient:
    """A patient or study with images on both sides: how many on each."""

    group: str
    train: int
    validation: int


@dataclass(frozen=True)
class SourceTally:
    """How far an image's source gives its class away.

    counts: source -> images per class, in the order of CLASSES. one_sided: the sources that hold one
    class only. guess_accuracy: share right when every image is given its source's more frequent
    class; majority_accuracy: the same without knowing the source. Equal figures mean no
    confounding, a guess_accuracy of 1 a complete one.
    """

    counts: Mapping[str, tuple[int, int]]
    one_sided: tuple[str, ...]
    guess_accuracy: float
    majority_accuracy: float


@dataclass(frozen=True)
class SplitAudit:
    """All findings on one modality's split. unknown_patients: images whose patient is not known."""

    exact_duplicates: tuple[CrossPair, ...]
    near_duplicates: tuple[CrossPair, ...]
    shared_patients: tuple[SharedPatient, ...]
    unknown_patients: int
    sources: SourceTally

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; classes by name."""
        content = dataclasses.asdict(dataclasses.replace(self, sources=None))  # type: ignore[arg-type]
        content["sources"] = {
            **dataclasses.asdict(dataclasses.replace(self.sources, counts={})),
            "counts": {
                source: dict(zip(CLASSES, counts, strict=True))
                for source, counts in self.sources.counts.items()
            },
        }
        return content


def audit_split(
    split: Split,
    train_images: NDArray[np.float32],
    validation_images: NDArray[np.float32],
    modality: Modality,
) -> SplitAudit:
    """Run every check on one modality; the images are the sides' (n, size, size), 0..255, in order."""
    records = (*split.train, *split.validation)
    exact = find_exact_duplicates(split, train_images, validation_images)
    return SplitAudit(
        exact_duplicates=exact,
        near_duplicates=find_near_duplicates(
            split, train_images, validation_images, threshold=near_identical(modality)
        ),
        shared_patients=find_shared_patients(split),
        unknown_patients=sum(record.group is None for record in records),
        sources=tally_sources(records),
    )


def find_exact_duplicates(
    split: Split, train_images: NDArray[np.float32], validation_images: NDArray[np.float32]
) -> tuple[CrossPair, ...]:
    """Images of equal pixels, as the network reads them, on both sides."""
    by_hash: dict[bytes, list[int]] = {}
    for row, image in enumerate(train_images):
        by_hash.setdefault(_hash_pixels(image), []).append(row)
    return tuple(
        CrossPair(split.train[row].name, split.validation[other].name, 1.0)
        for other, image in enumerate(validation_images)
        for row in by_hash.get(_hash_pixels(image), [])
    )


def find_near_duplicates(
    split: Split,
    train_images: NDArray[np.float32],
    validation_images: NDArray[np.float32],
    *,
    threshold: float,
) -> tuple[CrossPair, ...]:
    """Images alike by at least `threshold` on both sides, most alike first, without the exact copies."""
    exact = {
        (pair.train, pair.validation)
        for pair in find_exact_duplicates(split, train_images, validation_images)
    }
    pairs = find_similar_across(
        compute_signatures(train_images), compute_signatures(validation_images), threshold
    )
    similar = [
        CrossPair(split.train[i].name, split.validation[j].name, round(similarity, 4))
        for i, j, similarity in pairs
        if (split.train[i].name, split.validation[j].name) not in exact
    ]
    return tuple(sorted(similar, key=lambda pair: (-pair.similarity, pair.train, pair.validation)))


def find_shared_patients(split: Split) -> tuple[SharedPatient, ...]:
    """Known patients and studies with images on both sides, by name."""
    train, validation = (
        _count(record.group for record in side if record.group is not None)
        for side in (split.train, split.validation)
    )
    return tuple(
        SharedPatient(group, train[group], validation[group]) for group in sorted(train.keys() & validation)
    )


def tally_sources(records: Iterable[ImageRecord]) -> SourceTally:
    """Each source's images per class, and how well the source alone would tell the class.

    A record without a source counts under `not known`.
    """
    by_source: dict[str, list[ImageRecord]] = {}
    for record in records:
        by_source.setdefault(record.source or UNKNOWN_SOURCE, []).append(record)
    counts = {source: count_labels(members) for source, members in sorted(by_source.items())}
    totals = [sum(count[label] for count in counts.values()) for label in range(len(CLASSES))]
    everything = sum(totals) or 1
    return SourceTally(
        counts=counts,
        one_sided=tuple(source for source, count in counts.items() if min(count) == 0),
        guess_accuracy=sum(max(count) for count in counts.values()) / everything,
        majority_accuracy=max(totals) / everything,
    )


def _hash_pixels(image: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image, dtype=np.float32).tobytes()).digest()


def _count(groups: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + 1
    return counts
