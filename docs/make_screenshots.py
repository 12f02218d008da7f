"""Takes the README's pictures of the page: `python docs/make_screenshots.py`.

Starts `app.py` with the committed checkpoint, drives it with headless chromium on a synthetic
phantom, and writes docs/screenshots/*.png. Needs requirements-dev.txt and a chromium.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT = 120_000  # ms; the network may still be loading

# name, width, height, dark, number of the example (None: the empty page)
PICTURES = (
    ("page-light", 1280, 900, False, 1),
    ("page-dark", 1280, 900, True, 1),
    ("page-empty", 1280, 900, False, None),
    ("page-narrow-light", 390, 844, False, 1),
    ("page-narrow-dark", 390, 844, True, 1),
)


def main() -> int:
    """Parse, start, take the pictures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a page that already runs; without it app.py is started")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "screenshots", help="folder (%(default)s)"
    )
    options = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("No chromium was found; install one (Debian: apt-get install chromium).", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    with _serve(options.url) as url:
        take_pictures(browser, url, options.output)
    return 0


def take_pictures(browser: str, url: str, output: Path) -> None:
    """One file for each of PICTURES."""
    with sync_playwright() as session:
        chromium = session.chromium.launch(executable_path=browser, args=ARGUMENTS)
        for name, width, height, dark, example in PICTURES:
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page = context.new_page()
            page.set_default_timeout(WAIT)
            page.goto(url)
            page.wait_for_selector(".mm-example")
            page.wait_for_selector(".mm-state[data-state=ready]")
            if example is not None:
                _analyse_example(page, example)
            path = output / f"{name}.png"
            page.screenshot(path=path, full_page=True, animations="disabled")
            print(f"{path.name}: {width} pixels wide, {path.stat().st_size / 1000:.0f} kB")
            context.close()
        chromium.close()


def _analyse_example(page: Any, number: int) -> None:
    page.locator(".mm-example").nth(number).click()
    page.wait_for_function("document.querySelectorAll('.mm-slot[data-state=ready]').length === 2")
    page.click("#mm-analyse")
    page.wait_for_selector(".mm-answer")
    page.wait_for_function("!document.querySelector('#mm-result').classList.contains('mm-busy')")
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0); document.activeElement?.blur()")


@contextmanager
def _serve(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), "--port", str(port)], cwd=ROOT)
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise SystemExit("app.py ended before its page opened.")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
