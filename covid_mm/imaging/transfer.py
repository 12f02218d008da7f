"""How a DICOM file's pixels are written, read off its first bytes before anything is believed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from covid_mm.errors import ImageError
from covid_mm.imaging.jpeg import read_jpeg_size

_PREAMBLE = 132  # 128 bytes of anything, then DICM
_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OD", b"OL", b"SV", b"UV", b"OV")
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00"  # (0002,0010), little endian
_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, image and tile size
_JPEG_LS_FRAME = b"\xff\xf7"

PLAIN = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
}
JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless, first order",
}
JPEG_LS = {
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near lossless",
}
JPEG_2000 = {
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "High-throughput JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.202": "High-throughput JPEG 2000 lossless, RPCL",
    "1.2.840.10008.1.2.4.203": "High-throughput JPEG 2000",
}
RLE = {"1.2.840.10008.1.2.5": "RLE"}
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")
TAKEN = PLAIN | JPEG | JPEG_LS | JPEG_2000 | RLE


@dataclass(frozen=True)
class TransferSyntax:
    """uid: the standard's number. name: for people."""

    uid: str

    @property
    def name(self) -> str:
        """What people call it."""
        return TAKEN[self.uid]

    @property
    def is_compressed(self) -> bool:
        """Whether each frame is a stream of its own."""
        return self.uid not in PLAIN


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does (PS3.10, 7.1)."""
    return data[128:_PREAMBLE] == b"DICM"


def read_transfer_syntax(data: bytes, what: str) -> TransferSyntax:
    """The transfer syntax from the file meta information, which is always explicit little endian.

    Raises:
        ImageError: it is missing, damaged, or one that is not taken. Deflated files are refused
            because they may inflate a thousandfold.
    """
    uid = _find_syntax(data)
    if uid is None:
        raise ImageError(
            f"{what} is a damaged DICOM file: it does not say how it is written; export it again."
        )
    if uid in DEFLATED:
        raise ImageError(
            f"{what} is a deflated DICOM file, which is not taken because it may unpack without limit; export"
            " it uncompressed or as JPEG 2000."
        )
    if uid not in TAKEN:
        raise ImageError(
            f"{what} is a DICOM file of a kind that is not taken (a video or a rare compression); export the"
            " slice uncompressed, or as PNG."
        )
    return TransferSyntax(uid)


def read_frame_size(frame: bytes, syntax: TransferSyntax) -> tuple[int, int] | None:
    """(width, height) that a compressed frame claims for itself; None where it claims none."""
    if syntax.uid in JPEG_2000:
        start = frame.find(_SIZ)
        if start < 0 or len(frame) < start + 24:
            return None
        right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return right - left, bottom - top
    if syntax.uid in JPEG_LS:
        start = frame.find(_JPEG_LS_FRAME)
        if start < 0 or len(frame) < start + 9:
            return None
        height, width = struct.unpack(">2H", frame[start + 5 : start + 9])
        return width, height
    return read_jpeg_size(frame) if syntax.uid in JPEG else None


def _find_syntax(data: bytes) -> str | None:
    place = _PREAMBLE
    while place + 8 <= len(data) and data[place : place + 2] == b"\x02\x00":
        tag, kind = data[place : place + 4], data[place + 4 : place + 6]
        if kind in _LONG_LENGTHS:
            if place + 12 > len(data):
                return None
            (length,) = struct.unpack("<I", data[place + 8 : place + 12])
            place += 12
        else:
            (length,) = struct.unpack("<H", data[place + 6 : place + 8])
            place += 8
        if tag == _TRANSFER_SYNTAX:
            return data[place : place + length].rstrip(b"\0 ").decode("ascii", "replace")
        place += length
    return None
