"""Grey images to the square that the networks read (paper, section II.A: 150 x 150, 3 channels)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from covid_mm.config import CHANNELS, IMAGE_SIZE
from covid_mm.errors import ImageError


def resize_grey(grey: ArrayLike, size: int = IMAGE_SIZE) -> NDArray[np.float32]:
    """Resize (height, width) grey, 0..255, to (size, size) float32, 0..255.

    The aspect ratio is not kept, as in the paper. Pillow's bicubic filter widens with the factor
    of reduction, so that fine structure is averaged instead of aliased; what it overshoots is cut
    back to 0..255.

    Raises:
        ImageError: where `grey` is not two-dimensional or is empty.
    """
    values = np.asarray(grey, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise ImageError(f"Expected a grey image (height, width), got an array of shape {values.shape}.")
    resized = Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized, dtype=np.float32), 0.0, 255.0)


def resize_image(grey: ArrayLike, size: int = IMAGE_SIZE) -> NDArray[np.float32]:
    """Resize like `resize_grey` and repeat the grey: (size, size, 3) float32, 0..255, channels equal.

    Raises:
        ImageError: where `grey` is not two-dimensional or is empty.
    """
    return np.asarray(to_network_input(resize_grey(grey, size)[np.newaxis])[0])


def to_network_input(greys: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey images (n, height, width) as the equal channels that a backbone reads, float32 (n, height, width, 3)."""
    images = np.empty((*greys.shape, CHANNELS), np.float32)
    for grey, image in zip(greys, images, strict=True):  # NumPy takes ten times as long to repeat a channel
        cv2.cvtColor(np.ascontiguousarray(grey, np.float32), cv2.COLOR_GRAY2RGB, dst=image)
    return images
