"""CSV manifests as people and spreadsheets write them."""

from __future__ import annotations

import io

import pytest

from covid_mm.errors import DataError
from covid_mm.serving.manifest import Entry, open_manifest


def read(content: bytes) -> list[Entry]:
    return list(open_manifest(lambda: io.BytesIO(content), "list.csv"))


GOOD = "study,ct,xray\nä1,x/a.png,b.png\nb2,,c.png\n"
ENTRIES = [Entry("ä1", {"ct": "x/a.png", "xray": "b.png"}), Entry("b2", {"xray": "c.png"})]


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode("utf-16"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("study,ct,xray", " Study , CT , XRAY ").encode(),
        (GOOD + "\n,,\n \n").encode(),
        GOOD.replace("\n", ",,\n").replace("xray,,", "xray").encode(),
        b'study,ct,xray\n"\xc3\xa41","x/a.png",b.png\nb2,,c.png',
        "xray,study,ct\nb.png,ä1,x/a.png\nc.png,b2,\n".encode(),
    ],
    ids=[
        "plain",
        "mark",
        "utf-16",
        "semicolons",
        "tabs",
        "crlf",
        "case",
        "blank",
        "excel",
        "quotes",
        "order",
    ],
)
def test_what_is_read(content):
    assert read(content) == ENTRIES


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "lacks a column"),
        (b"study,ct,xray\n", "names no study"),
        (b"study,ct,x-ray\na,b,c\n", "header with 'x-ray'"),
        (b"study,label\na,normal\n", "lacks a column"),
        (b"study,ct,file\na,b,c\n", "header with 'file'"),
        (b"file,ct\na,b\n", "header with 'ct'"),
        (b"ct,xray\nb,c\n", "lacks a column"),
        (b"study\na\n", "lacks a column"),
        (b"study,ct,ct\na,b,c\n", "column twice"),
        (b"study,ct,xray\n\xe4,b,c\n", "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not a text file"),
        (b"PK\x03\x04\0\0", "not a text file"),
        (b'study,ct,xray\na,"b,c\nd,e,f\n', "quotation mark that is not closed"),
        (b"study,ct,xray\na," + b"b" * 200_000 + b",c\n", "field limit"),
    ],
)
def test_what_is_refused_in_one_sentence(content, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        read(content)
    assert str(caught.value).startswith("list.csv ")
    assert str(caught.value).count("\n") == 0


def test_one_bad_line_is_one_entry_with_its_reason():
    result = read(b"study,ct,xray\na,b,c,d\n,b,c\ne,,\nf,g,h\n")
    assert [(one.study, bool(one.error)) for one in result] == [
        ("a", True),
        ("line 3", True),
        ("e", True),
        ("f", False),
    ]
    assert "Line 2 has 4 fields, expected 3" in result[0].error
    assert "names no image" in result[2].error


def test_a_file_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="can't be opened"):
        open_manifest((tmp_path / "none.csv").open, "none.csv")


def test_labels_and_patients_are_read_where_they_are_given():
    rows = b"a,1.png,Normal,p1\nb,2.png,covid19_pneumonia,\nc,3.png,,\nd,4.png,other,p2\n"
    assert [(one.truth, one.patient) for one in read(b"study,ct,label,patient\n" + rows)] == [
        ("normal", "p1"),
        ("covid19_pneumonia", ""),
        ("", ""),
        ("", "p2"),
    ]
    (bad,) = read(b"study,ct,label\na,1.png,healthy\n")
    assert bad.error == "Line 2 has the label healthy; expected normal, covid19_pneumonia, other or nothing."


def test_a_collections_manifest_is_one_image_a_study():
    content = b"file,label,patient,modality,boxes\nx/1.png,normal,p1,xray,\nx/2.png,covid19_pneumonia,p2,,\n"
    first, second = read(content)
    assert first == Entry("x/1.png", {"xray": "x/1.png"}, truth="normal", patient="p1")
    assert "says no modality" in second.error
    named = list(open_manifest(lambda: io.BytesIO(content), "manifest.csv", "east-hospital-xray"))
    assert named[1] == Entry("x/2.png", {"xray": "x/2.png"}, truth="covid19_pneumonia", patient="p2")
