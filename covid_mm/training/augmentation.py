"""Random variation of training images that a radiograph could really show.

Small rotations, shifts and zooms (positioning), gain, gamma and noise (exposure, window). No
vertical flip, which never occurs; no horizontal flip of a film, which would put the heart on the
right; a CT slice may be mirrored, as conventions of display differ. Pixels stay in 0..255, before
any scaling, so that no layer's value range can clip them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality

GreyImages = NDArray[np.float32]


@dataclass(frozen=True)
class AugmentationConfig:
    """Greatest deviations: degrees, fractions of the side, factors about 1, grey levels of 255."""

    rotation: float = 10.0
    shift: float = 0.06
    zoom: float = 0.12
    gain: float = 0.15
    gamma: float = 0.25
    noise: float = 4.0
    mirror_slices: bool = True

    def scaled(self, strength: float) -> AugmentationConfig:
        """The same with every deviation multiplied by `strength`; mirroring stays."""
        return AugmentationConfig(
            self.rotation * strength,
            self.shift * strength,
            self.zoom * strength,
            self.gain * strength,
            self.gamma * strength,
            self.noise * strength,
            self.mirror_slices,
        )


def augment_image(
    image: GreyImages,
    modality: Modality,
    rng: np.random.Generator,
    config: AugmentationConfig = AugmentationConfig(),
) -> GreyImages:
    """One varied copy of a grey image (side, side) float32 0..255; the same for the same generator state."""
    side = image.shape[0]
    angle = rng.uniform(-config.rotation, config.rotation)
    zoom = 1.0 + rng.uniform(-config.zoom, config.zoom)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, zoom)
    matrix[:, 2] += rng.uniform(-config.shift, config.shift, size=2) * side
    moved = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mirrored = rng.random() < 0.5
    if config.mirror_slices and MODALITIES[modality].kind == "slice" and mirrored:
        moved = moved[:, ::-1]
    gamma = np.exp(rng.uniform(-config.gamma, config.gamma))
    gain = 1.0 + rng.uniform(-config.gain, config.gain)
    offset = rng.uniform(-config.gain, config.gain) * 64
    exposed = 255.0 * np.power(np.clip(moved / 255.0, 0.0, 1.0), gamma)
    exposed = (exposed - 127.5) * gain + 127.5 + offset
    exposed += rng.normal(0.0, rng.uniform(0.0, config.noise), size=exposed.shape)
    varied: GreyImages = np.clip(exposed, 0.0, 255.0).astype(np.float32)
    return varied


def augment_images(
    images: GreyImages, modality: Modality, *, seed: tuple[int, ...], strength: float = 1.0
) -> GreyImages:
    """Varied copies of grey images (n, side, side), each from its own generator seeded by (seed, row).

    strength: 1 for AugmentationConfig's deviations, 0 for none but mirroring.
    """
    config = AugmentationConfig().scaled(strength)
    return np.stack(
        [
            augment_image(image, modality, np.random.default_rng([*seed, row]), config)
            for row, image in enumerate(images)
        ]
    )
