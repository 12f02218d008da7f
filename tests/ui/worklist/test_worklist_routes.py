"""The list over HTTP: only its own visitor reads it, opens, compares, notes, saves and deletes what is in it."""

from __future__ import annotations

import csv
import io
import json
import secrets
import zipfile

import httpx
import pytest
from live_server import LiveServer, Visitor

from covid_mm.evaluation.local_test import LocalTest


class Owner(Visitor):
    """A visitor whose browser keeps a list."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.token = secrets.token_hex(32)
        self.call("mm-worklist-open", [{"token": self.token, "page": "tab"}])

    def post(self, action: str, path: str = "/worklist", **values: object) -> httpx.Response:
        return self.request("POST", path, json={"token": self.token, "action": action, **values})

    def rows(self, since: int = 0) -> list[dict]:
        rows: list[dict] = self.post("changes", since=since).json()["rows"]
        return rows


@pytest.fixture
def owner(server: LiveServer, bright, dark) -> Owner:
    visitor = Owner(server.url)
    visitor.analyse(bright, dark)
    visitor.analyse(None, dark)
    return visitor


def test_a_study_is_listed_opened_and_compared(owner):
    first, second = owner.rows()
    assert (first["number"], first["flags"][1:], first["opens"]) == (1, ["disagree"], True)
    assert (second["label"], len(second["thumbnails"])) == ("normal", 1)
    assert len(first["thumbnails"]) == 2
    page = owner.post("study", number=1).json()["html"]
    assert 'data-number="1"' in page
    assert "mm-layer" in page
    assert "CT and X-ray disagree" in page
    compared = owner.post("compare", number=2, other=1).json()["html"]
    assert compared.index("Study 1") < compared.index("Study 2")
    assert "not given" in compared
    assert "Research use only" in compared


def test_a_damaged_image_is_listed_with_its_reason(server):
    owner = Owner(server.url)
    owner.analyse(b"no image at all", None)
    (row,) = owner.rows()
    assert (row["label"], row["flags"], row["opens"]) == ("", ["failed"], False)
    assert "CT slice" in row["status"]
    assert row["status"] in owner.post("study", number=1).json()["html"]


def test_without_a_list_nothing_is_kept(server, dark):
    visitor = Visitor(server.url)
    assert "mm-answer" in visitor.analyse(None, dark)


def test_nobody_else_reads_it(owner, server):
    other = Owner(server.url)
    assert other.rows() == []
    assert other.post("study", number=1).status_code == 400
    stranger = Visitor(server.url)
    for token in (secrets.token_hex(32), "", owner.token.upper(), owner.token[:-1]):
        for action in ("changes", "study", "report", "note", "delete"):
            values = {"since": 0, "number": 1, "numbers": [1], "format": "pdf", "note": "x"}
            given = stranger.request("POST", "/worklist", json={"token": token, "action": action, **values})
            assert given.status_code == 404
        archive = {"token": token, "numbers": [1], "format": "pdf"}
        assert stranger.request("POST", "/worklist/archive", json=archive).status_code == 404
    assert len(owner.rows()) == 2


def test_the_token_stands_in_no_address_and_no_answer(owner, server):
    owner.post("study", number=1)
    assert owner.token not in owner.received.replace(f'"token": "{owner.token}"', "")
    assert owner.token not in server.log
    assert owner.request("GET", f"/worklist?token={owner.token}").status_code == 405
    assert owner.post("changes", since=0).headers["cache-control"] == "no-store"


def test_another_sites_page_cannot_ask(owner):
    foreign = {"sec-fetch-site": "cross-site", "content-type": "text/plain"}
    body = json.dumps({"token": owner.token, "action": "forget"})
    assert owner.request("POST", "/worklist", content=body, headers=foreign).status_code == 403
    assert len(owner.rows()) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"token": 1}',
        b'{"token": "TOKEN", "action": "study"}',
        b'{"token": "TOKEN", "action": "study", "number": true}',
        b'{"token": "TOKEN", "action": "delete", "numbers": ["1"]}',
        b'{"token": "TOKEN", "action": "report", "number": 1, "format": "exe"}',
        b'{"token": "TOKEN", "action": "dance"}',
    ],
)
def test_what_is_not_understood_is_one_sentence(owner, body):
    given = owner.request("POST", "/worklist", content=body.replace(b"TOKEN", owner.token.encode()))
    assert (given.status_code, list(given.json())) == (400, ["error"])
    assert "reload the page" in given.json()["error"]


def test_a_note_goes_into_the_report(owner):
    assert owner.post("note", number=1, note="  seen\tby two\r\n").status_code == 200
    assert owner.rows()[0]["note"] == "seen by two"
    report = owner.post("report", number=1, format="json")
    assert (report.json()["note"], report.headers["content-type"]) == ("seen by two", "application/json")
    assert owner.post("report", number=1, format="pdf").content.startswith(b"%PDF")
    assert "at most" in owner.post("note", number=1, note="x" * 2000).json()["error"]


def test_all_reports_come_in_one_archive_with_a_table(owner):
    owner.analyse(b"no image at all", None)
    owner.post("note", number=2, note="=1+1")
    given = owner.post("", "/worklist/archive", numbers=[1, 2, 3], format="json")
    with zipfile.ZipFile(io.BytesIO(given.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["001-Study-1.json", "002-Study-2.json", "index.csv"]
        reports = [json.loads(archive.read(name)) for name in archive.namelist()[:2]]
        table = list(csv.DictReader(io.StringIO(archive.read("index.csv").decode("utf-8-sig"))))
    assert [one["modalities"] for one in reports] == [["ct", "xray"], ["xray"]]
    assert [row["file"] for row in table] == ["001-Study-1.json", "002-Study-2.json", ""]
    assert table[1]["note"] == "'=1+1"  # no formula
    assert "CT slice" in table[2]["error"]
    assert zipfile.is_zipfile(
        io.BytesIO(owner.post("", "/worklist/archive", numbers=[], format="pdf").content)
    )


def test_what_is_deleted_is_gone(owner):
    owner.post("delete", numbers=[1])
    assert [row["number"] for row in owner.rows()] == [2]
    owner.post("forget")
    assert owner.post("changes", since=0).status_code == 404


def test_the_words_are_in_the_visitors_language(owner):
    owner.client.headers["accept-language"] = "id-ID"
    assert owner.rows()[0]["name"] == "Pemeriksaan 1"
    owner.post("forget")
    assert "tidak lagi disimpan" in owner.post("changes", since=0).json()["error"]


def test_a_batchs_rows_are_listed_and_open_in_the_same_view(server, bright, dark):
    owner = Owner(server.url)
    manifest = (
        b"study,xray,label\nright,a.png,covid19_pneumonia\nwrong,b.png,covid19_pneumonia\nlost,c.png,normal\n"
    )
    sent = {"a.png": bright, "b.png": dark, "list.csv": manifest}
    files = [owner.upload(data, name) for name, data in sent.items()]
    done = owner.ask("mm-batch-run", [files, None, None])["output"]["data"][0]
    assert done["status"] == "3 of 3 studies done: 2 answered, 0 undetermined, 1 failed"
    flags = [row["html"].split('data-flags="')[1].split('"')[0] for row in done["rows"]]
    assert flags == ["answered", "answered wrong", "failed"]
    assert [f'data-number="{number}"' in row["html"] for number, row in enumerate(done["rows"], 1)] == [
        True
    ] * 3
    rows = owner.rows()
    assert [(row["name"], row["run"], row["opens"]) for row in rows] == [
        ("right", 1, True),
        ("wrong", 1, True),
        ("lost", 1, False),
    ]
    assert rows[1]["flags"] == ["normal", "wrong"]
    opened = owner.post("study", number=2).json()["html"]
    assert "labelled COVID-19 pneumonia" in opened
    assert "mm-layer" in opened
    assert "c.png is not among the files" in rows[2]["status"]


def test_labelled_rows_are_this_hospitals_own_test_beside_each_answer(server, bright, dark):
    owner = Owner(server.url)
    assert owner.post("changes", since=0).json()["test"] == ""
    assert "run labelled studies first" in owner.post("test").json()["error"]
    studies = "a,a.png,a.png,covid19_pneumonia\nb,b.png,b.png,normal\nc,,a.png,normal\nd,a.png,,\n"
    manifest = f"study,ct,xray,label\n{studies}".encode()
    files = [owner.upload(*each) for each in ((bright, "a.png"), (dark, "b.png"), (manifest, "list.csv"))]
    done = owner.ask("mm-batch-run", [files, None, None])["output"]["data"][0]
    assert "Test it here first" in done["tested"]
    assert owner.post("changes", since=0).json()["test"].startswith("20")
    page = owner.post("test").json()["html"]
    assert "X-ray alone, tested here" in page
    assert "3 (1 positive), 3 patients" in page
    assert "fewer than 50 studies" in page
    test = owner.post("test-report", format="json").json()
    assert (test["labelled"], [one["head"] for one in test["heads"]]) == (3, ["fused", "ct", "xray"])
    assert LocalTest.from_dict(test).find("xray").specificity.successes == 1
    assert owner.post("test-report", format="pdf").content.startswith(b"%PDF")
    own = "On this hospital&#39;s own studies, tested here first: sensitivity 100 %"
    assert own in owner.post("study", number=1).json()["html"]
    assert own in owner.analyse(bright, dark) + owner.analyse(bright, bright)
    assert owner.post("report", number=1, format="json").json()["own_test"]["head"] == "fused"
    other = Owner(server.url)
    assert "tested here first:" not in other.analyse(bright, bright)
    assert other.post("test").status_code == 400
    owner.post("forget")
    assert owner.post("test").status_code == 404
