"""The queue of single studies: who comes first, how many come before, and who has gone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from fake_predictor import FakePredictor

from covid_mm.config import ImageLimits
from covid_mm.errors import Cancelled
from covid_mm.serving.prediction import Prediction
from covid_mm.ui import page, predictors
from covid_mm.ui.i18n.language import find_languages
from covid_mm.ui.predictors import STUDIES, PredictorPool, StudyQueue

PATIENT = 60.0  # seconds; a busy machine is slow


def test_each_place_says_how_many_come_before_it():
    queue = StudyQueue()
    tickets = [queue.join() for _ in range(STUDIES + 2)]
    assert [ticket.see() for ticket in tickets] == list(range(STUDIES + 2))
    tickets[1].leave()
    tickets[1].leave()  # twice is once
    assert [ticket.see() for ticket in tickets] == [0, 0, 1, 2, 3]
    for ticket in (tickets[0], tickets[2]):
        with ticket:
            ticket.wait()  # the first need not wait
    assert [ticket.see() for ticket in tickets[STUDIES:]] == [0, 1]


def test_a_study_begins_when_one_before_it_has_ended():
    queue, order = StudyQueue(), []
    tickets = [queue.join() for _ in range(STUDIES + 2)]

    def work(number: int) -> None:
        with tickets[number] as ticket:
            ticket.wait()
            order.append(number)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in (STUDIES, STUDIES + 1)]
    for thread in threads:
        thread.start()
    assert order == []
    tickets[2].leave()
    threads[0].join(PATIENT)
    threads[1].join(PATIENT)
    assert order == [STUDIES, STUDIES + 1]


def test_a_place_whose_visitor_has_gone_is_given_up(monkeypatch):
    monkeypatch.setattr(predictors, "GONE", -1.0)
    monkeypatch.setattr(predictors, "LOOK_UP", 0.01)
    queue = StudyQueue()
    for _ in range(STUDIES):
        queue.join()
    last, unwatched = queue.join(watched=True), queue.join()
    with pytest.raises(Cancelled), last:
        last.wait()
    assert last.see() == 0
    assert not unwatched.is_left()  # of the API: it waits as long as it takes


def test_the_page_counts_down_while_a_study_waits(tmp_path, dark, monkeypatch):
    monkeypatch.setattr(page, "SIGN", 0.05)
    (tmp_path / "ct").write_bytes(dark)
    gone = threading.Event()

    class Patient(FakePredictor):
        """Answers when all who came before have left, however fast this machine is."""

        def predict(self, *images: object, **options: object) -> Prediction:
            assert gone.wait(PATIENT)
            return super().predict(*images, **options)

    networks = PredictorPool({"fake": Patient})
    before = [networks.queue.join() for _ in range(STUDIES)]

    async def read() -> list[tuple[object, str]]:
        texts, given = find_languages()["id"], []
        async for one in page.stream_page(
            networks, ImageLimits(), str(tmp_path / "ct"), None, None, None, texts
        ):
            given.append(one)
            if f">{len(before)} pemeriksaan sebelum milik Anda<" in one[1]:
                before.pop().leave()
                if not before:
                    gone.set()
        return given

    *waiting, (panel, waiting_text) = asyncio.run(read())
    counts = [text for _, text in waiting if text]
    assert [any(f">{count} " in text for text in counts) for count in (3, 2, 1)] == [True] * 3
    assert 'data-label="normal"' in str(panel)
    assert waiting_text == ""
    assert networks.queue.join().see() == 0  # nobody is left in it


def test_what_cannot_be_read_leaves_the_queue_too(tmp_path):
    networks = PredictorPool({"fake": FakePredictor})

    async def last(*inputs: object) -> str:
        return [one async for one in page.stream_page(networks, ImageLimits(), *inputs)][-1][0]

    for inputs in ((None, None), (str(Path(tmp_path) / "none"), None), (None, None, None, {"ct": "odd"})):
        assert "mm-error" in asyncio.run(last(*inputs))
    assert networks.queue.join().see() == 0
