"""A finder of lungs for tests: the same box in every image that is not dark."""

from __future__ import annotations

from typing import Any

import numpy as np
from toy_checkpoint import make_meta

from covid_mm.imaging.lungs import LungRegion
from covid_mm.serving.metadata import parse_metadata
from covid_mm.serving.predictor import Predictor

BOX = (0.25, 0.125, 0.75, 0.875)
DARK = 10.0  # mean grey below which an image shows no lungs
LUNGS_META = {"file": "lungs.npz", "bytes": 1, "sha256": "0" * 64}
LUNGS = {"preprocessing": {"name": "lungs", "pixels": "the lungs"}, "lungs": LUNGS_META}
WEIGHTS = {"file": "model.weights.h5", "sha256": "0" * 64}


def make_region() -> LungRegion:
    """Two upright lungs inside BOX."""
    lungs = np.zeros((256, 256), bool)
    outline = []
    for left, right in ((80, 120), (136, 176)):
        lungs[48:208, left:right] = True
        corners = [(left, 48), (right, 48), (right, 208), (left, 208)]
        outline.append(np.array(corners, np.float32) / 256)
    return LungRegion(box=BOX, outline=tuple(outline), lungs=lungs, shown=lungs.copy())


class FakeSegmenter:
    """Stands for `LungSegmenter`; remembers for how many images of which modality it was asked."""

    def __init__(self) -> None:
        self.region = make_region()
        self.calls: list[tuple[str, int]] = []

    def find(self, images: Any, modality: str) -> list[LungRegion | None]:
        self.calls.append((modality, len(images)))
        return [None if grey.mean() < DARK else self.region for grey in images]


def make_lungs_predictor(network: Any, classifier: Any = None, **changes: Any) -> Predictor:
    """A predictor of a network that reads the lungs, which the fake finds. changes: of meta.json."""
    meta = parse_metadata(make_meta(network, weights=WEIGHTS, **LUNGS, **changes), "lungs")
    return Predictor(network, meta, classifier, FakeSegmenter())
