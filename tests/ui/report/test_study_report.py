"""The study report: its contents, its JSON, and what a PDF reader finds in it."""

from __future__ import annotations

import base64
import dataclasses
import json
import tempfile
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_predictor import EVIDENCE, INFO, LOCATION, LUNGS, META, ZONE, FakePredictor
from made_images import make_png
from PIL import Image
from pypdf import PdfReader

from covid_mm.config import RESEARCH_USE
from covid_mm.errors import UsageError
from covid_mm.explain.overlay import blend_heatmap
from covid_mm.reporting.pdf_text import MISSING, make_printable
from covid_mm.serving.prediction import BranchAnswer, Notice
from covid_mm.ui.pictures import OPACITY
from covid_mm.ui.report.content import (
    NOTE_LENGTH,
    NOTE_LINES,
    Report,
    clean_note,
    describe_report,
    find_versions,
    make_report,
)
from covid_mm.ui.report.pdf import INCONCLUSIVE, TITLE, render_pdf
from covid_mm.ui.study.analysis import Analysis, analyse_study, describe_prediction
from covid_mm.ui.study.heatmaps import HeatmapKind

DATE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECRET = "ZZPHI-Siti-1975"  # in the uploads' names


@pytest.fixture
def analyse(tmp_path, predictor: FakePredictor):
    def run(ct: bytes | None, xray: bytes | None) -> Analysis:
        paths = []
        for name, data in (("ct", ct), ("xray", xray)):
            path = tmp_path / f"{SECRET}-{name}.png"
            if data is not None:
                path.write_bytes(data)
            paths.append(None if data is None else str(path))
        return analyse_study(predictor, *paths)

    return run


@pytest.fixture
def agreeing(analyse) -> Analysis:
    return analyse(make_png(0.75, seed=1, size=(60, 120)), make_png(0.8, seed=2))


def change(analysis: Analysis, **changes: object) -> Analysis:
    return dataclasses.replace(analysis, prediction=dataclasses.replace(analysis.prediction, **changes))


def report_of(analysis: Analysis, meta: Mapping[str, Any] = META, **options: Any) -> Report:
    """The report of a study that a checkpoint with this meta.json answered."""
    return make_report(dataclasses.replace(analysis, meta=meta), **options)


def open_pdf(analysis: Analysis, note: str = "", **options) -> PdfReader:
    return PdfReader(BytesIO(render_pdf(report_of(analysis, note=note, date=DATE, **options))))


def read_text(reader: PdfReader) -> str:
    """All text on one line: where the report breaks its lines does not matter here."""
    text = "\n".join(page.extract_text() for page in reader.pages)
    return " ".join(text.split())


def decode(url: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_two_images_that_agree(agreeing):
    reader = open_pdf(agreeing, "Fever & cough for five days.")
    text = read_text(reader)
    prediction = agreeing.prediction
    assert f"{TITLE} 2026-03-04 05:06:07 UTC" in text
    assert "Answer from CT and X-ray combined COVID-19 pneumonia" in text
    assert "CT and X-ray agree: each alone says COVID-19 pneumonia." in text
    for value in (
        prediction.probabilities["normal"],
        prediction.probabilities["covid19_pneumonia"],
        *(answer.probabilities["covid19_pneumonia"] for answer in prediction.branches.values()),
    ):
        assert f"{value * 100:.0f} %" in text
    assert (
        "On hospitals and scanners never seen in training: sensitivity 87 %, specificity 84 %, AUC 0.93 (0.91 to 0.95),"
        " 1,204 images of east hospital, west hospital." in text
    )
    assert "CT and X-ray are taken as independent evidence." in text
    for head in ("fused", "ct", "xray"):  # each reading with its own
        one = EVIDENCE[head]
        assert (
            f"{one.auc:.2f} ({one.auc_low:.2f} to {one.auc_high:.2f}) {one.sensitivity:.0%}".replace(
                "%", " %"
            )
            in text
        )
    assert "Answered by CT and X-ray combined: COVID-19 pneumonia from a probability of 50 % on." in text
    assert "validation" not in text  # figures of the training collections are not the answer's worth
    assert (
        "On 98 slices of hospitals never seen in training the hottest point lay on a radiologist's lesion mask"
        in text
    )
    assert (
        "On 216 films of scanners never seen in training the hottest point lay on a radiologist's box in 72 %"
        in text
    )
    assert "Lungs' outline: solid" in text
    assert "Grad-CAM: positive evidence for COVID-19 pneumonia, on a fixed scale" in text
    assert f"CT slice: Grad-CAM, highest {prediction.heatmaps['ct'].max():.2f}" in text
    assert "Note Fever & cough for five days." in text
    for fact in (INFO.name, INFO.sha256, INFO.pair, INFO.trained_on, INFO.trained_at):
        assert fact in text
    for name, version in find_versions().items():
        assert f"{name} {version}".lower() in text.lower()
    assert "Warnings" not in text


def test_images_and_overlays_are_embedded_as_the_page_shows_them(agreeing):
    pictures = [np.asarray(image.image) for page in open_pdf(agreeing).pages for image in page.images]
    for modality, preview in agreeing.previews.items():
        grey = decode(preview.url)
        rgb = np.repeat(grey[..., np.newaxis], 3, axis=2)
        heatmap = agreeing.prediction.draw_heatmap(modality, *grey.shape)
        overlay = blend_heatmap(rgb, heatmap, OPACITY)
        for expected in (grey, overlay):
            assert any(np.array_equal(expected, result) for result in pictures), modality
    assert len(pictures) == 5  # and the colour bar


def test_one_image_is_reported_with_its_own_figures(analyse, dark):
    reader = open_pdf(analyse(None, dark))
    text = read_text(reader)
    assert "Answer from the X-ray alone Normal" in text
    assert "Only the X-ray was given; there is no second image to compare it with." in text
    assert "Warnings" not in text  # one image is no fault
    assert "692 images of scanner A, scanner B." in text
    assert "1,204" not in text
    assert "512" not in text
    assert "CT alone" not in text
    assert "independent evidence" not in text
    assert len(reader.pages) == 1


def test_disagreement_is_said_in_words(analyse, bright, dark):
    text = read_text(open_pdf(analyse(bright, dark)))
    assert "Undetermined CT and X-ray disagree: no combined answer" in text
    assert "The CT alone says COVID-19 pneumonia, the X-ray alone Normal." in text
    assert "Chest CT and X-ray: inconclusive report" in text
    assert TITLE not in text


def test_an_undetermined_study_has_reasons_and_no_probability(analyse, bright, dark):
    answered = analyse(bright, dark)
    study = change(
        answered,
        label="undetermined",
        probabilities={},
        branches={m: BranchAnswer("undetermined", {}) for m in ("ct", "xray")},
        heatmaps={},
        warnings=(Notice("swapped_inputs", "The two files are in each other's place."),),
    )
    reader = open_pdf(study)
    text = read_text(reader)
    assert "No answer Undetermined" in text
    assert "Reasons ! The two files are in each other's place." in text
    assert "%" not in text
    assert "Grad-CAM" not in text
    assert len(reader.pages[0].images) == 2  # the images are there, maps are not
    result = describe_report(report_of(study, date=DATE))
    assert result["answered_by"] is None
    assert result["probabilities"] == {}
    assert result["agreement"]["code"] == "undetermined"


def test_a_map_without_evidence_says_so(agreeing):
    maps = agreeing.prediction.heatmaps | {"ct": np.zeros((150, 150), np.float32)}
    reader = open_pdf(change(agreeing, heatmaps=maps))
    assert "No positive evidence for COVID-19 pneumonia" in read_text(reader)


def test_certainty_is_not_overstated(agreeing):
    sure = {"normal": 0.03, "covid19_pneumonia": 0.97}
    text = read_text(open_pdf(change(agreeing, probabilities=sure)))
    assert "over 97 %" in text
    assert "under 3 %" in text
    assert "100 %" not in text


def test_in_the_abstain_zone_the_probability_is_small_and_the_reason_first(analyse):
    study = analyse(make_png(0.53, seed=1), make_png(0.53, seed=2))
    assert study.prediction.label == "undetermined"
    reader = open_pdf(study)
    text = read_text(reader)
    low, high = ZONE["fused"]
    assert "Answer from CT and X-ray combined Undetermined" in text
    assert f"between {low * 100:.0f} % and {high * 100:.0f} %, where the network was wrong too often" in text
    assert "50 %" in text
    assert "Grad-CAM: positive evidence" in text  # maps are given
    assert "On hospitals and scanners never seen in training" in text
    assert "Reasons" not in text
    result = describe_report(report_of(study, date=DATE))
    assert result["reasons"] == ["in_abstain_zone"]
    assert result["answered_by"] == "fused"
    assert result["agreement"]["code"] == "undetermined"
    assert result["probabilities"] != {}


def test_the_method_is_named(agreeing):
    study = dataclasses.replace(agreeing, kind=HeatmapKind("score_cam", "fine", "relative"))
    text = read_text(open_pdf(study))
    assert "Score-CAM: positive evidence" in text
    assert "Grad-CAM" not in text
    assert "How often the hottest point of such a map lies on a lesion was not measured." in text


def test_what_was_not_measured_on_left_out_images_is_not_claimed(agreeing):
    inside = {"metrics": META["metrics"]}
    report = report_of(change(agreeing, evidence=None), inside, date=DATE)
    text = read_text(PdfReader(BytesIO(render_pdf(report))))
    assert "was not measured: do not trust its probability" in text
    assert "388/389" not in text
    assert "99.74" not in text
    assert describe_report(report)["thresholds"]["ct"] == {
        "threshold": 0.5,
        "abstain_zone": None,
        "evidence": None,
    }
    assert describe_report(report)["evidence"] is None


@pytest.mark.parametrize(
    "note",
    [
        "W" * NOTE_LENGTH,
        "\n".join(["W" * (NOTE_LENGTH // NOTE_LINES - 1)] * NOTE_LINES),
        "word " * (NOTE_LENGTH // 5),
        "😀" * NOTE_LENGTH,
        "<br/>" * (NOTE_LENGTH // 5),
    ],
    ids=["one-word", "lines", "words", "emoji", "breaks"],
)
def test_the_longest_notes_leave_two_pages_at_most(analyse, bright, dark, note):
    reader = open_pdf(analyse(bright, dark), note)
    text = read_text(reader)
    assert len(reader.pages) == 2
    for number, page in enumerate(reader.pages, start=1):
        assert [float(side) for side in page.mediabox[2:]] == pytest.approx([595.28, 841.89], abs=0.01)  # A4
        assert RESEARCH_USE in page.extract_text()
        assert f"Page {number} of 2" in page.extract_text()
    printed = make_printable(note.strip())
    assert text.count(printed[0]) >= printed.count(printed[0])


def test_a_page_that_is_too_full_is_drawn_smaller(agreeing):
    many = tuple(Notice(f"code_{n}", f"Notice {n}. " + "It needs a line. " * 20) for n in range(40))
    reader = open_pdf(change(agreeing, warnings=many), "x\n" * (NOTE_LINES - 1) + "the end")
    text = read_text(reader)
    assert len(reader.pages) <= 2
    assert "Notice 39." in text
    assert "the end" in text


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("a" * (NOTE_LENGTH + 1), f"{NOTE_LENGTH + 1} characters, at most {NOTE_LENGTH}"),
        ("a\n" * NOTE_LINES + "a", f"{NOTE_LINES + 1} lines, at most {NOTE_LINES}"),
    ],
)
def test_a_longer_note_is_refused_in_one_sentence(agreeing, note, words):
    with pytest.raises(UsageError, match=words):
        report_of(agreeing, note=note, date=DATE)


@pytest.mark.parametrize(
    "note",
    [
        "Ąą Čč Đđ Ğğ Łł Őő Řř Șș Țț Ûû Žž ß æ ø å ñ ĩ ũ ạ ế ộ ự",  # Latin of many languages
        "<b>bold</b> & <para> </para> &amp; <img src='file:///x'/> <a href='http://x'>y</a> ]]> <!-- -->",
        "Ωμέγα Привет ≥ ≤ ± µ ° ½ €",
        "%PDF-1.4 endobj (a) \\( \\) {x} [y]",
    ],
)
def test_the_note_is_printed_as_typed(agreeing, note):
    text = read_text(open_pdf(agreeing, note))
    assert " ".join(note.split()) in unicodedata.normalize("NFC", text)
    assert "stands for" not in text


def test_markup_in_the_note_brings_no_link(agreeing):
    reader = open_pdf(agreeing, "<a href='http://example.org'>here</a>")
    assert all("/Annots" not in page for page in reader.pages)


def test_what_cannot_be_printed_is_shown_and_said(agreeing):
    report = report_of(agreeing, note="ok 👍🏽, 肺炎, \x00 \x1b[31m, سلام, \ud800 end", date=DATE)
    text = read_text(PdfReader(BytesIO(render_pdf(report))))
    assert f"ok {MISSING * 2}, {MISSING * 2}, " in text
    assert f"{MISSING} stands for 8 characters that this document cannot print." in text
    assert "end" in text
    json.dumps(describe_report(report), ensure_ascii=False).encode()
    assert "👍🏽, 肺炎" in describe_report(report)["note"]  # kept where it can be


def test_the_note_is_cleaned():
    assert clean_note("  a\r\nb\rc\u2028d\te\n\n") == "a\nb\nc\nd e"
    assert clean_note("e\u0301") == "é"
    assert clean_note("left \u202eright\u200b\u2066") == "left right"  # nothing turns the writing direction
    assert clean_note("a\x00b\x7f") == "a\ufffdb\ufffd"
    assert clean_note("") == ""


def test_no_file_name_and_nothing_of_the_server(analyse, bright, dark):
    study = analyse(bright, dark)
    report = report_of(study, date=DATE)
    data = render_pdf(report)
    reader = PdfReader(BytesIO(data))
    whole = b"".join(
        [
            data,
            *(
                obj.get_data()
                for n in range(1, len(reader.xref[0]) + 1)
                if hasattr(obj := reader.get_object(n), "get_data")
            ),
        ]
    )
    for hidden in (SECRET, tempfile.gettempdir(), str(Path.home()), str(Path.cwd())):
        assert hidden.encode() not in whole
        assert hidden not in json.dumps(describe_report(report))
    assert dict(reader.metadata) == {
        "/Author": "covid_mm",
        "/CreationDate": "D:20260304050607Z",
        "/Creator": "covid_mm",
        "/Keywords": "",
        "/ModDate": "D:20260304050607Z",
        "/Producer": "covid_mm",
        "/Subject": RESEARCH_USE,
        "/Title": INCONCLUSIVE,  # the two images disagree
        "/Trapped": "/False",
    }
    assert reader.xmp_metadata is None
    assert reader.attachments == {}


def test_fonts_are_embedded(agreeing):
    fonts = {}
    for page in open_pdf(agreeing, "note").pages:
        fonts |= {str(font["/BaseFont"]): font.get_object() for font in page["/Resources"]["/Font"].values()}
    assert fonts
    assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts.values()), fonts
    assert all("DejaVuSansCondensed" in name for name in fonts)


def test_the_same_report_is_the_same_file(agreeing):
    report = report_of(agreeing, note="Zażółć", date=DATE)
    first = render_pdf(report)
    assert render_pdf(report) == first
    later = dataclasses.replace(report, date=DATE + timedelta(seconds=1))
    assert render_pdf(later) != first


def test_reports_made_at_once_do_not_mix(agreeing):
    reports = [report_of(agreeing, note=f"Note {chr(0x100 + n)}{n}", date=DATE) for n in range(4)]
    alone = [render_pdf(report) for report in reports]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(render_pdf, reports)) == alone


def test_the_json_is_the_answer_and_what_the_pdf_adds(agreeing):
    report = report_of(agreeing, note="Fever", date=DATE)
    result = describe_report(report)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    answer = describe_prediction(agreeing.prediction)
    checkpoint = answer.pop("checkpoint")
    assert {name: result[name] for name in answer} == answer
    assert result["checkpoint"] == checkpoint | {"trained_at": INFO.trained_at}
    assert result["heatmaps"]["ct"].startswith("data:image/png;base64,")
    assert result["lungs"] == {"ct": list(LUNGS), "xray": list(LUNGS)}
    assert result["evidence"]["auc"] == round(EVIDENCE["fused"].auc, 2)
    assert {name: result[name] for name in result if name not in answer and name != "checkpoint"} == {
        "report": "answer",
        "answered_by": "fused",
        "agreement": {
            "code": "agree",
            "message": "CT and X-ray agree: each alone says COVID-19 pneumonia.",
        },
        "thresholds": {
            head: {
                "threshold": 0.5,
                "abstain_zone": list(ZONE[head]),
                "evidence": {
                    name: round(value, 2) if isinstance(value, float) else value
                    for name, value in dataclasses.asdict(EVIDENCE[head]).items()
                    if name != "unit"
                }
                | {"collections": list(EVIDENCE[head].collections)},
            }
            for head in ("fused", "ct", "xray")
        },
        "reasons": [],
        "heatmap_class": "covid19_pneumonia",
        "own_test": None,
        "heatmap_method": "Grad-CAM",
        "heatmap_layer": "coarse",
        "heat_location": {m: dataclasses.asdict(one) for m, one in LOCATION.items()},
        "outlines": {
            m: [np.round(outline, 4).tolist() for outline in outlines]
            for m, outlines in agreeing.prediction.outlines.items()
        },
        "images": {m: preview.url for m, preview in agreeing.previews.items()},
        "note": "Fever",
        "date": "2026-03-04T05:06:07Z",
        "versions": find_versions(),
        "research_use": RESEARCH_USE,
    }


def test_the_date_is_told_in_utc_and_needs_its_zone(agreeing):
    jakarta = datetime(2026, 3, 4, 12, 6, 7, 999, tzinfo=timezone(timedelta(hours=7)))
    assert describe_report(report_of(agreeing, date=jakarta))["date"] == "2026-03-04T05:06:07Z"
    with pytest.raises(UsageError, match="time zone"):
        report_of(agreeing, date=datetime(2026, 3, 4))


def test_both_alone_may_differ_from_both_combined(agreeing):
    study = change(agreeing, label="normal", probabilities={"normal": 0.6, "covid19_pneumonia": 0.4})
    text = read_text(open_pdf(study))
    assert "each alone says COVID-19 pneumonia, but combined they give Normal." in text
