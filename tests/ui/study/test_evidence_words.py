"""What an answer is worth elsewhere, in words: caps, figures, zones."""

from __future__ import annotations

import csv
import io

import pytest
from fake_predictor import EVIDENCE, META

from covid_mm.formats import format_percent
from covid_mm.ui.i18n.language import find_languages
from covid_mm.ui.study.evidence import (
    describe_evidence,
    find_bar_end,
    format_probability,
    read_evidence,
    read_supported,
    read_zone,
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
