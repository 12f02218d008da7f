"""axe-core in the page's main states, in light and dark and on a phone: no serious or critical violation.

The Model tab is looked at in test_committed_checkpoint.py, whose server has a network with a card.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from test_many_studies import open_tab, wait_for_end, wait_for_script
from test_page import analyse, put

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))
from dicom_files import ct_slice, slice_hu

pytestmark = pytest.mark.browser

BOTH_WIDTHS = (1280, 390)
GRAVE = ("serious", "critical")
ONLY_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
SETTLED = """Promise.allSettled(document.getAnimations()
  .filter(one => one.effect.getTiming().iterations !== Infinity).map(one => one.finished)).then(() => true)"""


class Inspector:
    """Looks at the page in one state after the other.

    widths: of every state in light and in dark, exchanged from one state to the next; else it stays as wide as it is.
    """

    def __init__(self, page, widths: tuple[int, ...] = ()) -> None:
        self.page = page
        self.widths = list(widths) or [page.viewport_size["width"]] * 2
        self.violations: dict[str, list[str]] = {}

    def look(self, state: str) -> None:
        """Every rule in light; in dark only the colours can differ."""
        for theme, width, rules in zip(("light", "dark"), self.widths, ({}, ONLY_COLOURS), strict=True):
            self.page.set_viewport_size({"width": width, "height": 900})
            self._run(f"{state}, {theme}, {width} pixels", rules)
            self.page.click("#mm-theme")
        self.widths.reverse()

    def _run(self, state: str, options: dict[str, object]) -> None:
        self.page.evaluate(SETTLED)  # a colour that is still fading is not judged
        response = Axe().run(self.page, options={"resultTypes": ["violations"], **options}).response
        grave = [
            f"{rule['id']} at {node['target']}: {node['html'][:120]} {node['failureSummary'][:300]}"
            for rule in response["violations"]
            if rule["impact"] in GRAVE
            for node in rule["nodes"]
        ]
        if grave:
            self.violations[state] = grave


@pytest.fixture(scope="module")
def archive(tmp_path_factory, studies) -> Path:
    """A study with both images, one with a single image, a damaged one, and a file of none."""
    path = tmp_path_factory.mktemp("zip") / "studies.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, study in (("a_ct", "ct0"), ("a_xray", "xray1"), ("b_ct", "bright"), ("c_ct", "damaged")):
            packed.write(studies[study], f"{name}{studies[study].suffix}")
        packed.writestr("notes.txt", "hello")
    return path


def test_the_study_tab(open_page, studies, tmp_path):
    page = open_page()
    inspector = Inspector(page, BOTH_WIDTHS)
    inspector.look("empty")
    analyse(page)
    inspector.look("error")

    put(page, "ct", studies["bright"])
    put(page, "xray", studies["black"])
    analyse(page)
    page.click(".mm-operating summary")
    page.wait_for_selector(".mm-operating-text:not(:empty)")
    inspector.look("answer")
    page.evaluate("document.querySelector('#mm-result').classList.add('mm-busy')")
    inspector.look("busy")

    (tmp_path / "slice").write_bytes(ct_slice(slice_hu(64)))
    put(page, "xray", tmp_path / "slice")
    page.wait_for_selector("#mm-result.mm-stale")
    inspector.look("changed")
    page.click(".mm-slot[data-modality=ct] .mm-slot-remove")
    analyse(page)
    page.wait_for_selector(".mm-answer[data-label=undetermined]")
    inspector.look("undetermined")
    assert inspector.violations == {}


def test_the_tab_of_many_studies(open_page, archive):
    page = open_page(width=390)
    inspector = Inspector(page, BOTH_WIDTHS)
    open_tab(page, [archive])
    inspector.look("paired")
    page.click("#mm-batch-run")
    wait_for_end(page)
    inspector.look("answered")
    page.click("#mm-batch-clear")
    page.wait_for_selector("#mm-batch-panel .mm-empty")
    inspector.look("empty")
    assert inspector.violations == {}


@pytest.mark.parametrize(
    ("width", "locale"), [pytest.param(1280, "en-US", marks=pytest.mark.slow), (390, "id-ID")]
)
def test_the_list_an_opened_study_a_comparison_and_the_own_test(open_page, studies, tmp_path, width, locale):
    """Two studies of the slots and a labelled batch, seen in the list, opened, side by side, and measured."""
    page = open_page(width=width, locale=locale)
    inspector = Inspector(page)
    tabs = page.get_by_role("tab")
    tabs.nth(2).click()
    page.wait_for_selector(".mm-own")
    inspector.look("no test yet")
    tabs.first.click()
    for ct, xray in (("ct0", "xray0"), ("bright", "black")):
        put(page, "ct", studies[ct])
        put(page, "xray", studies[xray])
        analyse(page)
    page.wait_for_function("document.querySelectorAll('.mm-worklist-row').length === 2")
    inspector.look("list")
    page.locator(".mm-worklist-study").first.click()
    page.wait_for_selector(".mm-kept .mm-heat-method")
    page.click(".mm-kept .mm-operating summary")
    inspector.look("study of the list")
    page.locator(".mm-kept-compare").select_option("1")
    page.wait_for_selector(".mm-comparison")
    inspector.look("comparison")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.click(".mm-kept-close")

    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "study,xray,label\na,xray0.png,normal\nb,xray1.png,covid19_pneumonia\nc,damaged.png,normal\n"
    )
    tabs.nth(1).click()
    wait_for_script(page)
    images = [studies[name] for name in ("xray0", "xray1", "damaged")]
    page.set_input_files(".mm-batch-input", [str(path) for path in (manifest, *images)])
    page.wait_for_selector(".mm-batch-paired")
    page.click("#mm-batch-run")
    wait_for_end(page)
    tabs.nth(2).click()
    page.wait_for_selector(".mm-own-figures")
    inspector.look("own test")
    tabs.first.click()
    page.wait_for_function("document.querySelectorAll('.mm-worklist-row').length === 5")
    page.locator(".mm-worklist-row", has_text="c").last.locator(
        ".mm-worklist-study"
    ).scroll_into_view_if_needed()
    inspector.look("list of a batch")
    assert inspector.violations == {}
