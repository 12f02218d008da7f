"""PNG, JPEG and PIL images to grey, through Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError

_DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})  # more than 8 bits per pixel
_ORIENTATION = 0x0112  # EXIF tag
_BAND_PIXELS = 1 << 20  # converted at once
_STILLS = ("MPO",)  # several pictures in one JPEG, of which the first is the photograph


def decode_raster(data: bytes, what: str, limits: ImageLimits) -> NDArray[np.float32]:
    """Decode the bytes of one PNG or JPEG file to grey (height, width) float32, 0..255.

    Raises:
        ImageError: where Pillow can't decode it, or by `convert_picture`.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        check_pixels(*picture.size, what, limits)
        picture.load()
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise a dozen kinds on damaged files
        raise ImageError("{what} is damaged or truncated; export or copy it again.", what=what) from error
    return convert_picture(picture, what, limits)


def convert_picture(picture: Image.Image, what: str, limits: ImageLimits) -> NDArray[np.float32]:
    """A PIL image of any mode as grey (height, width) float32, 0..255; it is not changed.

    Colour becomes luminance (ITU-R 601), transparency is flattened over black, deep grey is
    scaled by its real range (`scale_deep`), the EXIF orientation is applied.

    Raises:
        ImageError: where it is animated, empty, too large, damaged, or of a mode without grey.
    """
    check_pixels(*picture.size, what, limits)
    try:
        if getattr(picture, "n_frames", 1) > 1 and picture.format not in _STILLS:
            raise ImageError("{what} is animated; expected a single picture: export one frame.", what=what)
        picture.load()
        if picture.mode in _DEEP_MODES:
            grey = _convert_deep(picture, what)
        else:
            grey = _fill_rows(picture, lambda band: _flatten(band).convert("L"))
    except ImageError:
        raise
    except Exception as error:  # as above; the text may hold the file's content, so it isn't repeated
        raise ImageError(
            "{what} can't be turned into grey (mode {mode}); it is damaged or of a rare kind: export"
            " it as an 8-bit PNG or JPEG.",
            what=what,
            mode=picture.mode,
        ) from error
    return np.ascontiguousarray(_orient(grey, _read_orientation(picture)))


def check_pixels(width: int, height: int, what: str, limits: ImageLimits) -> None:
    """Refuse an empty picture, one of more pixels than the limit, or one that is a mere stripe.

    Raises:
        ImageError: naming the size and the limit.
    """
    if width < 1 or height < 1:
        raise ImageError("{what} is empty: {width} x {height} pixels.", what=what, width=width, height=height)
    if width * height > limits.max_pixels:
        raise ImageError(
            "{what} has {width} x {height} pixels; at most {most} million are taken: scale it down.",
            what=what,
            width=width,
            height=height,
            most=f"{limits.max_pixels / 1e6:g}",
        )
    longer, shorter = max(width, height), min(width, height)
    if longer > limits.max_side:
        raise ImageError(
            "{what} has {width} x {height} pixels; at most {most} a side are taken: scale it down.",
            what=what,
            width=width,
            height=height,
            most=limits.max_side,
        )
    if longer > limits.max_aspect * shorter:
        raise ImageError(
            "{what} has {width} x {height} pixels; one side may be {most} times the other at most:"
            " crop it to the chest.",
            what=what,
            width=width,
            height=height,
            most=f"{limits.max_aspect:g}",
        )


def scale_deep(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Grey of more than 8 bits as 0..255 float32: its own minimum black, its own maximum white.

    Values that lie within 0..255 already are kept. A picture of one value becomes black.

    Raises:
        ImageError: where a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ImageError("{what} holds values that are not numbers (NaN or infinity).", what=what)
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 255.0:
        return values
    factor = 255.0 / ((high - low) or 1.0)
    return map_rows(lambda rows: (rows.astype(np.float64) - low) * factor, values)


def map_rows(function: Callable[[NDArray[Any]], NDArray[Any]], values: NDArray[Any]) -> NDArray[np.float32]:
    """`function`, which looks at each pixel alone, of (height, width, ...) as float32.

    Some rows at a time, so that what it needs in between is small beside the picture.
    """
    height, width = values.shape[:2]
    result: NDArray[np.float32] | None = None
    for rows in _bands(height, width):
        part = function(values[rows])
        if result is None:
            result = np.empty((height, *part.shape[1:]), np.float32)
        result[rows] = part
    assert result is not None, "check_pixels refuses a picture without rows"
    return result


def _fill_rows(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> NDArray[np.float32]:
    """The same of a PIL image."""
    width, height = picture.size
    result = np.empty((height, width), np.float32)
    for rows in _bands(height, width):
        result[rows] = np.asarray(convert(picture.crop((0, rows.start, width, rows.stop))))
    return result


def _bands(height: int, width: int) -> Iterator[slice]:
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _convert_deep(picture: Image.Image, what: str) -> NDArray[np.float32]:
    values = _fill_rows(picture, lambda band: band)
    transparent = picture.info.get("transparency")  # PNG: the one grey value that is transparent
    if isinstance(transparent, int):
        opaque = values != transparent
        if opaque.any():
            values[~opaque] = np.min(values, where=opaque, initial=np.inf)
    return scale_deep(values, what)


def _flatten(picture: Image.Image) -> Image.Image:
    """The picture without transparency, over black, in a mode that converts to L."""
    if picture.has_transparency_data:
        coloured = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    if picture.mode in ("L", "1"):
        return picture
    return picture.convert("RGB")


def _read_orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing; the pixels are whole
        return 1
    return value if isinstance(value, int) else 1


def _orient(grey: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Turn and mirror by the EXIF orientation, 1..8 (EXIF 2.32, table 6)."""
    if orientation in (5, 6, 7, 8):
        grey = grey.T
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1, :]
    return grey
