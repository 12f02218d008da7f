"""Many studies in the browser: pairing before the run, sorted table, CSV, cancel, nobody else's rows."""

from __future__ import annotations

import csv
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer

sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))
from made_images import make_png

from covid_mm.serving.batch import COLUMNS

pytestmark = pytest.mark.browser

ROWS = ".mm-batch-table tbody tr"


@pytest.fixture
def slow_server(server) -> Iterator[LiveServer]:
    """It takes 0.15 s for each study."""
    with server.slow(0.15):
        yield server


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Five studies: one damaged, one with a single image; and a file that belongs to none."""
    path = tmp_path_factory.mktemp("zip") / "studies.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number, level in enumerate((0.8, 0.1, 0.6, 0.3), start=1):
            packed.writestr(f"s{number}_ct.png", make_png(level, seed=number))
            if number != 4:
                packed.writestr(f"s{number}_xray.png", make_png(level, seed=number + 9))
        packed.writestr("s5_ct.png", make_png(0.5)[:80])
        packed.writestr("notes.txt", "hello")
    return path


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> list[Path]:
    """Thirty images of thirty studies."""
    folder = tmp_path_factory.mktemp("crowd")
    for number in range(30):
        (folder / f"p{number:02}_ct.png").write_bytes(make_png(number / 40, size=(40, 40), seed=number))
    return sorted(folder.iterdir())


def open_tab(page, files) -> None:
    """Show the tab, add files, wait for what was paired."""
    page.get_by_role("tab", name="Many studies").click()
    wait_for_script(page)
    page.set_input_files(".mm-batch-input", [str(path) for path in files])
    page.wait_for_selector(".mm-batch-paired")


def wait_for_script(page) -> None:
    """Until the tab's own script has begun."""
    page.wait_for_function("window.covidMM.batch?.phase === 'empty'")


def wait_for_end(page) -> None:
    page.wait_for_selector(".mm-batch-slot[data-state=ended]", timeout=120_000)


def column(page, number: int) -> list[str]:
    return page.eval_on_selector_all(
        ROWS, f"rows => rows.map(row => row.children[{number}].innerText.trim())"
    )


def sorting(page) -> list[str]:
    heads = page.locator(".mm-batch-table th[aria-sort]")
    return [heads.nth(index).get_attribute("aria-sort") for index in range(heads.count())]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_zip_is_paired_shown_run_sorted_and_downloaded(open_page, archive, width, tmp_path):
    page = open_page(width=width)
    page.get_by_role("tab", name="Many studies").click()
    wait_for_script(page)
    page.wait_for_selector("#mm-batch-run:disabled")
    assert "<study>_ct" in page.inner_text(".mm-batch-help")
    page.set_input_files(".mm-batch-input", str(archive))
    page.wait_for_selector(".mm-batch-paired")
    paired = page.inner_text(".mm-batch-paired")
    assert "5 studies: 3 with both images, 2 with one image; 1 file left out." in paired
    assert "notes.txt: its name does not end in _ct or _xray" in paired
    assert page.locator(ROWS).count() == 0  # nothing has run

    page.click("#mm-batch-run")
    wait_for_end(page)
    assert column(page, 0) == ["s1", "s2", "s3", "s4", "s5"]
    assert "the image is truncated" in page.locator(ROWS).nth(4).inner_text()
    assert "No answer" in column(page, 2)[4]
    assert page.inner_text(".mm-batch-count").startswith("5 of 5 studies done: ")
    broken = "images => images.filter(image => !image.complete || !image.naturalWidth).length"
    assert page.eval_on_selector_all(".mm-batch-images img", broken) == 0
    assert page.locator(".mm-batch-images img").count() == 7
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    page.get_by_role("button", name="Probability").click()
    assert column(page, 0) == ["s2", "s4", "s3", "s1", "s5"]
    assert sorting(page) == ["none", "none", "ascending", "none", "none"]
    page.get_by_role("button", name="Probability").click()
    assert column(page, 0) == ["s1", "s3", "s4", "s2", "s5"]  # what has no answer stays last
    assert sorting(page)[2] == "descending"

    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames) == COLUMNS
    assert [row["study"] for row in rows] == ["s1", "s2", "s3", "s4", "s5"]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    assert rows[3]["warnings"] == "single_modality"


def test_cancel_stops_and_keeps_what_is_done(open_page, slow_server, crowd, tmp_path):
    page, before = open_page(), set(slow_server.uploads)
    open_tab(page, crowd)
    page.click("#mm-batch-run")
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length >= 2")
    assert "studies done: " in page.inner_text(".mm-batch-count")  # and the time left
    page.get_by_role("tab", name="Study", exact=True).click()  # it runs on behind another tab
    page.get_by_role("tab", name="Many studies").click()
    # Gradio may call the end of a cancelled run a failure, before its own event of the cancel or after it.
    page.evaluate(
        "document.querySelector('#mm-batch-cancel').addEventListener("
        "'click', () => window.covidMM.batch.failed('running'), { capture: true, once: true })"
    )
    page.click("#mm-batch-cancel")
    wait_for_end(page)
    done = page.locator(ROWS).count()
    assert 2 <= done < 25
    page.evaluate("window.covidMM.batch.failed('running')")
    assert "Cancelled" in page.inner_text(".mm-batch-message")
    page.wait_for_timeout(700)
    assert page.locator(ROWS).count() == done
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == done + 1
    wait_until_gone(slow_server, before)

    # What the cancel made of failures is over: one of the next set is told.
    page.evaluate("window.covidMM.batch.setPhase('pairing'); window.covidMM.batch.failed('pairing')")
    assert "did not answer" in page.inner_text(".mm-batch-message")

    page.set_input_files(".mm-batch-input", [str(path) for path in crowd[:2]])  # and another run goes well
    page.wait_for_selector(".mm-batch-paired")
    page.click("#mm-batch-run")
    wait_for_end(page)
    assert column(page, 0) == ["p00", "p01"]


def test_two_visitors_run_at_once_and_a_single_study_is_not_held_up(
    open_page, slow_server, crowd, archive, studies
):
    before = set(slow_server.uploads)
    first, second, third = (open_page() for _ in range(3))
    open_tab(first, crowd)
    open_tab(second, [archive])
    third.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(studies["ct0"]))
    third.wait_for_selector(".mm-slot[data-modality=ct][data-state=ready]")
    first.click("#mm-batch-run")
    first.wait_for_selector(ROWS)
    second.click("#mm-batch-run")
    third.click("#mm-analyse")
    third.wait_for_selector(".mm-answer")
    assert first.locator(ROWS).count() < 25
    wait_for_end(second)
    assert column(second, 0) == ["s1", "s2", "s3", "s4", "s5"]
    assert first.get_attribute(".mm-batch-slot", "data-state") == "running"
    assert not {"s1", "s2"} & set(column(first, 0))

    first.context.close()  # leaving ends the run
    wait_until_gone(slow_server, before, but=1)  # the single study's image


def wait_until_gone(server: LiveServer, before: set[Path], but: int = 0) -> None:
    """Until the server keeps no more uploads than so many beside those of before."""
    end = time.monotonic() + 120
    while len(set(server.uploads) - before) > but and time.monotonic() < end:
        time.sleep(0.1)
    assert len(set(server.uploads) - before) <= but


def test_by_keyboard_alone_with_errors_in_the_panel(open_page, archive, studies, tmp_path):
    page, choosers = open_page(width=390), []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.get_by_role("tab", name="Many studies").focus()
    page.keyboard.press("Enter")
    wait_for_script(page)
    page.focus(".mm-batch-input")
    page.keyboard.press("Enter")
    for _ in range(100):
        page.wait_for_timeout(50)
        if choosers:
            break
    choosers[0].set_files([str(studies["ct0"]), str(studies["large"])])
    page.wait_for_selector("#mm-batch-panel .mm-error")
    assert "There is no study among these files" in page.inner_text("#mm-batch-panel .mm-error")
    assert page.locator("#mm-batch-run").is_disabled()
    page.focus("#mm-batch-clear")
    page.keyboard.press("Enter")
    page.wait_for_selector("#mm-batch-panel .mm-empty")

    large = tmp_path / "x_ct.png"
    large.write_bytes(bytes(20 * 2**20 + 1))
    page.set_input_files(".mm-batch-input", [str(large)])
    page.wait_for_selector(".mm-batch-paired")
    page.click("#mm-batch-clear")
    page.wait_for_selector("#mm-batch-panel .mm-empty")
    page.set_input_files(".mm-batch-input", str(archive))
    page.wait_for_selector(".mm-batch-paired")
    page.focus("#mm-batch-run")
    page.keyboard.press("Enter")
    wait_for_end(page)
    assert page.inner_text(".mm-batch-live").startswith("Finished")
    nameless = page.evaluate(
        "[...document.querySelectorAll('#mm-batch img, #mm-batch button, #mm-batch input')]"
        ".filter(e => e.offsetParent && !(e.alt || e.innerText || e.getAttribute('aria-label')))"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert nameless == []
