"""Grey images to the square that the networks read (paper, section II.A: 150 x 150, 3 channels)."""

from __future__ import annotations

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
    return np.repeat(resize_grey(grey, size)[:, :, np.newaxis], CHANNELS, axis=2)
