"""Takes the README's pictures of the page: `python docs/make_screenshots.py`.

Starts `app.py` with the committed checkpoint, drives it with headless chromium on synthetic phantoms
(as PNG, as DICOM, as a ZIP of studies), and writes docs/screenshots/*.png. Needs
requirements-dev.txt and a chromium.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import sync_playwright
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from covid_mm.datasets.phantoms import make_study

CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT = 120_000  # ms; the network may still be loading

PHANTOMS = ((0, 11), (1, 12), (1, 23))  # label, seed


@dataclass(frozen=True)
class Picture:
    """One screenshot. pose: brings the page into its state; whole: beyond the window's height too."""

    name: str
    pose: Callable[[Any, Path], None]
    width: int = 1280
    height: int = 900
    dark: bool = False
    locale: str = "en-US"
    whole: bool = True


def main() -> int:
    """Parse, start, take the pictures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a page that already runs; without it app.py is started")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "screenshots", help="folder (%(default)s)"
    )
    parser.add_argument("names", nargs="*", help="pictures to take (default: all)")
    options = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("No chromium was found; install one (Debian: apt-get install chromium).", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    with _serve(options.url) as url:
        take_pictures(browser, url, options.output, options.names)
    return 0


def take_pictures(browser: str, url: str, output: Path, names: Sequence[str] = ()) -> None:
    """One file for each of PICTURES, or for those with these names."""
    with sync_playwright() as session, tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        write_studies(files)
        chromium = session.chromium.launch(executable_path=browser, args=ARGUMENTS)
        for picture in PICTURES:
            if names and picture.name not in names:
                continue
            context = chromium.new_context(
                viewport={"width": picture.width, "height": picture.height},
                color_scheme="dark" if picture.dark else "light",
                locale=picture.locale,
            )
            page = context.new_page()
            page.set_default_timeout(WAIT)
            page.goto(url)
            page.wait_for_selector(".mm-example")
            page.wait_for_selector(".mm-state[data-state=ready]")
            picture.pose(page, files)
            page.mouse.move(0, 0)
            page.evaluate("document.activeElement?.blur(); window.scrollTo(0, 0)")
            # list entries out of sight are not drawn until one scrolls to them
            page.add_style_tag(content=".mm-worklist-row { content-visibility: visible !important; }")
            path = output / f"{picture.name}.png"
            page.screenshot(path=path, full_page=picture.whole, animations="disabled")
            print(f"{path.name}: {picture.width} pixels wide, {path.stat().st_size / 1000:.0f} kB")
            context.close()
        chromium.close()


def write_studies(folder: Path) -> None:
    """Phantoms as slot images, as a CT series in DICOM, and as a ZIP with one damaged file."""
    with zipfile.ZipFile(folder / "studies.zip", "w") as packed:
        for number, (label, seed) in enumerate(PHANTOMS, start=1):
            study = make_study(label, seed)
            for modality, image in (("ct", study.ct), ("xray", study.xray)):
                path = folder / f"phantom{number}_{modality}.png"
                Image.fromarray(image).save(path)
                packed.write(path, path.name)
            write_slice(folder / f"slice{number}.dcm", study.ct, number)
        packed.writestr("phantom4_ct.png", (folder / "phantom1_ct.png").read_bytes()[:900])


def write_slice(path: Path, grey: NDArray[np.uint8], number: int) -> None:
    """A grey picture drawn through the lung window, back in Hounsfield units, as a CT slice in DICOM."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE, UID(f"2.25.{number}")
    dataset.Modality, dataset.InstanceNumber = "CT", number
    dataset.SeriesInstanceUID = UID("2.25.99")
    dataset.ImagePositionPatient = [0, 0, 5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = grey.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = np.rint(grey / 255.0 * 1500 - 1350).astype("<i2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


def show_empty(page: Any, files: Path) -> None:
    """The page as it opens."""


def show_answer(page: Any, files: Path) -> None:
    """The second example, answered."""
    page.locator(".mm-example").nth(1).click()
    page.wait_for_function("document.querySelectorAll('.mm-slot[data-state=ready]').length === 2")
    _analyse(page)


def show_swapped(page: Any, files: Path) -> None:
    """The images of one study in each other's slot."""
    _put(page, "ct", files / "phantom2_xray.png")
    _put(page, "xray", files / "phantom2_ct.png")
    _analyse(page)


def show_dicom(page: Any, files: Path) -> None:
    """A series of three slices in the CT slot, its window opened."""
    _put(page, "ct", *sorted(files.glob("slice*.dcm")))
    page.wait_for_selector(".mm-slot[data-modality=ct] .mm-slot-preview[src^='data:']")
    _put(page, "xray", files / "phantom2_xray.png")


def show_batch(page: Any, files: Path) -> None:
    """Four studies answered, one of them damaged."""
    page.get_by_role("tab").nth(1).click()
    page.wait_for_function("window.covidMM.batch?.phase === 'empty'")
    page.set_input_files(".mm-batch-input", str(files / "studies.zip"))
    page.wait_for_selector(".mm-batch-paired")
    page.click("#mm-batch-run")
    page.wait_for_selector(".mm-batch-slot[data-state=ended]")


def show_card(page: Any, files: Path) -> None:
    """The Model tab."""
    page.get_by_role("tab").last.click()
    page.wait_for_selector(".mm-card")


def _put(page: Any, modality: str, *paths: Path) -> None:
    slot = f".mm-slot[data-modality={modality}]"
    page.set_input_files(f"{slot} .mm-slot-input", [str(path) for path in paths])
    page.wait_for_selector(f"{slot}[data-state=ready]")


def _analyse(page: Any) -> None:
    page.click("#mm-analyse")
    page.wait_for_selector(".mm-answer")
    page.wait_for_function("!document.querySelector('#mm-result').classList.contains('mm-busy')")


PICTURES = (
    Picture("page-light", show_answer),
    Picture("page-dark", show_answer, dark=True),
    Picture("page-empty", show_empty),
    Picture("page-narrow-light", show_answer, 390, 844),
    Picture("page-narrow-dark", show_answer, 390, 844, dark=True),
    Picture("page-indonesian", show_answer, locale="id-ID"),
    Picture("swapped", show_swapped),
    Picture("dicom", show_dicom),
    Picture("many-studies", show_batch),
    Picture("model", show_card, whole=False),
)


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
