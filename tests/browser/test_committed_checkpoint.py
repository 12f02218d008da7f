"""The whole program as a user gets it: `python app.py`, the committed checkpoint, a browser."""

from __future__ import annotations

import json
import time

import pytest
from live_server import ROOT
from test_accessibility import Inspector
from test_page import analyse, heatmaps, put, visible_text

pytestmark = pytest.mark.browser


def test_two_studies_on_the_committed_checkpoint(real_server, open_page, studies):
    page = open_page(at=real_server)
    put(page, "ct", studies["ct0"])
    put(page, "xray", studies["xray0"])
    page.set_default_timeout(120_000)  # the network may still be loading
    analyse(page)
    assert page.get_attribute(".mm-answer", "data-label") in ("normal", "covid19_pneumonia")
    first = page.eval_on_selector_all(".mm-stack:has(.mm-layer, .mm-none)", "s => s.map(e => e.innerHTML)")
    assert len(first) == 2
    text = visible_text(page)
    meta = json.loads((ROOT / "checkpoints/densenet121-mobilenet/meta.json").read_text())
    for fact in (
        "densenet121-mobilenet",
        meta["trained_at"][:10],
        meta["trained_on"],
        "CT alone",
        "X-ray alone",
    ):
        assert fact in text

    put(page, "ct", studies["ct1"])
    put(page, "xray", studies["xray1"])
    start = time.monotonic()
    analyse(page)
    assert time.monotonic() - start < 10  # about a second on two free cores
    second = page.eval_on_selector_all(".mm-stack:has(.mm-layer, .mm-none)", "s => s.map(e => e.innerHTML)")
    assert all(old != new for old, new in zip(first, second, strict=True))
    assert heatmaps(page), "neither image of a positive phantom shows evidence"
    assert "Traceback" not in real_server.log


def test_the_model_tab_has_no_grave_violation(real_server, open_page):
    page = open_page(at=real_server)
    page.get_by_role("tab").last.click()
    page.wait_for_selector("#mm-card .mm-roc")
    inspector = Inspector(page)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        inspector.look(f"card at {width} pixels")
    assert inspector.violations == {}
