"""Decoded images in memory, and on disk between runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import IMAGE_SIZE, ImageLimits
from covid_mm.datasets.index import CollectionImage, ImageRecord
from covid_mm.errors import DataError, ImageError
from covid_mm.files import write_array
from covid_mm.imaging import read_grey, resize_grey

DECODER_VERSION = 1  # raise it with any change of pixel values, so that old caches are not used
FILE_LIMITS = ImageLimits(max_bytes=128 * 2**20)  # the user's own files: an uncompressed film may take 40 MB


def check_readable(records: Iterable[ImageRecord]) -> None:
    """Decode every image once and report all that can't be read together.

    Raises:
        DataError: naming every unreadable file and its reason.
    """
    _read_all(list(records), lambda _position, _record: None, progress=False)


def load_images(
    records: Sequence[ImageRecord | CollectionImage],
    *,
    size: int = IMAGE_SIZE,
    cache: Path | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """All images as grey (n, size, size) float32, 0..255, in the records' order.

    cache: a folder in which the array is kept as .npy, under a hash of the files' names, lengths,
    times of change and `size`. progress: show a progress bar.

    Raises:
        DataError: naming every unreadable file.
    """
    path = None if cache is None else Path(cache) / f"images-{_hash_files(records, size)}.npy"
    shape = (len(records), size, size)
    if path is not None:
        images = _load_array(path, shape)
        if images is not None:
            return images
    images = np.empty(shape, dtype=np.float32)

    def store(position: int, grey: NDArray[np.float32]) -> None:
        images[position] = resize_grey(grey, size)

    _read_all(records, store, progress=progress)
    if path is not None:
        write_array(path, images)
    return images


def _read_all(
    records: Sequence[ImageRecord | CollectionImage],
    take: Callable[[int, NDArray[np.float32]], None],
    *,
    progress: bool,
) -> None:
    def read(position: int) -> str | None:
        try:
            take(position, read_grey(records[position].path, limits=FILE_LIMITS))
        except ImageError as error:
            return f"{records[position].name} ({error})"
        return None

    with ThreadPoolExecutor(
        max_workers=min(8, os.cpu_count() or 1)
    ) as pool:  # Pillow decodes without the GIL
        outcomes: Iterable[str | None] = pool.map(read, range(len(records)))
        if progress:
            from tqdm import tqdm

            outcomes = tqdm(outcomes, total=len(records), desc="Reading images", unit="image")
        unreadable = [outcome for outcome in outcomes if outcome is not None]
    if unreadable:
        plural = "image" if len(unreadable) == 1 else "images"
        raise DataError(
            f"{len(unreadable)} {plural} can't be read; repair or remove:\n  " + "\n  ".join(unreadable)
        )


def _hash_files(records: Sequence[ImageRecord | CollectionImage], size: int) -> str:
    digest = hashlib.sha256(f"{DECODER_VERSION}/{size}".encode())
    for record in records:
        try:
            status = os.stat(record.path)
        except OSError:
            continue  # reported with the other unreadable files, since no such cache exists
        digest.update(f"{record.modality}/{record.name}/{status.st_size}/{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _load_array(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32] | None:
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent or damaged: decode again
        return None
    return images if images.shape == shape and images.dtype == np.float32 else None
