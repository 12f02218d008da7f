"""One image's lungs in the body of another, so that what surrounds the lungs says nothing of the label.

Collections differ in all but the lungs too (the table, the arms, letters, tubes, the frame), and a
network that may will learn that. The lungs' crops show both bodies in the same frame and with the
same grey levels, so that one fits the other; the label stays that of the lungs.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

RIM = 0.04  # of the side, kept with the lungs: opacities at the pleura that the outline leaves out
_EDGE = 0.012  # of the side: deviation of the blur that joins both images
_LEAST = 0.05  # of the crop: with less lung there is nothing to show


def place_in_body(
    crop: NDArray[np.uint8],
    lungs: NDArray[np.uint8],
    body: NDArray[np.uint8],
    body_lungs: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """The lungs of `crop`, and all else from `body`; `crop` itself where either image has no known lungs.

    Args:
        crop, body: uint8 (s, s) as `imaging.lungs.read_lungs` gives them; not changed.
        lungs, body_lungs: uint8 (s, s), 255 on the lungs. Where the body's lungs reach beyond those of
            the crop, the crop stays too, so that no lung of the other image is seen.

    Returns:
        uint8 (s, s).
    """
    side = crop.shape[0]
    own, other = lungs >= 128, body_lungs >= 128
    if min(own.mean(), other.mean()) < _LEAST:
        return crop
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(RIM * side) + 1,) * 2)
    lungs_with_rim = cv2.dilate((own | other).astype(np.float32), kernel)
    share = cv2.GaussianBlur(lungs_with_rim, (0, 0), _EDGE * side)
    mixed = share * crop.astype(np.float32) + (1.0 - share) * body.astype(np.float32)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)
