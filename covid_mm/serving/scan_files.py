"""From what is handed over as a CT to a whole scan: files, a folder, a ZIP, a NIfTI volume, a multi-frame file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from covid_mm.config import MODALITIES, ImageLimits, Modality
from covid_mm.errors import CovidMMError, DataError, ImageError, UsageError
from covid_mm.imaging import (
    CtScan,
    DecodedImage,
    ImageSource,
    WindowSettings,
    decode_image,
    is_dicom,
    is_nifti,
    read_dicom,
    read_scan,
)
from covid_mm.serving.archive import ArchiveLimits, is_archive, open_archive
from covid_mm.serving.pairing import ImageFile, list_folder

ScanSource: TypeAlias = "CtScan | Sequence[str | os.PathLike[str] | bytes]"
StudyFiles: TypeAlias = "Mapping[Modality, ImageSource | ScanSource | None]"  # as they are given
StudyImages: TypeAlias = "Mapping[Modality, ImageSource | None]"  # one image for each
SCANNED: Modality = "ct"  # the modality that comes as a whole scan

_DEFAULT_LIMITS = ImageLimits()


def open_scan(
    source: ImageSource | ScanSource,
    limits: ImageLimits = _DEFAULT_LIMITS,
    archive_limits: ArchiveLimits | None = None,
    *,
    what: str = "The CT",
    series: int | None = None,
    strict: bool = True,
) -> CtScan | None:
    """The CT scan that a source holds; None for a file with one image, which is read as such.

    Args:
        source: several paths or bytes, a path to a folder, ZIP, NIfTI volume or multi-frame DICOM file, or a scan.
        limits: of all files together; a file of a scan may be as large as max_series_bytes.
        archive_limits: of a ZIP; by default as large as a scan.
        what: names it in errors.
        series: as `read_scan` takes it.
        strict: the same, of several files; a folder and a ZIP may hold others beside.

    Raises:
        ImageError: one sentence, for what cannot be read, is too large, or holds no axial CT series.
    """
    if isinstance(source, CtScan):
        return source
    if isinstance(source, (list, tuple)):
        if not source:
            raise UsageError("{what} is an empty list; give the files of its series.", what=what)
        if len(source) == 1:
            return open_scan(source[0], limits, archive_limits, what=what, series=series)
        contents = _collect((partial(_read, one, limits, what) for one in source), limits, what)
        return read_scan(contents, what, limits, series=series, strict=strict)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_file(bytes(source), what, limits, series)
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(os.fsdecode(source))
    whole = dataclasses.replace(limits, max_bytes=limits.max_series_bytes)
    try:
        if path.is_dir():
            files = list_folder(path, whole)
        elif is_archive(path):
            most = archive_limits or ArchiveLimits(
                max_bytes=limits.max_series_bytes, max_members=2 * limits.max_series_slices
            )
            files = list(open_archive(path, most, whole).images)
        else:
            return _open_file(_read(path, limits, what), what, limits, series) if path.is_file() else None
    except DataError as error:
        raise ImageError(error.message) from error
    contents = _collect((file.read for file in files), limits, what)
    return read_scan(contents, what, limits, series=series, strict=False)


def take_scan(
    images: StudyFiles,
    windows: Mapping[Modality, WindowSettings | str] | None = None,
    frames: Mapping[Modality, int] | None = None,
    series: int | None = None,
) -> tuple[StudyImages, CtScan | None]:
    """The images of a study, and the scan among them.

    Where a frame of the scan is chosen, or it has but one, that slice is an image as any other and there is no scan;
    else its middle slice stands in its place. Raises as `open_scan`.
    """
    source = images.get(SCANNED)
    scan = None if source is None else open_scan(source, series=series)
    others: dict[Modality, Any] = dict(images)
    if scan is None:
        if isinstance(source, (list, tuple)):
            others[SCANNED] = source[0]
        return others, None
    window, frame = (windows or {}).get(SCANNED), (frames or {}).get(SCANNED)
    index = len(scan) // 2 if frame is None else frame
    others[SCANNED] = DecodedImage(scan.render(index, window), scan.header)
    return others, scan if frame is None and len(scan) > 1 else None


def read_files(
    files: Mapping[Modality, ImageFile],
    run: Callable[..., Any] = lambda function, *arguments: function(*arguments),
) -> dict[Modality, DecodedImage | CtScan]:
    """A study's files by modality: of CT also a whole scan, as a folder or ZIP too where it lies on disk.

    run: calls what decodes, perhaps in another process; once for all files, as a call costs as much as a small image.
    Raises ImageError, which names the file's modality.
    """
    sources: dict[Modality, bytes | Path] = {}
    for modality, file in files.items():
        with _naming(modality):
            path = file.path
            if modality == SCANNED and path is not None and (path.is_dir() or is_archive(path)):
                sources[modality] = path
            else:
                sources[modality] = file.read()
    images: dict[Modality, DecodedImage | CtScan] = {}
    if len(sources) > 1:
        try:
            images = run(decode_files, sources)
            return images
        except ImageError as refusal:
            if refusal.message.subject:
                raise
    # one file, or what decodes came to its end: each alone, to know on which
    for modality, source in sources.items():
        with _naming(modality):
            images |= run(decode_files, {modality: source})
    return images


def decode_files(sources: Mapping[Modality, bytes | Path]) -> dict[Modality, DecodedImage | CtScan]:
    """Files' bytes, or the paths of scans, by modality. Raises ImageError, which names the modality."""
    decoded: dict[Modality, DecodedImage | CtScan] = {}
    for modality, source in sources.items():
        with _naming(modality):
            scan = open_scan(source) if modality == SCANNED else None
            decoded[modality] = decode_image(source) if scan is None else scan
    return decoded


@contextmanager
def _naming(modality: Modality) -> Iterator[None]:
    """Errors within name the modality they are about."""
    try:
        yield
    except ImageError as refusal:
        if refusal.message.subject:
            raise
        raise refusal.about(MODALITIES[modality].title) from refusal


def _open_file(data: bytes, what: str, limits: ImageLimits, series: int | None) -> CtScan | None:
    """A file that holds a scan of its own."""
    if is_nifti(data):
        return read_scan([data], what, limits, series=series)
    if not is_dicom(data):
        return None
    try:
        frames = read_dicom(data, what, limits).frames
    except CovidMMError:
        return None  # who reads it as one image says why it can't be
    return read_scan([data], what, limits, series=series) if frames > 1 else None


def _collect(readers: Iterable[Callable[[], bytes]], limits: ImageLimits, what: str) -> list[bytes]:
    """All bytes, as long as they are not too many together."""
    contents: list[bytes] = []
    total = 0
    for read in readers:
        contents.append(read())
        total += len(contents[-1])
        if total > limits.max_series_bytes or len(contents) > 2 * limits.max_series_slices:
            raise ImageError(
                "{what} is of more than {limit} MB or {files} files; leave other series out.",
                what=what,
                limit=f"{limits.max_series_bytes / 2**20:g}",
                files=2 * limits.max_series_slices,
            )
    return contents


def _read(source: str | os.PathLike[str] | bytes, limits: ImageLimits, what: str) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        with open(source, "rb") as file:
            data = file.read(limits.max_series_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise ImageError("A file of the series can't be opened: {reason}.", reason=reason) from error
    if len(data) > limits.max_series_bytes:
        raise ImageError(
            "{what} holds a file larger than {limit} MB; give fewer slices.",
            what=what,
            limit=f"{limits.max_series_bytes / 2**20:g}",
        )
    return data
