"""numpy arrays to grey."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging.raster import check_pixels, convert_picture, scale_deep

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's L


def convert_array(array: NDArray[Any], what: str, limits: ImageLimits) -> NDArray[np.float32]:
    """An array as grey (height, width) float32, 0..255; the array is not changed.

    Shapes: (height, width), (height, width, 1), (h, w, 3) RGB, (h, w, 4) RGBA. Types: uint8;
    uint16, scaled by its real range where that exceeds 0..255; float, which must lie in 0..255
    (an image in 0..1 is not guessed at: multiply it by 255).

    Raises:
        ImageError: for any other shape, type or range.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{what} has shape {array.shape}; expected (height, width) or (height, width, 1, 3 or 4)."
        )
    check_pixels(array.shape[1], array.shape[0], what, limits)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8:
        return convert_picture(Image.fromarray(np.ascontiguousarray(array)), what, limits)
    if array.dtype == np.uint16:
        if array.max() <= 255:
            return convert_array(array.astype(np.uint8), what, limits)
        return _convert_colour(array, what, alpha_white=65535.0)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 255):  # also true of NaN
            raise ImageError(f"{what} is an array of floats outside 0..255 (or NaN); scale it to 0..255.")
        if np.array_equal(array, np.rint(array)):  # the same rounding as for the same picture in uint8
            return convert_array(array.astype(np.uint8), what, limits)
        return _convert_colour(array, what, alpha_white=255.0)
    raise ImageError(f"{what} is an array of {array.dtype}; expected uint8, uint16 or float in 0..255.")


def _convert_colour(array: NDArray[Any], what: str, alpha_white: float) -> NDArray[np.float32]:
    values = array.astype(np.float32)
    if values.ndim == 2:
        return scale_deep(values, what)
    grey = scale_deep(values[:, :, :3], what) @ _LUMINANCE
    if values.shape[2] == 4:
        grey = grey * (values[:, :, 3] / alpha_white)
    return np.asarray(np.clip(grey, 0.0, 255.0), dtype=np.float32)
