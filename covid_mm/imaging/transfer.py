"""How a DICOM file's pixels are written, read off its first bytes before anything is believed."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from covid_mm.errors import ImageError
from covid_mm.imaging.jpeg import read_jpeg

_PREAMBLE = 132  # 128 bytes of anything, then DICM
_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OD", b"OL", b"SV", b"UV", b"OV")
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00"  # (0002,0010), little endian
_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, image and tile size
_JP2 = b"\0\0\0\x0cjP  "  # some files hold a JP2 file where the standard wants a codestream
_MOST_BOXES = 32
_MOST_TILES = 4096
_MOST_READS = 100_000  # 570 frames with 40 elements each take 70,000

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


class CountedBytes(io.BytesIO):
    """A file's bytes that may be read in so many steps: a parser takes one or two for each element.

    what: the file, for the error. `read` raises ImageError where a header has more parts than any picture's.
    """

    def __init__(self, data: bytes, what: str) -> None:
        super().__init__(data)
        self._what = what
        self._left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self._left -= 1
        if self._left < 0:
            raise overlong(self._what)
        return super().read(size)


def overlong(what: str) -> ImageError:
    """The refusal of a file that is cut into very many parts."""
    return ImageError(
        "{what} is cut into more parts than a picture needs; export it uncompressed.", what=what
    )


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
            "{what} is a damaged DICOM file: it does not say how it is written; export it again.", what=what
        )
    if uid in DEFLATED:
        raise ImageError(
            "{what} is a deflated DICOM file, which is not taken because it may unpack without limit;"
            " export it uncompressed or as JPEG 2000.",
            what=what,
        )
    if uid not in TAKEN:
        raise ImageError(
            "{what} is a DICOM file of a kind that is not taken (a video or a rare compression);"
            " export the slice uncompressed, or as PNG.",
            what=what,
        )
    return TransferSyntax(uid)


def read_frame_shape(frame: bytes, syntax: TransferSyntax, what: str) -> tuple[int, int, int] | None:
    """(rows, columns, samples) that a compressed frame claims for itself; None for RLE, which claims none.

    Raises:
        ImageError: a frame that claims nothing, or would keep its decoder busy.
    """
    if syntax.uid in JPEG_2000:
        return _read_jpeg_2000(frame, what)
    if syntax.uid in JPEG | JPEG_LS:
        structure = read_jpeg(frame, what)
        structure.check_scans(what)
        return structure.height, structure.width, structure.components
    return None


def _read_jpeg_2000(frame: bytes, what: str) -> tuple[int, int, int]:
    """Size of the reference grid and number of components (ITU-T T.800, A.5.1)."""
    start = _find_codestream(frame)
    if frame[start : start + 4] != _SIZ or len(frame) < start + 42:
        raise ImageError("{what} is a damaged or truncated DICOM file; export it again.", what=what)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack(
        ">8IH", frame[start + 8 : start + 42]
    )
    across, down = (right - tile_left) // max(tile_width, 1), (bottom - tile_top) // max(tile_height, 1)
    if (across + 1) * (down + 1) > _MOST_TILES:
        raise overlong(what)
    return bottom - top, right - left, components


def _find_codestream(frame: bytes) -> int:
    """Where the codestream starts: at once, as the standard has it, or behind the boxes of a JP2 file."""
    position = 0
    if not frame.startswith(_JP2):
        return position
    for _ in range(_MOST_BOXES):
        length = int.from_bytes(frame[position : position + 4], "big")
        if frame[position + 4 : position + 8] == b"jp2c":
            return position + (16 if length == 1 else 8)
        position += max(length, 8)
    return len(frame)


def _find_syntax(data: bytes) -> str | None:
    position = _PREAMBLE
    while position + 8 <= len(data) and data[position : position + 2] == b"\x02\x00":
        tag, kind = data[position : position + 4], data[position + 4 : position + 6]
        if kind in _LONG_LENGTHS:
            if position + 12 > len(data):
                return None
            (length,) = struct.unpack("<I", data[position + 8 : position + 12])
            position += 12
        else:
            (length,) = struct.unpack("<H", data[position + 6 : position + 8])
            position += 8
        if tag == _TRANSFER_SYNTAX:
            return data[position : position + length].rstrip(b"\0 ").decode("ascii", "replace")
        position += length
    return None
