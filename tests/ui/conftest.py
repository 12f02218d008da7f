"""Images as bytes, the fake predictor, and a visitor of the running page."""

from __future__ import annotations

import pytest
from fake_predictor import FakePredictor
from live_server import LiveServer, Visitor
from made_images import make_png


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


@pytest.fixture
def visitor(server: LiveServer) -> Visitor:
    return Visitor(server.url)
