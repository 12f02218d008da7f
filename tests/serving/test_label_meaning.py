"""What the positive images were is said where they were not of COVID-19 alone."""

from __future__ import annotations

import pytest

from covid_mm.serving.label_meaning import describe_positives, read_positive_sources


def part(name: str, modality: str = "xray", use: str = "training", positive: int = 7) -> dict:
    counts = {"normal": 3, "covid19_pneumonia": positive, "other": 0}
    return {"name": name, "title": name.upper(), "modality": modality, "use": use, "counts": counts}


DATA = [
    part("coronahack", positive=40),
    part("siim-covid19"),
    part("own"),
    part("rsna-normal", positive=0),
    part("seen-only", use="evaluation only"),
    part("sarscov2-ct", "ct"),
]


def test_the_positive_images_of_the_modality_are_named_with_their_number():
    sentence = describe_positives(read_positive_sources({"data": DATA}, "xray"), "X-ray")
    assert sentence == (
        "On the X-ray positive means pneumonia-like, not COVID-19 alone; the positive images were: 40 of CORONAHACK,"
        " mostly bacterial and viral pneumonia of children; 7 of SIIM-COVID19, COVID-19 with typical findings; 7"
        " of OWN."
    )


@pytest.mark.parametrize("raw", [{"data": DATA[1:]}, {}, {"data": None}, {"data": [{"name": "coronahack"}]}])
def test_nothing_is_said_where_all_were_of_covid19_or_nothing_is_known(raw):
    assert read_positive_sources(raw, "xray") == ()
    assert describe_positives((), "X-ray") == ""


def test_the_ct_has_no_other_meaning():
    assert read_positive_sources({"data": DATA}, "ct") == ()
