"""A hospital's own test in words: beside the left-out figures, with what must be known first, as text and as PDF."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from pypdf import PdfReader

from covid_mm.config import CLASSES
from covid_mm.evaluation.local_test import LabelledStudy, LocalTest, measure_local_test
from covid_mm.reporting.local_test import (
    TEXTS,
    EnglishWords,
    describe_local_test,
    draw_local_test,
    format_local_test,
)

EVIDENCE = {
    "xray": {
        "auc": 0.92,
        "auc_low": 0.91,
        "auc_high": 0.93,
        "sensitivity": 0.84,
        "specificity": 0.83,
        "images": 4081,
        "ece": 0.04,
    }
}


def measure(
    count: int, scores: tuple[float, float], evidence: dict[str, dict[str, Any]] = EVIDENCE
) -> LocalTest:
    """`count` films of each class, all of a class with one score."""
    studies = [
        LabelledStudy(name, "", {"xray": score})
        for name, score in zip(CLASSES, scores, strict=True)
        for _ in range(count)
    ]
    return measure_local_test(
        studies,
        {
            "decision_threshold": {"xray": 0.5},
            "abstain_zone": {"xray": [0.4, 0.6]},
            "evidence": evidence,
        },
        checkpoint="densenet121-mobilenet",
        sha256="0123456789abcdef" * 4,
        date=datetime(2026, 3, 4, tzinfo=UTC),
        resamples=50,
    )


def test_the_own_figure_stands_above_the_left_out_one():
    said = describe_local_test(measure(60, (0.1, 0.9)))
    own, left_out = said.rows
    assert own[0] == "X-ray alone, tested here"
    assert own[1] == "120 (60 positive), 120 patients"
    assert own[2] == "100 % (94 to 100 %)"
    assert left_out == (
        "X-ray alone, hospitals never seen",
        "4,081 images",
        "84 %",
        "83 %",
        "0.92 (0.91 to 0.93)",
        "4 %",
        "",
    )
    assert said.remarks == ()
    assert len(said.head) == len(own) == len(left_out)


@pytest.mark.parametrize(
    ("count", "scores", "remarks"),
    [
        (20, (0.1, 0.9), ["few"]),
        (60, (0.9, 0.1), ["worse"]),
        (20, (0.9, 0.1), ["few", "worse"]),
    ],
)
def test_what_must_be_known_first_is_said(count, scores, remarks):
    said = describe_local_test(measure(count, scores))
    assert list(said.remarks) == [TEXTS[name].format(head="X-ray alone", few=50) for name in remarks]


def test_without_left_out_figures_there_is_the_own_row_alone():
    assert len(describe_local_test(measure(60, (0.1, 0.9), {})).rows) == 1


def test_the_text_and_the_pdf_say_the_same(tmp_path):
    test = measure(20, (0.1, 0.9))
    text = format_local_test(test)
    assert "| X-ray alone, tested here | 40 (20 positive), 40 patients |" in text
    path = tmp_path / "test.pdf"
    path.write_bytes(draw_local_test(test))
    assert path.read_bytes() == draw_local_test(test)
    reader = PdfReader(path)
    printed = re.sub(r"\s+", " ", "".join(page.extract_text() for page in reader.pages))
    said = describe_local_test(test)
    for sentence in (said.title, said.intro, *said.remarks, *said.notes, "Research use only", *said.rows[0]):
        assert re.sub(r"\s+", "", sentence) in printed.replace(" ", ""), sentence
    assert {str(value) for key, value in (reader.metadata or {}).items() if "Date" not in key} <= {
        said.title,
        "covid_mm",
        "Research use only, not for diagnosis.",
        "/False",
        "",
    }


def test_every_text_is_asked_for_in_the_readers_language():
    asked = []

    class Asked(EnglishWords):
        def __call__(self, text: str, /, **values: object) -> str:
            asked.append(text)
            return super().__call__(text, **values)

    test = measure(20, (0.9, 0.1))
    describe_local_test(test, Asked())
    draw_local_test(test, Asked())
    assert set(asked) <= {*TEXTS.values(), "COVID-19 pneumonia", "Research use only, not for diagnosis."}
