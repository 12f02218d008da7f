"""Several checkpoints: a chooser, the chosen one answers, its card is shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from live_server import ROOT, LiveServer
from test_page import analyse, put

pytestmark = pytest.mark.browser

SCRIPT = """
import dataclasses, sys
sys.path[:0] = [{root!r}, {tests!r}]
from fake_predictor import FakePredictor
from pathlib import Path
from covid_mm.ui.server.launch import serve
from covid_mm.ui.server.settings import ServerSettings

class Named(FakePredictor):
    def __init__(self, name):
        super().__init__()
        self.info = dataclasses.replace(FakePredictor.info, name=name)
    def predict(self, **images):
        return dataclasses.replace(super().predict(**images), checkpoint=self.info)

names = ("first-pair", "second-pair")
loads = {{name: (lambda name=name: Named(name)) for name in names}}
if __name__ == "__main__":  # processes that read files import this script
    sys.exit(serve(ServerSettings(port=int(sys.argv[1]), temporary=Path(sys.argv[2])), loads))
"""


def test_the_chosen_network_answers(open_page, studies, tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(SCRIPT.format(root=str(ROOT), tests=str(Path(__file__).parents[1] / "ui")))
    server = LiveServer(tmp_path, [sys.executable, str(script), "{port}", "{temporary}"]).wait_until_open()
    try:
        page = open_page(at=server)
        put(page, "ct", studies["ct0"])
        analyse(page)
        assert "first-pair" in page.inner_text("#mm-result")
        page.get_by_label("Network").click()
        page.get_by_role("option", name="second-pair").click()
        page.wait_for_function("document.querySelector('.mm-state').innerText.includes('second-pair')")
        page.wait_for_selector("#mm-result.mm-stale")
        analyse(page)
        assert "second-pair" in page.inner_text("#mm-result")
        page.get_by_role("tab", name="Model").click()
        assert "second-pair" in page.inner_text("#mm-card")
    finally:
        assert server.stop() == 0
