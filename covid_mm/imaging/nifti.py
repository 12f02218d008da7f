"""A NIfTI volume of a CT (.nii or .nii.gz) through nibabel, turned so that its slices are axial and seen as usual.

What the header claims is checked before more than it is unpacked. Source: the NIfTI-1 and NIfTI-2 standards
(nifti.nimh.nih.gov).
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging.raster import check_pixels

_GZIP, _GZIP_BITS = b"\x1f\x8b", 31  # zlib's number for gzip's head and checksum
_MAGIC = ((344, (b"n+1\0", b"ni1\0")), (4, (b"n+2\0", b"ni2\0")))  # of versions 1 and 2: where, and what
_START = 1024  # bytes that hold either header
_LEAST_HU = -400.0  # a chest CT holds air, about -1,000 HU
_MOST_STRETCHED = 3.0  # a pixel's longer side by its shorter one
_SLACK = 16 * 1024 * 1024  # bytes of header extensions


def is_nifti(data: bytes) -> bool:
    """Whether a file's bytes begin as a NIfTI volume does, packed or not."""
    start = _unpack(data[: 64 * 1024], _START) if data.startswith(_GZIP) else data[:_START]
    return any(start[offset : offset + 4] in words for offset, words in _MAGIC)


def read_nifti(
    data: bytes, what: str, limits: ImageLimits
) -> tuple[tuple[NDArray[np.int16] | NDArray[np.float32], ...], tuple[float, ...]]:
    """Axial slices (rows, columns) in HU, feet first, the patient's right at the left; their positions in mm.

    int16 where that loses nothing.

    Raises:
        ImageError: one sentence: damaged, too large, more than three dimensions, colours, no HU, or slices so thick
            that the axial ones are stretched.
    """
    import nibabel

    try:
        start = _unpack(data, _START) if data.startswith(_GZIP) else data[:_START]
        kind: Any = nibabel.Nifti2Image if start[4:8] in _MAGIC[1][1] else nibabel.Nifti1Image
        header = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
        shape = _check_header(header, what, limits)
        if start[344:348] == b"ni1\0" or start[4:8] == b"ni2\0":
            raise ImageError(
                "{what} is one half of a NIfTI pair (.hdr and .img); save it as one .nii file.", what=what
            )
        size = int(header["vox_offset"]) + math.prod(shape) * header.get_data_dtype().itemsize
        whole = _unpack(data, size + _SLACK) if data.startswith(_GZIP) else data
        if len(whole) < size:
            raise ImageError(
                "{what} is truncated: voxels are missing at its end; copy or export it again.", what=what
            )
        image = kind.from_bytes(whole[:size])
        return _cut_slices(image, shape, what)
    except ImageError:
        raise
    except Exception as error:  # nibabel, gzip and NumPy raise a dozen kinds on damaged files
        raise ImageError(
            "{what} is a damaged or truncated NIfTI volume; export it again.", what=what
        ) from error


def _unpack(data: bytes, most: int) -> bytes:
    """At most so many bytes of a gzip file, however many it holds; what there is of a cut one."""
    parts: list[bytes] = []
    left = most
    while left > 0 and data:  # a file may be of several gzip members
        member = zlib.decompressobj(wbits=_GZIP_BITS)
        try:
            parts.append(member.decompress(data, left))
        except zlib.error:
            break  # too short a file is said by who knows how long it should be
        left -= len(parts[-1])
        if not member.eof:
            break
        data = member.unused_data
    return b"".join(parts)


def _check_header(header: Any, what: str, limits: ImageLimits) -> tuple[int, int, int]:
    shape = tuple(int(side) for side in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ImageError(
            "{what} is a NIfTI file of {size} values; expected one volume of three dimensions.",
            what=what,
            size=" x ".join(map(str, shape)) or "0",
        )
    if header.get_data_dtype().kind not in "iuf":
        raise ImageError(
            "{what} is a NIfTI volume in colour or of complex numbers; expected Hounsfield units.", what=what
        )
    if math.prod(shape) > limits.max_series_pixels:
        raise ImageError(
            "{what} has {size} values; at most {limit} million are taken: give thicker slices.",
            what=what,
            size=" x ".join(map(str, shape)),
            limit=f"{limits.max_series_pixels / 1e6:g}",
        )
    return (shape[0], shape[1], shape[2])


def _cut_slices(
    image: Any, shape: tuple[int, int, int], what: str
) -> tuple[tuple[NDArray[np.int16] | NDArray[np.float32], ...], tuple[float, ...]]:
    from nibabel import orientations

    if not np.isfinite(image.affine).all():
        raise ImageError(
            "{what} does not say how it lies in the patient (its affine); export it again.", what=what
        )
    turn: Any = orientations
    orientation = turn.io_orientation(image.affine)
    raw = turn.apply_orientation(np.asarray(image.dataobj.get_unscaled()).reshape(shape), orientation)
    affine = image.affine @ turn.inv_ornt_aff(orientation, shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)  # right, front, up
    if max(spacing[:2]) > _MOST_STRETCHED * min(spacing[:2]):
        raise ImageError("{what} has slices that are not axial; give the axial series.", what=what)
    check_pixels(raw.shape[0], raw.shape[1], what, ImageLimits())
    slope, intercept = (float(value) for value in (image.dataobj.slope, image.dataobj.inter))
    slices = []
    for level in range(raw.shape[2]):
        # from the patient's left to right and back to front, to right to left and front to back
        values = np.ascontiguousarray(raw[::-1, ::-1, level].T, np.float64) * slope + intercept
        if not np.isfinite(values).all():
            raise ImageError("{what} holds values that are not numbers; export it again.", what=what)
        whole = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
        slices.append(whole if np.array_equal(whole, values) else np.asarray(values, np.float32))
    lowest = min(float(part.min()) for part in slices)
    if lowest > _LEAST_HU:
        raise ImageError(
            "{what} holds no Hounsfield units: its lowest value is {lowest}, and air is about -1000; export the CT"
            " itself, not a mask or a rescaled copy.",
            what=what,
            lowest=f"{lowest:g}",
        )
    centre = affine[2, 0] * (raw.shape[0] - 1) / 2 + affine[2, 1] * (raw.shape[1] - 1) / 2 + affine[2, 3]
    return tuple(slices), tuple(float(centre + affine[2, 2] * level) for level in range(raw.shape[2]))
