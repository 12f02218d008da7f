"""A PNG file's structure, read before Pillow decodes it (PNG specification, third edition).

Pillow checks neither the checksum of the pixel data nor that the file is complete after the last
pixel, and learns the number of frames late; all three are seen by walking the chunks.
"""

from __future__ import annotations

import zlib

from covid_mm.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = 0x20  # bit 5 of a chunk type's first letter is 0 in the chunks that make up the picture


def read_png_size(data: bytes, what: str) -> tuple[int, int]:
    """Width and height in pixels from a PNG's first chunk; checks nothing else.

    Raises:
        ImageError: where the first chunk is missing or is not the header.
    """
    if len(data) < 33 or data[8:16] != b"\x00\x00\x00\rIHDR":
        raise ImageError(f"{what} is damaged: a PNG without its header; export it again.")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def check_png(data: bytes, what: str) -> None:
    """Walk all chunks: complete, critical ones with right checksums, one picture only.

    Raises:
        ImageError: where the file is truncated, damaged, or animated (APNG).
    """
    view = memoryview(data)
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if kind == b"acTL":
            raise ImageError(f"{what} is animated; expected a single picture: export one frame.")
        if not kind[0] & _CRITICAL and zlib.crc32(view[position + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            raise ImageError(f"{what} is damaged: its checksum does not match; export or copy it again.")
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageError(f"{what} is truncated: its end is missing; export or copy it again.")
