"""A JPEG file's structure, read before Pillow decodes it (ITU-T T.81, annex B)."""

from __future__ import annotations

from covid_mm.errors import ImageError

SIGNATURE = b"\xff\xd8\xff"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame: holds the size
_START_OF_SCAN, _END = 0xDA, 0xD9
_MOST_SCANS = 200  # encoders write at most a few dozen; each one costs a pass over all pixels
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels from the first start-of-frame marker; None where there is none."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            position += 1  # decoders skip stray bytes between markers, so does this
            continue
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0 or marker in _WITHOUT_LENGTH:
            position += 2
        elif marker in (_START_OF_SCAN, _END):
            return None
        elif marker in _FRAME_MARKERS:
            if position + 9 > len(data):
                return None
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return int.from_bytes(data[position + 7 : position + 9], "big"), height
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def check_jpeg(data: bytes, what: str) -> None:
    """Refuse a file whose many passes would keep the decoder busy for minutes.

    Raises:
        ImageError: where it has more scans than any encoder writes.
    """
    if data.count(bytes((0xFF, _START_OF_SCAN))) > _MOST_SCANS:
        raise ImageError(f"{what} has more than {_MOST_SCANS} scans; save it anew as a plain JPEG or PNG.")
