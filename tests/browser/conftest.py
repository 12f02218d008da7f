"""Headless chromium on the real server; skipped, with the reason, only where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import LiveServer
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
    """One chromium for a module's tests.

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


class Visit:
    """A fresh visitor's page, and what must not happen on it: script errors, requests to other servers."""

    def __init__(self, browser, at: LiveServer, width: int, height: int, dark: bool, locale: str) -> None:
        self.errors, self.foreign = [], []
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, locale=locale)
        self.page = page = self.context.new_page()
        page.set_default_timeout(60_000)  # a busy machine draws slowly; a test that passes waits no longer
        # From the start: where a test begins to listen only as it presses, the browser's own dialog may open first.
        page.on("filechooser", lambda chooser: None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                self.foreign.append(request.url)
                if not request.url.startswith((at.url, "data:", "blob:"))
                else None
            ),
        )
        page.goto(at.url)
        page.wait_for_selector(".mm-example")
        page.wait_for_function("window.covidMM && Object.keys(window.covidMM.slots).length === 2")

    def clear(self) -> None:
        """The study's tab with empty slots and no result, as wide as at first."""
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.page.get_by_role("tab").first.click()
        before = self.page.evaluate("window.covidMM.finishes")
        self.page.click("#mm-clear")
        self.page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
        self.page.wait_for_selector("#mm-result .mm-empty")
        self.page.evaluate("document.activeElement.blur()")

    def check(self) -> None:
        """Fails where something of it did happen since the last look."""
        seen = self.errors.copy(), self.foreign.copy()
        self.errors.clear()
        self.foreign.clear()
        assert seen == ([], [])  # no network beyond the server


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[..., object]]:
    """`open_page(width=390, dark=True)` gives a fresh visitor's page; it fails on script errors."""
    visits: list[Visit] = []

    def opener(
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        at: LiveServer = server,
        locale: str = "en-US",
    ):
        visits.append(Visit(browser, at, width, height, dark, locale))
        return visits[-1].page

    yield opener
    for visit in visits:
        visit.context.close()
    for visit in visits:
        visit.check()


@pytest.fixture(scope="module")
def visits() -> Iterator[dict[tuple[str, str], Visit]]:
    """The module's visitor of each server in each language, once there was one."""
    made: dict[tuple[str, str], Visit] = {}
    yield made
    for visit in made.values():
        visit.context.close()


@pytest.fixture
def revisit(browser, server, visits) -> Iterator[Callable[..., object]]:
    """`revisit(width=390)` gives the page of one visitor for all tests of a module that need no fresh one.

    Opening it costs more than most of them. It is light, has empty slots and no result; the list of studies holds what
    other tests left.
    """
    given: list[Visit] = []

    def give(*, width: int = 1280, at: LiveServer = server, locale: str = "en-US"):
        visit = visits.pop((at.url, locale), None)
        if visit is None:
            visit = Visit(browser, at, 1280, 900, False, locale)
        else:
            visit.clear()  # where that fails the next test gets a new one
        visits[at.url, locale] = visit
        given.append(visit)
        visit.page.set_viewport_size({"width": width, "height": 900})
        return visit.page

    yield give
    for visit in given:
        visit.check()


@pytest.fixture
def page(revisit):
    """The page of `revisit`, 1280 pixels wide."""
    return revisit()


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
