"""Random variation of lung crops in what hospitals differ in: frame, window, exposure, detector, compression.

For crops that `imaging.lungs.read_lungs` cut with room around them; geometry of the patient (small
turns) comes along. The paper's own protocol keeps the milder `training.augmentation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality

ROOM = 0.12  # of the crop's side, cut all round beyond the box so that the frame can move


@dataclass(frozen=True)
class AppearanceConfig:
    """Greatest deviations; probabilities in 0..1.

    zoom, stretch, shift: fractions of the side. rotation: degrees. gamma: natural logarithm of the
    exponent. contrast, brightness: fractions. noise: grey levels of 255. blur: pixels.
    resolution: least share of the pixels that is kept. jpeg: least quality. shade: grey levels of a
    slow change over the image. erased: probability that a small part is wiped out.
    """

    zoom: float = 0.09
    stretch: float = 0.06
    shift: float = 0.05
    rotation: float = 7.0
    mirrored: float = 0.5
    gamma: float = 0.4
    contrast: float = 0.25
    brightness: float = 0.12
    noise: float = 9.0
    blur: float = 1.1
    resolution: float = 0.55
    jpeg: int = 35
    shade: float = 25.0
    erased: float = 0.2


NONE = AppearanceConfig(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 100, 0, 0)
MILD = AppearanceConfig(
    zoom=0.05,
    stretch=0.03,
    shift=0.03,
    rotation=5.0,
    gamma=0.15,
    contrast=0.1,
    brightness=0.05,
    noise=4.0,
    blur=0.6,
    resolution=0.8,
    jpeg=70,
    shade=8.0,
    erased=0.0,
)  # about as much as images of one hospital differ


def vary_crop(
    crop: NDArray[np.uint8],
    target: NDArray[np.uint8],
    modality: Modality,
    size: int,
    rng: np.random.Generator,
    config: AppearanceConfig,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One varied copy of a crop with room around it, and of the map of its lesions, in the same frame.

    Args:
        crop: uint8 (s, s), the lungs' box with ROOM on each side.
        target: uint8 (s, s), 255 where there is a lesion.
        size: pixels per side of what comes out.

    Returns:
        image float32 (size, size) 0..255, target float32 (size, size) 0..1.
    """
    side = crop.shape[0]
    inner = side / (1 + 2 * ROOM)
    zoom = inner / size * np.exp(rng.uniform(-config.zoom, config.zoom))
    stretch = np.exp(rng.uniform(-config.stretch, config.stretch, 2))
    angle = np.deg2rad(rng.uniform(-config.rotation, config.rotation))
    flip = -1.0 if rng.random() < config.mirrored else 1.0
    linear = np.diag(zoom * stretch) @ np.array(
        [[flip * np.cos(angle), -np.sin(angle)], [flip * np.sin(angle), np.cos(angle)]]
    )
    centre = np.full(2, (side - 1) / 2) + rng.uniform(-config.shift, config.shift, 2) * inner
    matrix = np.hstack([linear, (centre - linear @ np.full(2, (size - 1) / 2))[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(
        crop.astype(np.float32), matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    moved = cv2.warpAffine(target, matrix, (size, size), flags=flags).astype(np.float32) / 255.0
    return _vary_grey(image, rng, config), moved


def _vary_grey(
    image: NDArray[np.float32], rng: np.random.Generator, config: AppearanceConfig
) -> NDArray[np.float32]:
    size = image.shape[0]
    if config.erased and rng.random() < config.erased:
        high, wide = (rng.uniform(0.08, 0.25, 2) * size).astype(int)
        row, column = int(rng.integers(0, size - high)), int(rng.integers(0, size - wide))
        image[row : row + high, column : column + wide] = rng.uniform(30, 220)
    if config.resolution < 1 and rng.random() < 0.35:
        small = max(8, round(size * rng.uniform(config.resolution, 1.0)))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    draw = rng.random()
    if config.blur and draw < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, config.blur) + 1e-3)
    elif config.blur and draw < 0.45:  # edge enhancement of the detector or the kernel
        image = image + rng.uniform(0.2, 1.0) * (
            image - cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.5))
        )
    values = np.clip(image / 255.0, 0.0, 1.0)
    values = np.power(values, np.exp(rng.uniform(-config.gamma, config.gamma)))
    gain = 1.0 + rng.uniform(-config.contrast, config.contrast)
    values = ((values - 0.5) * gain + 0.5 + rng.uniform(-config.brightness, config.brightness)) * 255.0
    if config.shade and rng.random() < 0.4:
        coarse = rng.uniform(-config.shade, config.shade, (3, 3)).astype(np.float32)
        values = values + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    if config.noise:
        noise = rng.standard_normal((size, size), dtype=np.float32) * rng.uniform(0, config.noise)
        if rng.random() < 0.4:
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.2)) * 2.0
        values = values + noise
    values = np.clip(values, 0.0, 255.0)
    if config.jpeg < 100 and rng.random() < 0.3:
        quality = int(rng.integers(config.jpeg, 96))
        _, data = cv2.imencode(".jpg", np.rint(values).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
        values = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return np.asarray(values, np.float32)
