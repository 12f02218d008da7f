"""Images as bytes for the tests of the page."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image


def make_png(level: float, *, size: tuple[int, int] = (96, 96), seed: int = 0) -> bytes:
    """A noisy grey PNG of about this brightness, 0..1, with a soft bright disc in it."""
    height, width = size
    row, column = np.mgrid[0:height, 0:width]
    disc = np.exp(-(((row / height - 0.4) ** 2 + (column / width - 0.6) ** 2) / 0.02))
    noise = np.random.default_rng(seed).normal(0, 3, size)
    pixels = np.clip(level * 235 + 40 * disc + noise, 0, 245).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_flat(level: int, size: tuple[int, int] = (60, 80)) -> bytes:
    """A PNG that is all one grey, 0..255."""
    buffer = BytesIO()
    Image.fromarray(np.full(size, level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
