"""Lung crops of whole collections, made once and kept: what branches learn from and are measured on."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.datasets.index import Collection, CollectionImage, ImageRecord
from covid_mm.datasets.store import load_images
from covid_mm.errors import DataError, ImageError
from covid_mm.files import write_arrays
from covid_mm.imaging import read_grey, resize_grey
from covid_mm.imaging.lungs import LungRegion, cut_lungs, cut_map, read_lungs
from covid_mm.models.lung_segmenter import LungSegmenter
from covid_mm.training.appearance import ROOM

_CHUNK = 64
_VERSION = 6  # raise it with any change of what a crop shows
OTHER = -1  # label of images of neither class


@dataclass(frozen=True)
class LungCrops:
    """The images of one collection, row by row; rows without lungs hold zeros and `has_lungs` False.

    wide: uint8 (n, s, s) with `appearance.ROOM` round the box, to be varied. exact: uint8
    (n, size, size), what serving reads. lungs and targets: uint8 (n, s, s), 255 on the lungs and on
    lesions, in the frame of `wide`. located: bool (n,), whether the lesions are known. boxes:
    float32 (n, 4), the crop's box as fractions of the image. labels: int64 (n,), OTHER for neither
    class.
    """

    wide: NDArray[np.uint8]
    exact: NDArray[np.uint8]
    lungs: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    located: NDArray[np.bool_]
    has_lungs: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it: what is kept beside a run was measured on these very crops."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(getattr(self, field.name).tobytes())
        return digest.digest()


def make_crops(
    collection: Collection,
    segmenter: LungSegmenter | None,
    size: int,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LungCrops:
    """Read a collection and cut out the lungs, or, without a segmenter, resize whole images (`paper`).

    cache: a folder where the result is kept under a hash of the segmenter, the files and the size.

    Raises:
        DataError: naming every image that cannot be read.
    """
    path = None if cache is None else cache / f"{collection.name}-{_hash(collection, segmenter, size)}.npz"
    if path is not None and (cached := _read(path)) is not None:
        return cached
    count, side = len(collection.images), round(size * (1 + 2 * ROOM))
    crops = LungCrops(
        wide=np.zeros((count, side, side), np.uint8),
        exact=np.zeros((count, size, size), np.uint8),
        lungs=np.zeros((count, side, side), np.uint8),
        targets=np.zeros((count, side, side), np.uint8),
        located=np.zeros(count, np.bool_),
        has_lungs=np.zeros(count, np.bool_),
        boxes=np.zeros((count, 4), np.float32),
        labels=np.array([OTHER if i.label is None else i.label for i in collection.images], np.int64),
    )
    unreadable: list[str] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, _CHUNK):
            rows = range(start, min(start + _CHUNK, count))
            greys = list(pool.map(_read_or_reason, [collection.images[row] for row in rows]))
            unreadable += [grey for grey in greys if isinstance(grey, str)]
            good = [(row, grey) for row, grey in zip(rows, greys, strict=True) if not isinstance(grey, str)]
            regions: Sequence[LungRegion | None] = [None] * len(good)
            if segmenter is not None:
                regions = segmenter.find([grey for _, grey in good], collection.modality)
            for (row, grey), region in zip(good, regions, strict=True):
                _fill(crops, row, grey, region, collection, size, whole=segmenter is None)
            if progress is not None:
                progress(rows.stop, count)
    if unreadable:
        raise DataError(
            f"{len(unreadable)} images of {collection.name} can't be read; repair or remove:\n  "
            + "\n  ".join(unreadable)
        )
    if path is not None:
        write_arrays(path, {field.name: getattr(crops, field.name) for field in fields(LungCrops)})
    return crops


def read_records(
    records: Sequence[ImageRecord], modality: Modality, segmenter: LungSegmenter | None, size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Images as the network reads them, grey float32 (n, size, size) 0..255, and which of them show lungs.

    Without a segmenter whole images are resized, and all count.

    Raises:
        DataError: naming every image that cannot be read.
    """
    if segmenter is None:
        return load_images(records, size=size), np.ones(len(records), np.bool_)
    images = tuple(CollectionImage(r.path, r.name, modality, r.label) for r in records)
    crops = make_crops(Collection("these images", modality, images, "", "", ""), segmenter, size)
    return crops.exact.astype(np.float32), crops.has_lungs


def lesion_mask(image: CollectionImage, height: int, width: int) -> NDArray[np.float32] | None:
    """Where an image's lesions lie, 0..1 (height, width): its mask, else its boxes; None where not known."""
    if image.lesion_mask is not None:
        return resize_mask(read_grey(image.lesion_mask), height, width)
    if image.boxes:
        mask = np.zeros((height, width), np.float32)
        for x0, y0, x1, y1 in image.boxes:
            mask[
                round(y0 * height) : max(round(y1 * height), round(y0 * height) + 1),
                round(x0 * width) : max(round(x1 * width), round(x0 * width) + 1),
            ] = 1.0
        return mask
    return np.zeros((height, width), np.float32) if image.label == 0 else None


def resize_mask(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A mask of 0 and 255 as 0..1 at another size."""
    import cv2

    return np.asarray(cv2.resize(grey / 255.0, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _fill(
    crops: LungCrops,
    row: int,
    grey: NDArray[np.float32],
    region: LungRegion | None,
    collection: Collection,
    size: int,
    *,
    whole: bool,
) -> None:
    image = collection.images[row]
    mask = lesion_mask(image, *grey.shape)
    crops.located[row] = mask is not None
    box = (0.0, 0.0, 1.0, 1.0) if region is None else region.box
    if whole:
        side = crops.wide.shape[1]
        edge = (side - size) // 2
        crops.exact[row] = round_pixels(resize_grey(grey, size))
        crops.wide[row] = np.pad(crops.exact[row], (edge, side - size - edge), mode="edge")
    elif region is not None:
        crops.exact[row] = round_pixels(read_lungs(grey, region, collection.modality, size))
        crops.wide[row] = round_pixels(read_lungs(grey, region, collection.modality, size, ROOM))
        crops.lungs[row] = round_pixels(255.0 * cut_lungs(region, size, ROOM))
    else:
        return
    if mask is not None and mask.any():
        crops.targets[row] = round_pixels(255.0 * cut_map(mask, box, size, ROOM))
    crops.has_lungs[row] = True
    crops.boxes[row] = box


def round_pixels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey of 0..255 as the whole numbers that crops are kept in."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _read_or_reason(image: CollectionImage) -> NDArray[np.float32] | str:
    try:
        return read_grey(image.path)
    except ImageError as error:
        return f"{image.name} ({error})"


def _hash(collection: Collection, segmenter: LungSegmenter | None, size: int) -> str:
    digest = hashlib.sha256(f"{_VERSION}/{size}/{collection.modality}".encode())
    if segmenter is not None:
        for weight in segmenter.networks[collection.modality].get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
    for image in collection.images:
        try:
            status = os.stat(image.path)
        except OSError:  # named with all others that cannot be read
            continue
        digest.update(
            f"{image.name}/{image.label}/{image.boxes}/{status.st_size}/{status.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()[:24]


def _read(path: Path) -> LungCrops | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return LungCrops(**{field.name: file[field.name] for field in fields(LungCrops)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or damaged: made anew
        return None
