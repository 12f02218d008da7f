"""Headless chromium on the real server; skipped, with the reason, only where there is none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import ROOT, LiveServer
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # tests often run as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """One chromium for a module's tests; each test opens its own context in it.

    Not for the session: playwright keeps an event loop running in this thread while it lives. A worker of
    pytest-xdist runs one module after another (`--dist loadfile`), so it never has two.
    """
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no {', '.join(BROWSERS)} on this machine (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as session:
        started = session.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The page with the fake predictor."""
    running = LiveServer(tmp_path_factory.mktemp("server"))
    yield running.wait_until_open()
    running.stop()


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """`python app.py` with the committed checkpoint, as a user starts it."""
    if not list(ROOT.glob("checkpoints/densenet121-mobilenet/meta.json")):
        pytest.skip("no checkpoint in checkpoints/densenet121-mobilenet yet: train.py publishes it")
    command = [sys.executable, "app.py", "--port", "{port}"]
    running = LiveServer(tmp_path_factory.mktemp("real"), command)
    yield running.wait_until_open()
    running.stop()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[..., object]]:
    """`open_page(width=390, dark=True)` gives a fresh visitor's page; it fails on script errors."""
    contexts, errors, foreign = [], [], []

    def opener(
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        at: LiveServer = server,
        locale: str = "en-US",
    ):
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, color_scheme=scheme, locale=locale)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a busy machine draws slowly; a test that passes waits no longer
        # From the start: where a test begins to listen only as it presses, the browser's own dialog may open first.
        page.on("filechooser", lambda chooser: None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if not request.url.startswith((at.url, "data:", "blob:"))
                else None
            ),
        )
        page.goto(at.url)
        page.wait_for_selector(".mm-example")
        page.wait_for_function("window.covidMM && Object.keys(window.covidMM.slots).length === 2")
        return page

    yield opener
    for context in contexts:
        context.close()
    assert errors == []
    assert foreign == []  # no network beyond the server


@pytest.fixture(scope="session")
def studies(once_per_run: Callable[..., Path]) -> dict[str, Path]:
    """Phantom images of two studies, and what goes wrong: name -> file. Not to be changed."""
    return {path.stem: path for path in once_per_run("studies", _draw_studies).iterdir()}


def _draw_studies(folder: Path) -> None:
    from covid_mm.datasets.phantoms import make_study

    for label, seed in ((0, 1), (1, 2)):
        study = make_study(label, seed)
        Image.fromarray(study.ct).save(folder / f"ct{label}.png")
        Image.fromarray(study.xray).save(folder / f"xray{label}.png")
    bright = np.clip(np.asarray(Image.open(folder / "ct1.png")).astype(int) // 3 + 150, 0, 245)
    Image.fromarray(bright.astype(np.uint8)).save(folder / "bright.jpg", quality=95)
    black = np.zeros((200, 120), np.uint8)
    Image.fromarray(black).save(folder / "black.png")
    data = (folder / "ct0.png").read_bytes()
    (folder / "damaged.png").write_bytes(data[: len(data) // 2])
    (folder / "large.png").write_bytes(bytes(20 * 2**20 + 1))
