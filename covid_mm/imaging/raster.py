"""PNG, JPEG and PIL images to grey, through Pillow."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError

_DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})  # more than 8 bits a pixel
_ORIENTATION = 0x0112  # EXIF tag
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
        raise ImageError(f"{what} is damaged or truncated; export or copy it again.") from error
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
            raise ImageError(f"{what} is animated; expected a single picture: export one frame.")
        picture.load()
        if picture.mode in _DEEP_MODES:
            grey = _convert_deep(picture, what)
        else:
            grey = np.asarray(_flatten(picture).convert("L"), dtype=np.float32)
    except ImageError:
        raise
    except Exception as error:  # as above; the text may hold the file's content, so it isn't repeated
        raise ImageError(
            f"{what} can't be turned into grey (mode {picture.mode}); it is damaged or of a rare kind:"
            " export it as an 8-bit PNG or JPEG."
        ) from error
    return np.ascontiguousarray(_orient(grey, _read_orientation(picture)))


def check_pixels(width: int, height: int, what: str, limits: ImageLimits) -> None:
    """Refuse an empty picture or one of more pixels than the limit.

    Raises:
        ImageError: naming the size and the limit.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{what} is empty: {width} x {height} pixels.")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{what} has {width} x {height} pixels; at most {limits.max_pixels / 1e6:g} million are taken:"
            " scale it down."
        )


def scale_deep(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """Grey of more than 8 bits as 0..255 float32: its own minimum black, its own maximum white.

    Values that lie within 0..255 already are kept. A picture of one value becomes black.

    Raises:
        ImageError: where a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ImageError(f"{what} holds values that are not numbers (NaN or infinity).")
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 255.0:
        return values
    span = (high - low) or 1.0
    return np.asarray((values.astype(np.float64) - low) * (255.0 / span), dtype=np.float32)


def _convert_deep(picture: Image.Image, what: str) -> NDArray[np.float32]:
    values = np.asarray(picture).astype(np.float32)
    transparent = picture.info.get("transparency")  # PNG: the one grey value that is transparent
    if isinstance(transparent, int):
        opaque = values != transparent
        if opaque.any():
            values = np.where(opaque, values, values[opaque].min()).astype(np.float32)
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
