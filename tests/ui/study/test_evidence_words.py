"""What an answer is worth elsewhere, in words: caps, figures, zones."""

from __future__ import annotations

import csv
import io

import pytest
from fake_predictor import EVIDENCE, META

from covid_mm.formats import format_percent
from covid_mm.ui.i18n.language import ENGLISH, find_languages
from covid_mm.ui.study.evidence import (
    describe_evidence,
    find_bar_end,
    format_probability,
    list_worth,
    name_collections,
    read_evidence,
    read_supported,
    read_zone,
    render_worth,
)


@pytest.mark.parametrize(
    ("value", "supported", "text"),
    [
        (1.0, 1.0, "over 99 %"),
        (0.0, 1.0, "under 1 %"),
        (0.97, 0.97, "over 97 %"),
        (0.9699999, 0.97, "over 97 %"),  # clipped to the cap, less a rounding
        (1 - 0.97, 0.97, "under 3 %"),
        (0.96, 0.97, "96 %"),
        (0.5, 0.97, "50 %"),
        (0.985, 0.985, "over 98 %"),  # never more than is supported
        (0.015, 0.985, "under 2 %"),
        (0.5, 0.5, "50 %"),
        (0.51, 0.5, "over 50 %"),
    ],
)
def test_a_probability_at_the_cap_is_written_as_over_or_under_it(value, supported, text):
    assert format_probability(value, supported) == text


@pytest.mark.parametrize(
    ("value", "label", "zone", "end"),
    [
        (0.85, "covid19_pneumonia", (0.46, 0.91), 0.92),  # over 85 %, so above the zone
        (0.85, "undetermined", (0.46, 0.91), 0.85),
        (0.97, "covid19_pneumonia", (0.46, 0.91), 0.97),
        (0.15, "normal", (0.1, 0.6), 0.09),  # under 15 %
        (0.03, "normal", (0.1, 0.6), 0.03),
        (0.985, "covid19_pneumonia", (0.4, 0.995), 1.0),
        (0.7, "undetermined", (0.4, 0.6), 0.7),  # for another reason than its zone
        (0.85, "covid19_pneumonia", None, 0.85),
    ],
)
def test_a_bar_ends_outside_the_zone_where_it_names_a_class(value, label, zone, end):
    assert find_bar_end(value, label, zone) == pytest.approx(end)


def test_the_cap_is_said_in_the_readers_language():
    assert format_probability(0.97, 0.97, find_languages()["id"]) == "di atas 97 %"


def test_percentages_keep_one_decimal_where_they_have_one():
    assert [format_percent(value) for value in (0.5, 0.437, 0.05)] == ["50 %", "43.7 %", "5 %"]


@pytest.mark.parametrize("head", ["fused", "ct", "xray"])
def test_what_meta_json_keeps_of_a_head_is_read_back(head):
    assert read_evidence(META, head) == EVIDENCE[head]
    assert read_zone(META, head) is not None
    assert read_supported(META, head) < 1


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"evidence": None, "abstain_zone": None, "supported_probability": None},
        {"evidence": {"ct": None}, "abstain_zone": {"ct": [0.5, 0.5]}, "supported_probability": {}},
        {"evidence": {"ct": {"auc": "?"}}, "abstain_zone": {"ct": ["a", "b"]}},
    ],
)
def test_what_is_not_there_is_not_claimed(meta):
    assert read_evidence(meta, "ct") is None
    assert read_zone(meta, "ct") is None
    assert read_supported(meta, "ct") == 1.0
    assert "was not measured" in describe_evidence(read_evidence(meta, "ct"))


def test_page_json_and_csv_say_the_same():
    from fake_predictor import FakePredictor
    from made_images import make_png

    from covid_mm.commands.predict import format_capped
    from covid_mm.serving.batch import COLUMNS, Row, format_line
    from covid_mm.ui.study.evidence import format_probability

    prediction = FakePredictor().predict(ct=make_png(0.713, seed=1), xray=make_png(0.713, seed=2))
    exact, supported = prediction.probabilities["covid19_pneumonia"], prediction.supported_probability
    said = prediction.to_dict()["probabilities"]
    assert exact != round(exact, 2)
    assert said == {"normal": round(1 - round(exact, 2), 2), "covid19_pneumonia": round(exact, 2)}
    line = format_line(Row("a", prediction, "", prediction.checkpoint, 0.1).to_cells())
    cells = dict(zip(COLUMNS, next(csv.reader(io.StringIO(line))), strict=True))
    assert float(cells["probability_covid19_pneumonia"]) == said["covid19_pneumonia"]
    assert float(cells["evidence_auc"]) == prediction.to_dict()["evidence"]["auc"]
    percent = f"{100 * said['covid19_pneumonia']:.0f} %"
    assert format_probability(exact, supported) == percent == format_capped(exact, supported)


def test_pairs_of_left_out_collections_are_named_once():
    pairs = [f"{ct} with {film}" for ct in ("a", "b") for film in ("x", "y", "z")]
    assert name_collections(pairs) == "a, b × x, y, z"  # noqa: RUF001
    assert name_collections(pairs[:-1]) == ", ".join(pairs[:-1])  # not each with each
    assert name_collections(["a", "b"]) == "a, b"


def test_what_it_is_worth_stands_on_the_first_screen():
    lines = list_worth(META)
    assert lines[0] == (
        "CT alone: sensitivity 81 %, specificity 81 %, AUC 0.89 (0.85 to 0.92); 512 images of 1 sources"
        " left out in turn."
    )
    assert len(lines) == 2
    html = render_worth(META, find_languages()["id"])
    assert "AUC 0,89 (0,85 sampai 0,92)" in html
    assert html.count("<li>") == 2
    assert "was not measured" in render_worth({})


def test_numbers_have_the_marks_of_the_language():
    texts = find_languages()["id"]
    assert (texts.number(3102), texts.number(0.914, 2), texts.percent(0.475)) == ("3.102", "0,91", "47,5 %")
    assert texts.interval(0.46, 0.91) == "46 sampai 91 %"
    assert ENGLISH.estimate(0.84, 0.8, 0.88) == "84 % (80 to 88 %)"
    assert texts.sentence("47.5 %") == "47,5 %"
    assert texts.sentence("densenet121.weights") == "densenet121.weights"
