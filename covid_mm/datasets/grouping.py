"""Which images must stay on one side of a split: patients, near-identical images, runs of CT slices.

Thresholds, as measured on the two data sets with the signatures of `similarity.py` at 150 x 150:

CT (2,481 slices of 120 patients, without a patient table). ANYWHERE: the most alike COVID and
non-COVID slices, surely two patients, correlate by 0.937. IN_A_RUN: neighbours in file-number order
pass it in 75 % (non-COVID) and 85 % (COVID) of cases, slices over 100 numbers apart in 10 % and 7 %.
The result is 193 groups, the largest of 85 slices, 71 of one; no group
mixes the classes, and across a split by them no two slices correlate by 0.94 (at random: 1.0).

X-ray (5,279 films). DUPLICATE_FILM: beside films of one named patient, one pair lies above it (0.989,
by eye one patient); the most alike strangers correlate by 0.975.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import IMAGE_SIZE, MODALITIES, ImageKind, Modality
from covid_mm.datasets.index import Dataset, ImageRecord
from covid_mm.datasets.similarity import compute_signatures, find_similar_pairs
from covid_mm.datasets.store import load_images

ANYWHERE = 0.94
IN_A_RUN = 0.75
RUN_LENGTH = 5  # file numbers that two slices of one run may lie apart
DUPLICATE_FILM = 0.98
LARGEST_SHARE = 0.2  # of all images; larger clusters are chains of strangers
# Where a cluster grows larger, both thresholds are raised, step by step; copies always stay together.
_STEPS: dict[ImageKind, tuple[tuple[float, float], ...]] = {
    "slice": ((IN_A_RUN, ANYWHERE), (0.85, 0.97), (0.92, 0.985), (0.97, 0.995), (2.0, 0.9999)),
    "film": ((2.0, DUPLICATE_FILM), (2.0, 0.99), (2.0, 0.995), (2.0, 0.9999)),
}


def group_records(dataset: Dataset, images: NDArray[np.float32] | None = None) -> NDArray[np.int64]:
    """A group number (n,) int64 for each record: records of one number belong on one side.

    Joined are records of one `group` (None joins nothing), near-identical images, and, where the
    data set says that it is in order, similar slices of one class within RUN_LENGTH file numbers
    together with all slices between them.

    images: the records' images, (n, 150, 150) float32. At any other size, or without, the files
    are decoded again, so that the groups don't depend on the size that a network trains at.

    Raises:
        DataError: where a file can't be read.
    """
    if images is None or images.shape != (len(dataset.records), IMAGE_SIZE, IMAGE_SIZE):
        images = load_images(dataset.records)
    signatures = compute_signatures(images)
    known = join_pairs(len(dataset.records), _known_pairs(dataset.records))
    limit = max(LARGEST_SHARE * len(known), largest_group(known), 2.0)
    groups = known
    for in_a_run, anywhere in _STEPS[MODALITIES[dataset.modality].kind]:
        pairs = [(i, j) for i, j, _ in find_similar_pairs(signatures, anywhere)]
        if dataset.in_order:
            pairs += _run_pairs(dataset.records, signatures, in_a_run)
        groups = join_pairs(len(known), [*pairs, *_known_pairs(dataset.records)])
        if largest_group(groups) <= limit:
            break
    return groups


def join_pairs(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Connected components of `count` items: a number for each, the position of its first member."""
    from scipy.sparse import coo_array  # not needed to serve a checkpoint
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, first, component = np.unique(
        connected_components(graph, directed=False)[1], return_index=True, return_inverse=True
    )
    return first[component].astype(np.int64)


def largest_group(groups: NDArray[np.int64]) -> int:
    """Members of the largest group, 0 where there is none."""
    return int(np.unique(groups, return_counts=True)[1].max(initial=0))


def near_identical(modality: Modality) -> float:
    """Correlation from which two images anywhere count as near-identical."""
    return ANYWHERE if MODALITIES[modality].kind == "slice" else DUPLICATE_FILM


def _known_pairs(records: tuple[ImageRecord, ...]) -> list[tuple[int, int]]:
    firsts: dict[str, int] = {}
    return [
        (firsts.setdefault(record.group, position), position)
        for position, record in enumerate(records)
        if record.group is not None
    ]


def _run_pairs(
    records: tuple[ImageRecord, ...], signatures: NDArray[np.float32], threshold: float
) -> list[tuple[int, int]]:
    """Pairs that chain two similar slices, at most RUN_LENGTH numbers apart, and all between them."""
    pairs: list[tuple[int, int]] = []
    for label in sorted({record.label for record in records}):
        rows = [
            (number, position)
            for position, record in enumerate(records)
            if record.label == label and (number := _read_number(record.name)) is not None
        ]
        rows.sort()
        numbers = np.array([number for number, _ in rows])
        positions = np.array([position for _, position in rows])
        for gap in range(1, min(RUN_LENGTH, len(rows) - 1) + 1):
            alike = (signatures[positions[:-gap]] * signatures[positions[gap:]]).sum(axis=1)
            near = numbers[gap:] - numbers[:-gap] <= RUN_LENGTH
            for start in np.flatnonzero((alike >= threshold) & near):
                run = positions[start : start + gap + 1]
                pairs += [(int(run[0]), int(other)) for other in run[1:]]
    return pairs


def _read_number(name: str) -> int | None:
    """The last number in a file's name."""
    numbers = re.findall(r"\d+", name.rsplit("/", 1)[-1])
    return int(numbers[-1]) if numbers else None
