"""What all tests share: a quiet TensorFlow, fixed seeds, small images, and the way to real ones."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from live_server import LiveServer
from PIL import Image

# before any test imports TensorFlow or Gradio; commands started by tests inherit it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

DATA_VARIABLE = "COVID_MM_DATA"
NO_DATA = f"{DATA_VARIABLE} is not set: it names the folder of the real data sets"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `real_data` where there is none."""
    if not os.environ.get(DATA_VARIABLE):
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(pytest.mark.skip(reason=NO_DATA))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data sets; a test that takes it is skipped where there is none."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(NO_DATA)
    root = Path(value)
    # set but wrong is a mistake to hear of, not a reason to skip
    assert root.is_dir(), f"{DATA_VARIABLE} names {root}, which is not a folder"
    return root


@pytest.fixture(scope="session")
def once_per_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`once_per_run("name", make)`: the folder that `make(folder)` filled, made by the first worker that asks.

    All workers of pytest-xdist share it, so no test may change it. Where `make` fails, the next one tries anew.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def share(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / f"shared-{name}", shared / f"shared-{name}.done"
        with FileLock(shared / f"shared-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return share


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The page with the fake predictor, started once on each worker."""
    running = LiveServer(tmp_path_factory.mktemp("server"))
    yield running.wait_until_open()
    running.stop()


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same random numbers for each test, whatever ran before it."""
    random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture
def small_backbones() -> Iterator[None]:
    """Every backbone's name builds a small stand-in of the same layer names."""
    from toy_networks import toy_backbones

    with toy_backbones():
        yield


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a small grey picture: `image_file("ct.png", size=64, seed=1)` gives its path.

    A soft disc on a gradient with noise, uint8 (size, size); the suffix names the format.
    """

    def write(name: str = "image.png", *, size: int = 64, seed: int = 0) -> Path:
        row, column = np.mgrid[0:size, 0:size] / size
        disc = np.hypot(row - 0.5, column - 0.5) < 0.3
        noise = np.random.default_rng(seed).normal(0, 8, (size, size))
        pixels = np.clip(60 + 80 * column + 70 * disc + noise, 0, 255).astype(np.uint8)
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        return path

    return write
