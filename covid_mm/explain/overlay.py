"""A heatmap as colours, laid over its image.

The colours are OpenCV's inferno: lightness rises with the value from end to end, so the map keeps
its order for colour-blind readers and in a greyscale print; jet and turbo do not.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import ImageError, UsageError

FULL_OPACITY_AT = 0.5  # value from which a pixel is as opaque as the caller asked


def colour_heatmap(heatmap: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Colour of each value, dark (0) to bright (1).

    Args:
        heatmap: (height, width), any floating type, 0..1.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        ImageError: another shape or type, NaN, or values outside 0..1.
    """
    return _colour_levels(np.rint(_check_heatmap(heatmap) * 255.0).astype(np.uint8))


def blend_heatmap(
    image: NDArray[np.uint8], heatmap: NDArray[np.floating[Any]], opacity: float = 0.5
) -> NDArray[np.uint8]:
    """The image with the heatmap's colours laid over it, the more opaque the more evidence.

    A pixel's share of colour rises evenly from 0, where there is no evidence, to `opacity` at
    half of the scale, and stays there. An all-zero map or an opacity of 0 gives a copy of the
    image. Neither input is changed.

    Args:
        image: uint8 RGB (height, width, 3), 0..255.
        heatmap: floating (height, width) of the same height and width, 0..1; see `resize_heatmap`.
        opacity: largest share of the colour, 0..1.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        ImageError: an image or heatmap of another shape, type or range, or of different sizes.
        UsageError: an opacity outside 0..1.
    """
    picture = _check_image(image)
    values = _check_heatmap(heatmap)
    if picture.shape[:2] != values.shape:
        raise ImageError(
            f"Image and heatmap must have one height and width, but they have {picture.shape[:2]} and"
            f" {values.shape}; call resize_heatmap first."
        )
    if not 0.0 <= opacity <= 1.0:
        raise UsageError(f"Opacity must lie between 0 and 1, but is {opacity}.")
    share = (opacity * np.minimum(values / FULL_OPACITY_AT, 1.0))[..., np.newaxis]
    colours = colour_heatmap(values).astype(np.float32)
    blended: NDArray[np.float32] = picture.astype(np.float32) * (1.0 - share) + colours * share
    return np.rint(blended).astype(np.uint8)


def draw_colour_bar(height: int = 150, width: int = 12) -> NDArray[np.uint8]:
    """The scale's legend: 1 at the top, 0 at the bottom; lying (0 left, 1 right) where wider than high.

    Args:
        height, width: pixels; the longer side, at least 2, carries the scale.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        UsageError: a side below 1 or both sides below 2.
    """
    if min(height, width) < 1 or max(height, width) < 2:
        raise UsageError(
            f"A colour bar needs sides of at least 1 pixel and one of at least 2, but {height} x {width}"
            " was asked for."
        )
    if width > height:
        ramp = np.broadcast_to(np.linspace(0.0, 1.0, width, dtype=np.float32), (height, width))
    else:
        column = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, np.newaxis]
        ramp = np.broadcast_to(column, (height, width))
    return colour_heatmap(ramp)


def resize_heatmap(heatmap: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
    """The heatmap at another size, as a rule that of the original image.

    Bilinear, so that no value leaves the range of its neighbours. Shrinking averages areas
    instead, so that no evidence falls between the samples.

    Args:
        heatmap: (h, w), any floating type, 0..1.
        height, width: wanted pixels, at least 1 each.

    Returns:
        float32 (height, width), 0..1.

    Raises:
        ImageError: a heatmap of another shape, type or range.
        UsageError: a side below 1.
    """
    values = _check_heatmap(heatmap)
    if min(height, width) < 1:
        raise UsageError(
            f"A heatmap needs at least 1 pixel a side, but {height} x {width} was asked for; "
            "give the height and width of the image."
        )
    shrinks = height < values.shape[0] and width < values.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(values, (width, height), interpolation=method)
    return np.clip(resized, 0.0, 1.0)  # rounding may leave the range by an ulp


def _colour_levels(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of 0..255 levels; OpenCV answers in BGR order."""
    bgr: NDArray[np.uint8] = cv2.applyColorMap(np.ascontiguousarray(levels), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(bgr[..., ::-1])


def _check_heatmap(heatmap: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A float32 copy of the heatmap, or an error."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or values.size == 0 or not np.issubdtype(values.dtype, np.floating):
        raise ImageError(
            "A heatmap must be a floating array of shape (height, width), but this one is"
            f" {values.dtype} of shape {values.shape}."
        )
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("A heatmap must be finite, but this one holds NaN or infinity: check the network.")
    if low < 0.0 or high > 1.0:
        raise ImageError(
            f"A heatmap must lie within 0..1, but this one reaches from {low:g} to {high:g};"
            " divide it by the checkpoint's heatmap scale and clip it."
        )
    return values.astype(np.float32)


def _check_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image itself, or an error."""
    picture = np.asarray(image)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0 or picture.dtype != np.uint8:
        raise ImageError(
            "The image under a heatmap must be uint8 RGB of shape (height, width, 3), but this one is"
            f" {picture.dtype} of shape {picture.shape}."
        )
    return picture
