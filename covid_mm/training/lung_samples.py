"""What the lung segmenter learns from: lung masks of the collections, boxes of lungs on films, phantoms.

Of collections without masks slices are marked by grey levels (`imaging.lungs.find_dark_regions`), which works
on most healthy ones whatever the hospital; where it left out consolidated lung the edge is ragged, and the
slice is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.datasets.index import Collection
from covid_mm.datasets.phantoms import PHANTOM_MODALITIES, make_study
from covid_mm.errors import DataError, ImageError
from covid_mm.imaging import read_grey
from covid_mm.imaging.lungs import find_dark_regions
from covid_mm.training.lungs import LungSample

Item = TypeVar("Item")

LUNG_BOXES = "lung_boxes.json"  # {file: {name of a lung: [x0, y0, x1, y1] or null}}, beside its images
PHANTOMS = 500
DARK_SLICES = 700  # of a collection without masks, spread over all of it
PHANTOM_SEEDS = 5000  # the first of them: tests and examples use the numbers below
_PHANTOM_SIZE = 192
_MASKED_SHARE, _DARK_SHARE, _BOXED_SHARE, _PHANTOM_SHARE = 0.7, 0.7, 0.6, 0.3  # of what is drawn, by kind
_NOTCH = 25  # of the region's 256 pixels: gaps up to this width count as an edge's
_RAGGED = 0.04  # of a region's area in such gaps, above which it is not learned from


def find_lung_samples(root: Path, collections: Sequence[Collection], modality: Modality) -> list[LungSample]:
    """Real images with lung masks (by collection in equal shares) or lung boxes; none where there are none.

    Raises:
        DataError: a file of boxes that is not one.
    """
    samples: list[LungSample] = []
    masked = [c for c in collections if any(image.lung_mask for image in c.images)]
    for collection in masked:
        images = [image for image in collection.images if image.lung_mask]
        for image in images:
            assert image.lung_mask is not None
            grey, mask = read_grey(image.path), read_grey(image.lung_mask) > 127
            share = _MASKED_SHARE / len(masked) / len(images)
            samples.append(LungSample(np.rint(grey).astype(np.uint8), mask, (), share))
    if MODALITIES[modality].kind == "film":
        for path in sorted([*root.glob(LUNG_BOXES), *root.glob(f"*/{LUNG_BOXES}")]):
            samples += read_lung_boxes(path)
    return samples


def mark_dark_samples(collections: Sequence[Collection], modality: Modality) -> list[LungSample]:
    """Slices of collections without masks, marked by grey levels; none of films. By collection in equal shares."""
    if MODALITIES[modality].kind != "slice":
        return []
    samples: list[LungSample] = []
    plain = [c for c in collections if not any(image.lung_mask for image in c.images)]
    for collection in plain:
        marked = []
        for image in thin(collection.images, DARK_SLICES):
            try:
                grey = read_grey(image.path)
            except ImageError:  # `make_crops` names all of these
                continue
            region = find_dark_regions(grey, modality)
            if region is not None and measure_raggedness(region.lungs) <= _RAGGED:
                lungs = region.lungs.astype(np.uint8)
                mask = cv2.resize(lungs, grey.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
                marked.append((np.rint(grey).astype(np.uint8), mask))
        share = _DARK_SHARE / len(plain) / max(len(marked), 1)
        samples += [LungSample(grey, mask, (), share) for grey, mask in marked]
    return samples


def thin(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` of them, spread over all."""
    if limit is None or len(items) <= limit:
        return tuple(items)
    return tuple(items[round(index)] for index in np.linspace(0, len(items) - 1, limit).tolist())


def measure_raggedness(lungs: NDArray[np.bool_]) -> float:
    """Area of the narrow gaps in the edge of each component, as a share of the area of all, 0 and up."""
    if not lungs.any():
        return 0.0
    padded = np.pad(lungs.astype(np.uint8), _NOTCH)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_NOTCH, _NOTCH))
    count, parts = cv2.connectedComponents(padded)
    closed = [
        cv2.morphologyEx((parts == number).astype(np.uint8), cv2.MORPH_CLOSE, disc).sum()
        for number in range(1, count)
    ]
    return float(sum(closed) / padded.sum() - 1.0)


def make_phantom_samples(
    modality: Modality, count: int = PHANTOMS, progress: Callable[[int, int], None] | None = None
) -> list[LungSample]:
    """Phantoms with their masks, both classes in equal numbers; none of a modality that no phantom has."""
    samples: list[LungSample] = []
    for number in range(count if modality in PHANTOM_MODALITIES else 0):
        study = make_study(number % 2, PHANTOM_SEEDS + number, size=_PHANTOM_SIZE)
        image, mask = getattr(study, modality), getattr(study, f"{modality}_lungs")
        samples.append(LungSample(image, mask, (), _PHANTOM_SHARE / count))
        if progress is not None:
            progress(number + 1, count)
    return samples


def read_lung_boxes(path: Path) -> list[LungSample]:
    """The films of one file of lung boxes, but for those without a box, in its order.

    Raises:
        DataError: a file that is not one.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        boxes = {
            name: tuple(tuple(float(v) for v in box) for box in lungs.values() if box)
            for name, lungs in entries.items()
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path.name} in {path.parent.name} is not a table of lung boxes; expected"
            ' {"file": {"left_lung": [x0, y0, x1, y1], ...}} of fractions.'
        ) from error
    share = _BOXED_SHARE / max(len(boxes), 1)
    return [
        LungSample(np.rint(read_grey(path.parent / name)).astype(np.uint8), None, lungs, share)  # type: ignore[arg-type]
        for name, lungs in boxes.items()
        if lungs
    ]
