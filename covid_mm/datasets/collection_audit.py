"""Reading every image of the collections once, and what could mislead a network that learns from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, IMAGE_SIZE, MODALITIES, Modality
from covid_mm.datasets.audit import SourceTally, tally_sources
from covid_mm.datasets.collections import Collection, CollectionReading
from covid_mm.datasets.grouping import near_identical
from covid_mm.datasets.index import CollectionImage
from covid_mm.datasets.manifest import OTHER, RowProblem
from covid_mm.datasets.similarity import SIGNATURE_SIZE, compute_signatures, find_similar_pairs
from covid_mm.datasets.store import FILE_LIMITS
from covid_mm.errors import ImageError
from covid_mm.imaging import read_grey, resize_grey

EXAMPLES = 5  # of each kind of near copy that are kept


@dataclass(frozen=True)
class MixedPatient:
    """A patient with normal and positive images in one collection."""

    collection: str
    patient: str
    normal: int
    positive: int


@dataclass(frozen=True)
class SharedPatient:
    """A patient's name that several collections use."""

    patient: str
    collections: tuple[str, ...]


@dataclass(frozen=True)
class NearCopies:
    """Near-identical images within one collection (first = second) or across two.

    pairs: how many; of_other_labels: how many of them bear different labels. examples: the most alike.
    """

    first: str
    second: str
    pairs: int
    of_other_labels: int
    examples: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class CollectionAudit:
    """All findings on one modality's collections.

    one_class: collections without images of one class. names: how far the collection's name alone gives
    the class away. unknown_patients: images without a patient.
    """

    one_class: tuple[str, ...]
    names: SourceTally
    mixed_patients: tuple[MixedPatient, ...]
    shared_patients: tuple[SharedPatient, ...]
    unknown_patients: int
    near_copies: tuple[NearCopies, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; classes by name."""
        content = dataclasses.asdict(dataclasses.replace(self, names=None))  # type: ignore[arg-type]
        counts = {name: dict(zip(CLASSES, pair, strict=True)) for name, pair in self.names.counts.items()}
        content["names"] = {
            "counts": counts,
            "guess_accuracy": self.names.guess_accuracy,
            "majority_accuracy": self.names.majority_accuracy,
        }
        return content


@dataclass(frozen=True)
class ImageCheck:
    """What decoding a collection's images gave.

    signatures: (n, 1024) float32, as `similarity.compute_signatures`, zeros for an image that can't be
    read. problems: (image, problem), in the images' order.
    """

    signatures: NDArray[np.float32]
    problems: tuple[tuple[CollectionImage, RowProblem], ...]


def check_images(collection: Collection) -> ImageCheck:
    """Decode every image and mask of a collection once."""
    signatures = np.zeros((len(collection.images), SIGNATURE_SIZE**2), dtype=np.float32)

    def check(position: int) -> list[RowProblem]:
        image = collection.images[position]
        try:
            grey = read_grey(image.path, limits=FILE_LIMITS)
        except ImageError as error:
            return [RowProblem(image.row, "file", str(error))]
        signatures[position] = compute_signatures(resize_grey(grey, IMAGE_SIZE)[np.newaxis])[0]
        masks = {"lesion_mask": image.lesion_mask, "lung_mask": image.lung_mask}
        return [
            RowProblem(image.row, column, message)
            for column, path in masks.items()
            if path is not None and (message := _check_mask(path, grey.shape))
        ]

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(check, range(len(collection.images))))
    return ImageCheck(
        signatures,
        tuple(
            (image, problem)
            for image, problems in zip(collection.images, outcomes, strict=True)
            for problem in problems
        ),
    )


def audit_collections(
    collections: Sequence[Collection], signatures: Sequence[NDArray[np.float32]]
) -> CollectionAudit:
    """Every finding on collections of one modality; signatures: each one's, as `check_images` gives them."""
    records = [
        dataclasses.replace(record, source=collection.name)
        for collection in collections
        for record in collection.to_dataset().records
    ]
    images = [(collection, image) for collection in collections for image in collection.images]
    return CollectionAudit(
        one_class=tuple(collection.name for collection in collections if not collection.has_both_classes),
        names=tally_sources(records),
        mixed_patients=_find_mixed_patients(collections),
        shared_patients=_find_shared_patients(collections),
        unknown_patients=sum(not image.patient for _, image in images),
        near_copies=_find_near_copies(images, signatures) if images else (),
    )


def _find_mixed_patients(collections: Sequence[Collection]) -> tuple[MixedPatient, ...]:
    mixed = []
    for collection in collections:
        counts: dict[str, list[int]] = {}
        for image in collection.images:
            if image.patient and image.label is not None:
                counts.setdefault(image.patient, [0, 0])[image.label] += 1
        mixed += [
            MixedPatient(collection.name, patient, *pair)
            for patient, pair in sorted(counts.items())
            if min(pair) > 0
        ]
    return tuple(mixed)


def _find_shared_patients(collections: Sequence[Collection]) -> tuple[SharedPatient, ...]:
    names: dict[str, dict[str, None]] = {}
    for collection in collections:
        for image in collection.images:
            if image.patient:
                names.setdefault(image.patient, {})[collection.name] = None
    return tuple(
        SharedPatient(patient, tuple(holders))
        for patient, holders in sorted(names.items())
        if len(holders) > 1
    )


def _find_near_copies(
    images: list[tuple[Collection, CollectionImage]], signatures: Sequence[NDArray[np.float32]]
) -> tuple[NearCopies, ...]:
    modality: Modality = images[0][0].modality
    similar: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for i, j, similarity in find_similar_pairs(np.concatenate(signatures), near_identical(modality)):
        similar.setdefault((images[i][0].name, images[j][0].name), []).append((-similarity, i, j))
    return tuple(
        NearCopies(
            first=first,
            second=second,
            pairs=len(pairs),
            of_other_labels=sum(images[i][1].label != images[j][1].label for _, i, j in pairs),
            examples=tuple(
                (images[i][1].name, images[j][1].name, round(-minus, 4))
                for minus, i, j in sorted(pairs)[:EXAMPLES]
            ),
        )
        for (first, second), pairs in similar.items()
    )


def _check_mask(path: Path, shape: tuple[int, ...]) -> str:
    """What is wrong with a mask of an image (height, width), "" where nothing is."""
    try:
        mask = read_grey(path, limits=FILE_LIMITS)
    except ImageError as error:
        return str(error)
    if mask.shape != shape:
        sizes = [f"{width} x {height}" for height, width in (shape, mask.shape)]
        return f"expected the image's size, {sizes[0]} pixels, got {sizes[1]}; save the mask in the image's frame"
    if not np.isin(mask, (0.0, 255.0)).all():
        return "expected the values 0 and 255 only; save the mask as PNG, not JPEG, with 255 inside"
    return ""


@dataclass(frozen=True)
class DataCheck:
    """What `check-data` found: problems are (file, row or 0, column, message)."""

    collections: tuple[Collection, ...]
    problems: tuple[tuple[str, int, str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    audits: dict[Modality, CollectionAudit]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "collections": [summarise_collection(collection) for collection in self.collections],
            "problems": [
                dict(zip(("file", "row", "column", "message"), problem, strict=True))
                for problem in self.problems
            ],
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
            "audit": {modality: audit.to_dict() for modality, audit in self.audits.items()},
        }


def check_data(readings: tuple[CollectionReading, ...]) -> DataCheck:
    """Decode every image of the collections once, and audit them."""
    problems: list[tuple[str, int, str, str]] = []
    signatures = {}
    collections = tuple(reading.collection for reading in readings if reading.collection is not None)
    for reading in readings:
        if reading.error and not reading.skipped:
            problems.append((reading.file, 0, "", reading.error))
        rows = [(file, problem.row, problem.column, problem.message) for file, problem in reading.problems]
        if reading.collection is not None:
            checked = check_images(reading.collection)
            signatures[reading.collection.name] = checked.signatures
            rows += [
                (reading.file if image.row else image.name, problem.row, problem.column, problem.message)
                for image, problem in checked.problems
            ]
        problems += sorted(rows, key=lambda one: (one[0], one[1]))
    audits: dict[Modality, CollectionAudit] = {}
    for modality in MODALITIES:
        members = [collection for collection in collections if collection.modality == modality]
        if members:
            audits[modality] = audit_collections(members, [signatures[member.name] for member in members])
    skipped = tuple((reading.file, reading.error) for reading in readings if reading.skipped)
    return DataCheck(collections, tuple(problems), skipped, audits)


def summarise_collection(collection: Collection) -> dict[str, Any]:
    """Name, counts and annotations of a collection, as plain values for JSON."""
    images = collection.images
    return {
        "name": collection.name,
        "title": collection.title,
        "modality": collection.modality,
        "counts": dict(zip((*CLASSES, OTHER), collection.counts, strict=True)),
        "patients": len({image.patient for image in images if image.patient}),
        "sites": len({image.site for image in images if image.site}),
        "boxes": sum(bool(image.boxes) for image in images),
        "lesion_masks": sum(image.lesion_mask is not None for image in images),
        "lung_masks": sum(image.lung_mask is not None for image in images),
        "source": collection.source,
        "licence": collection.licence,
    }
