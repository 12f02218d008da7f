"""A JPEG file's structure, read before anything decodes it (ITU-T T.81, annex B).

Decoders parse marker by marker, some of them byte by byte, and keep what they find: a file of the
allowed size can hold millions of segments. They are counted here, with a limit, and only those that
the picture needs are passed on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import ImageError

SIGNATURE = b"\xff\xd8\xff"
MOST_SEGMENTS = 1000  # a file of 20 MB is filled by 320 of the longest
MOST_STRAY = 64 * 1024  # bytes between segments that belong to none
MOST_SCANS = 100  # encoders write at most a few dozen; each one costs a pass over all pixels
MOST_SCANNED = 750_000_000  # pixels times scans: 30 scans of the largest picture
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame: holds the size
_JPEG_LS_FRAME = 0xF7  # the same in JPEG-LS (ITU-T T.87)
_START_OF_SCAN, _END, _COMMENT, _APP0, _EXIF, _ADOBE = 0xDA, 0xD9, 0xFE, 0xE0, 0xE1, 0xEE
_RESTARTS = frozenset(range(0xD0, 0xD8))
# JPEG-LS parameters (F8) too; decoders disagree on how long others are, and no encoder writes them
_IN_HEADER = (frozenset(range(0xC0, 0xFF)) - {0xC8, 0xD8, _END} - set(range(0xF0, 0xFE))) | {0xF7, 0xF8}


@dataclass(frozen=True)
class JpegStructure:
    """width, height: pixels, with the number of components. scans: passes over the picture.

    needed: (start, end) of the parts of the file without which there is no picture; the rest is
    comments, profiles and previews. Of these the first EXIF segment is kept: it says what is up.
    """

    width: int
    height: int
    components: int
    scans: int
    needed: tuple[tuple[int, int], ...]

    def check_scans(self, what: str) -> None:
        """Refuse a file whose many passes would keep the decoder busy. Raises ImageError."""
        if self.scans > MOST_SCANS or self.scans * self.width * self.height > MOST_SCANNED:
            raise ImageError(
                "{what} has {scans} scans, too many for its size; save it anew as a plain JPEG or PNG.",
                what=what,
                scans=self.scans,
            )

    def strip(self, data: bytes) -> bytes:
        """The file's bytes without what the picture does not need."""
        return b"".join([data[:2], *(data[start:end] for start, end in self.needed)])


def read_jpeg(data: bytes, what: str) -> JpegStructure:
    """Walk all segments, in a number of steps that does not depend on the file.

    Raises:
        ImageError: damaged before the first scan, or more segments than any encoder writes.
    """
    markers = _find_markers(data)
    size: tuple[int, int, int] | None = None
    needed: list[tuple[int, int]] = []
    position, segments, stray, exif = 2, 0, 0, False
    while True:
        start, code, end = _next_segment(data, markers, position, what)
        segments += 1
        stray += start - position
        if segments > MOST_SEGMENTS or stray > MOST_STRAY:
            raise _overlong(what)
        position = end
        if code == _START_OF_SCAN:
            break
        if code in _FRAMES or code == _JPEG_LS_FRAME:
            if size is not None or start + 10 > len(data):
                raise _damaged(what)
            height, width = (int.from_bytes(data[start + at : start + at + 2], "big") for at in (5, 7))
            size = width, height, data[start + 9]
        if code in (_APP0, _ADOBE) or not (code == _COMMENT or _APP0 <= code <= 0xEF):
            needed.append((start, end))
        elif code == _EXIF and not exif and data.startswith(b"Exif\0\0", start + 4):
            exif = True
            needed.append((start, end))
    if size is None:
        raise _damaged(what)
    scans = _count_scans(data, markers, position, segments, what)
    return JpegStructure(*size, scans, (*needed, (start, len(data))))


def _find_markers(data: bytes) -> NDArray[np.int64]:
    """Where a marker could start: FF and a code, stuffed zeros and fill bytes left out."""
    values = np.frombuffer(data, np.uint8)
    candidates = values[:-1] == 0xFF
    candidates &= (values[1:] != 0x00) & (values[1:] != 0xFF)
    return np.flatnonzero(candidates)


def _next_segment(data: bytes, markers: NDArray[np.int64], position: int, what: str) -> tuple[int, int, int]:
    """Where the next segment starts, its marker's code, and where it ends."""
    number = int(np.searchsorted(markers, position))
    if number == len(markers):
        raise _damaged(what)
    start = int(markers[number])
    code = data[start + 1]
    if code in _RESTARTS:
        return start, code, start + 2
    if code not in _IN_HEADER:
        raise _damaged(what)
    return start, code, start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))


def _count_scans(data: bytes, markers: NDArray[np.int64], position: int, segments: int, what: str) -> int:
    """Scans from the end of the first one's header to the picture's end; what follows it is not decoded."""
    codes = np.frombuffer(data, np.uint8)[markers + 1]
    # restarts belong to a scan; in JPEG-LS so do all codes below 80
    markers = markers[(codes >= min(_FRAMES)) & ((codes & 0xF8) != min(_RESTARTS))]
    scans = 1
    while (number := int(np.searchsorted(markers, position))) < len(markers):
        start = int(markers[number])
        code = data[start + 1]
        if code == _END:
            break
        scans += code == _START_OF_SCAN
        segments += 1
        if segments > MOST_SEGMENTS:
            raise _overlong(what)
        # a damaged scan may hold any code; decoders go on behind it
        length = int.from_bytes(data[start + 2 : start + 4], "big") if code in _IN_HEADER else 0
        position = start + 2 + length
    return scans


def _damaged(what: str) -> ImageError:
    return ImageError("{what} is damaged or truncated; export or copy it again.", what=what)


def _overlong(what: str) -> ImageError:
    return ImageError(
        "{what} is cut into more parts than a picture needs; save it anew as a plain JPEG or PNG.", what=what
    )
