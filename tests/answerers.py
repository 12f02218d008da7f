"""Predictors for tests of batches, to be loaded in other processes too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fake_predictor import FakePredictor


class FakeAnswerer(FakePredictor):
    """Without a network; takes `seconds` for each study."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.batches: list[int] = []

    def predict_batch(self, studies: Any) -> Any:
        self.batches.append(len(studies))
        time.sleep(self.seconds * len(studies))
        return [self.predict_images(images) for images in studies]


def load_toy(checkpoint: Path, runtime: str = "tensorflow") -> Any:
    """The predictor of a published toy pair."""
    from toy_networks import toy_backbones

    from covid_mm import load_predictor

    with toy_backbones():
        predictor = load_predictor(checkpoint, runtime=runtime)
        predictor.warm_up()
    return predictor
