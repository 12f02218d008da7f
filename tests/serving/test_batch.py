"""Many studies: rows in order, one bad file one row, a result file that survives a kill."""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))
from fake_predictor import FakePredictor
from made_images import make_png

from covid_mm.errors import CheckpointError, UsageError
from covid_mm.serving.batch import COLUMNS, ResultFile, Row, answer_studies, format_line, neutralise_cell
from covid_mm.serving.pairing import ImageFile, Study
from covid_mm.serving.prediction import Evidence, Notice


def study(name: str, **images: bytes) -> Study:
    return Study(
        name, {m: ImageFile(f"{name}_{m}.png", lambda data=data: data) for m, data in images.items()}
    )


@pytest.fixture
def studies() -> list[Study]:
    dark, bright = make_png(0.2), make_png(0.8)
    return [
        study("a", ct=dark, xray=dark),
        study("b", ct=bright[:40]),
        study("=c", xray=bright),
        Study("d", {}, error="There are 2 CT files for this study; keep one."),
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_all(path: Path, studies: list[Study], **options: bool) -> int:
    predictor, answered = FakePredictor(), 0
    with ResultFile(path, predictor.info, **options) as file:
        for row in answer_studies(predictor, (one for one in studies if not file.is_done(one))):
            file.append(row)
            answered += 1
    return answered


def test_one_bad_file_is_one_row_with_its_reason(tmp_path, studies):
    assert write_all(tmp_path / "out.csv", studies) == 4
    rows = read_rows(tmp_path / "out.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["study"] for row in rows] == ["a", "b", "'=c", "d"]
    assert [row["label"] for row in rows] == ["normal", "", "covid19_pneumonia", ""]
    assert rows[1]["error"].startswith("CT: the image is truncated")
    assert rows[3]["error"].startswith("There are 2 CT files")
    assert float(rows[0]["probability_normal"]) + float(rows[0]["probability_covid19_pneumonia"]) == 1
    assert rows[0]["ct_probability"]
    assert rows[2]["ct_probability"] == ""
    assert rows[2]["warnings"] == "single_modality"
    assert {row["checkpoint"] for row in rows} == {"fake-for-tests"}


def test_an_undetermined_row_says_why_and_each_answer_what_it_is_worth(tmp_path):
    evidence = Evidence(0.91234, 0.85, 0.94, 0.8, 0.85, ("one hospital",), 400)
    plain = dataclasses.replace(FakePredictor().predict(ct=make_png(0.5)), evidence=None)
    zone = dataclasses.replace(plain, label="undetermined", evidence=evidence)
    lungless = dataclasses.replace(
        zone,
        probabilities={},
        warnings=(Notice("lungs_not_found_ct", "No lungs."),),
        evidence=None,
    )
    path = tmp_path / "out.csv"
    with ResultFile(path, FakePredictor.info) as file:
        for name, result in (("plain", plain), ("zone", zone), ("lungless", lungless)):
            file.append(Row(name, result, "", FakePredictor.info, 0.1))
        file.append(Row("failed", None, "It cannot be read.", FakePredictor.info, 0.1))
    rows = read_rows(path)
    assert [row["reason"] for row in rows] == ["", "in_abstain_zone", "lungs_not_found_ct", ""]
    assert [row["evidence_auc"] for row in rows] == ["", "0.91", "", ""]
    assert [rows[1][f"evidence_{name}"] for name in ("sensitivity", "specificity")] == ["0.8", "0.85"]
    assert rows[1]["probability_covid19_pneumonia"]


def test_rows_come_one_by_one(studies):
    predictor = FakePredictor()
    rows = answer_studies(predictor, iter(studies))
    next(rows)
    assert predictor.calls == 1


def test_a_second_start_does_what_is_missing(tmp_path, studies):
    path = tmp_path / "deep" / "out.csv"
    assert write_all(path, studies[:2]) == 2
    assert write_all(path, studies) == 2
    assert write_all(path, studies) == 0
    assert [row["study"] for row in read_rows(path)] == ["a", "b", "'=c", "d"]
    assert write_all(path, studies, retry=True) == 2  # the two with an error
    assert sorted(row["study"] for row in read_rows(path)) == ["'=c", "a", "b", "d"]


@pytest.mark.parametrize("remaining", [3, 40, -1, -30])
def test_a_line_torn_by_a_kill_is_written_again(tmp_path, studies, remaining):
    path = tmp_path / "out.csv"
    write_all(path, studies)
    whole = path.read_text()
    path.write_text(whole[:remaining])
    write_all(path, studies)
    assert [row["study"] for row in read_rows(path)] == ["a", "b", "'=c", "d"]


def test_files_of_others_are_never_touched(tmp_path, studies):
    for content in ("study,label\nx,normal\n", "anything", format_line(COLUMNS) + "torn\n" + "whole,\n"):
        path = tmp_path / "out.csv"
        path.write_text(content)
        with pytest.raises(UsageError, match="name another file"):
            write_all(path, studies)
        assert path.read_text() == content


def test_a_file_of_an_earlier_version_is_refused_and_kept(tmp_path, studies):
    older = [
        name
        for name in COLUMNS
        if not name.startswith(("ct_slices", "ct_lung", "ct_most", "ct_pos", "ct_win"))
    ]
    path = tmp_path / "out.csv"
    path.write_text(",".join(older) + "\n")
    with pytest.raises(UsageError, match="earlier version, without the columns of a CT scan"):
        write_all(path, studies)
    assert path.read_text() == ",".join(older) + "\n"


def test_another_checkpoints_file_is_refused(tmp_path, studies):
    path = tmp_path / "out.csv"
    write_all(path, studies)
    with (
        pytest.raises(UsageError, match="another checkpoint"),
        ResultFile(path, dataclasses.replace(FakePredictor.info, sha256="f" * 64)),
    ):
        pass


def test_two_runs_cannot_write_one_file(tmp_path):
    with (
        ResultFile(tmp_path / "out.csv", FakePredictor.info),
        pytest.raises(UsageError, match="another run"),
        ResultFile(tmp_path / "out.csv", FakePredictor.info),
    ):
        pass


def test_a_network_that_cannot_answer_ends_the_run(studies):
    class Broken(FakePredictor):
        def predict(self, **images):
            raise CheckpointError("not a number")

    with pytest.raises(CheckpointError):
        next(answer_studies(Broken(), studies))


def test_a_bug_is_one_row_without_its_text(caplog):
    class Buggy(FakePredictor):
        def predict(self, **images):
            raise OSError("cannot open /planted/path")

    (row,) = answer_studies(Buggy(), [study("x", ct=make_png(0.5))])
    assert "Something went wrong" in row.error
    assert "/planted" not in row.error
    assert "/planted" in caplog.text


CELLS = ["=1+1", "+1", "-1", "@x", " =x", "\t=x", "＝x"]  # noqa: RUF001
BEHIND = [";=1", "; =1", "\t;=1", '"=1', "'=1", ";;\t\"'=1", "|@x", ",+1", "a;=1", 'a" ;-1', "a\n,=1"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("cell", [*CELLS, *BEHIND])
def test_no_cell_is_a_formula_by_whichever_separator_a_line_is_split(cell, separator):
    line = format_line([neutralise_cell("x"), neutralise_cell(cell)])
    assert line.count("\n") == 1
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        for result in next(csv.reader([line], delimiter=separator, quoting=quoting)):
            assert not result.strip(' \t"').startswith(("=", "+", "-", "@", "＝"))  # noqa: RUF001


@pytest.mark.parametrize(
    ("cell", "expected"), [(";=1", ";'=1"), ("=1+1", "'=1+1"), ("\t=x", " '=x"), ('"=x', "\"'=x")]
)
def test_the_apostrophe_stands_before_the_formula(cell, expected):
    assert neutralise_cell(cell) == expected


def test_numbers_stay_numbers():
    row = Row("-1", None, "", FakePredictor().info, -0.25)
    cells = dict(zip(COLUMNS, row.to_cells(), strict=True))
    assert (cells["seconds"], cells["study"]) == ("-0.25", "'-1")


def test_plain_cells_stay():
    for cell in ("a-1 b", "larger than 20 MB; scale it down", "CT, X-ray", "a=b", "x; y - z", "it's"):
        assert neutralise_cell(cell) == cell
    assert np.isfinite(float(neutralise_cell("0.5")))
