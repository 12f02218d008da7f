"""Images as bytes, the fake predictor, and one running server for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from fake_predictor import FakePredictor
from live_server import LiveServer, Visitor
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


@pytest.fixture
def dark() -> bytes:
    """The fake calls it normal."""
    return make_png(0.2, seed=1)


@pytest.fixture
def bright() -> bytes:
    """The fake calls it positive."""
    return make_png(0.8, seed=2)


@pytest.fixture
def predictor() -> FakePredictor:
    return FakePredictor()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The page with the fake predictor, started once."""
    running = LiveServer(tmp_path_factory.mktemp("server"))
    yield running.wait_until_open()
    running.stop()


@pytest.fixture
def visitor(server: LiveServer) -> Visitor:
    return Visitor(server.url)
