"""A PNG file's structure, read before Pillow decodes it (PNG specification, third edition).

Pillow checks neither the checksum of the pixel data nor that the file is complete after the last
pixel, and learns the number of frames late; all three are seen by walking the chunks.
"""

from __future__ import annotations

import zlib

from covid_mm.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 20_000  # encoders cut pixels into chunks of 8 kB: a file of 20 MB has 2,560
_LONGEST_EXIF = 64 * 1024  # bytes, as in a JPEG; parsers copy all of it for each of its entries
_CRITICAL = 0x20  # bit 5 of a chunk type's first letter is 0 in the chunks that make up the picture


def read_png_size(data: bytes, what: str) -> tuple[int, int]:
    """Width and height in pixels from a PNG's first chunk; checks nothing else.

    Raises:
        ImageError: where the first chunk is missing or is not the header.
    """
    if len(data) < 33 or data[8:16] != b"\x00\x00\x00\rIHDR":
        raise ImageError("{what} is damaged: a PNG without its header; export it again.", what=what)
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def check_png(data: bytes, what: str) -> bytes:
    """Walk all chunks: not too many, complete, critical ones with right checksums, one picture only.

    Returns the file without the chunks that the picture does not need (texts, profiles, time).

    Raises:
        ImageError: where the file is truncated, damaged, animated (APNG), or of very many chunks.
    """
    view = memoryview(data)
    position = len(SIGNATURE)
    needed = [view[:position]]
    for _ in range(MOST_CHUNKS):
        if position + 12 > len(data):
            break
        length = int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if kind == b"acTL":
            raise ImageError("{what} is animated; expected a single picture: export one frame.", what=what)
        is_critical = not kind[0] & _CRITICAL
        if is_critical and zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ImageError(
                "{what} is damaged: its checksum does not match; export or copy it again.", what=what
            )
        if is_critical or kind == b"tRNS" or (kind == b"eXIf" and length <= _LONGEST_EXIF):
            needed.append(view[position : end + 4])
        if kind == b"IEND":
            return b"".join(needed)
        position = end + 4
    else:
        raise ImageError(
            "{what} is cut into more parts than a picture needs; save it anew as a plain JPEG or PNG.",
            what=what,
        )
    raise ImageError("{what} is truncated: its end is missing; export or copy it again.", what=what)
