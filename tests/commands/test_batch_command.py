"""`python -m covid_mm batch`: manifests, folders, going on, one sentence for what is wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from answerers import load_toy
from scan_files import chest_hu, nifti_file, series_files, zip_files

from covid_mm.config import CLASSES


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """Three studies by name, one with a damaged film, and a file that belongs to none."""
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(CLASSES):
        for modality in ("ct", "xray"):
            source = min((trained.data / modality / name).iterdir())
            shutil.copy(source, images / f"p{number}_{modality}{source.suffix}")
    (images / "p2_xray.png").write_bytes((images / "p0_xray.png").read_bytes()[:50])
    (images / "notes.txt").write_text("nothing")
    return images


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_paired_and_answered_and_a_second_start_does_nothing(trained, covid_mm, folder, tmp_path):
    line = ("batch", folder, "--output", tmp_path / "out.csv", "--checkpoint", trained.checkpoint)
    done = covid_mm(*line)
    assert done.code == 0, done.err
    rows = read_rows(tmp_path / "out.csv")
    assert [row["study"] for row in rows] == ["p0", "p1", "p2"]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert "notes.txt" in done.err
    before = (tmp_path / "out.csv").read_bytes()
    again = covid_mm(*line)
    assert again.code == 0
    assert "3 rows are in" in again.err
    assert (tmp_path / "out.csv").read_bytes() == before


def test_a_manifest_and_a_zip_give_the_same_answers(trained, covid_mm, folder, tmp_path):
    (folder / "list.csv").write_text(
        "study,ct,xray\np0,p0_ct.png,p0_xray.png\np1,p1_ct.png,p1_xray.png\np9,,\n"
    )
    shutil.make_archive(str(tmp_path / "all"), "zip", folder)
    results = {}
    for source in (folder / "list.csv", tmp_path / "all.zip"):
        out = tmp_path / f"{source.name}.out.csv"
        done = covid_mm("batch", source, "--output", out, "--checkpoint", trained.checkpoint)
        assert done.code == 0, done.err
        results[source.suffix] = {row["study"]: row for row in read_rows(out)}
    for name in ("p0", "p1"):
        ours, theirs = (
            {key: value for key, value in rows[name].items() if key != "seconds"} for rows in results.values()
        )
        assert ours == theirs
    assert results[".csv"]["p9"]["error"]


def test_what_is_wrong_is_one_sentence(trained, covid_mm, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "odd.csv").write_text("name,file\na,b\n")
    for source in (empty, tmp_path / "none", tmp_path / "odd.csv"):
        done = covid_mm("batch", source, "--output", tmp_path / "o.csv", "--checkpoint", trained.checkpoint)
        assert done.code == 2, source
        assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "o.csv").exists()


def test_predict_and_batch_take_whole_scans(trained, covid_mm, tmp_path):
    volume = chest_hu(4, 64)
    series, packed = tmp_path / "series", tmp_path / "scan.zip"
    series.mkdir()
    files = []
    for number, data in enumerate(series_files(volume)):
        files.append(series / f"{number}.dcm")
        files[-1].write_bytes(data)
    packed.write_bytes(zip_files({f"study/{file.name}": file.read_bytes() for file in files}))
    (tmp_path / "p1_ct.nii.gz").write_bytes(nifti_file(volume))
    options = ("--checkpoint", trained.checkpoint)
    answers = []
    for ct in ([series], [packed], files, [tmp_path / "p1_ct.nii.gz"]):
        done = covid_mm("predict", "--ct", *ct, "--json", "--heatmaps", tmp_path / "maps", *options)
        assert done.code == 0, done.err
        answers.append(json.loads(done.out))
    assert [len(answer["slices"]) for answer in answers] == [4, 4, 4, 4]
    assert [answer["probabilities"] for answer in answers] == [answers[0]["probabilities"]] * 4
    assert answers[0]["window"] == {"level": -600.0, "width": 1500.0}
    one = json.loads(covid_mm("predict", "--ct", series, "--slice", 2, "--json", *options).out)
    assert "slices" not in one
    assert one["probabilities"]["covid19_pneumonia"] == pytest.approx(
        answers[0]["slices"][2]["probability"], abs=1e-5
    )
    text = covid_mm("predict", "--ct", series, *options).out
    assert "scan of 4 slices, window -600/1500 HU, 4 with lung" in text
    assert "an extent, not a severity score" in text
    assert "there is no slice 10" in covid_mm("predict", "--ct", series, "--slice", 9, *options).err
    (tmp_path / "list.csv").write_text("study,ct,xray\na,series,\nb,scan.zip,\nc,p1_ct.nii.gz,\n")
    for source in (tmp_path / "list.csv", tmp_path):
        out = tmp_path / "out" / f"{source.stem}.csv"
        out.parent.mkdir(exist_ok=True)
        assert covid_mm("batch", source, "--output", out, *options).code == 0
        rows = read_rows(out)
        assert [row["error"] for row in rows] == [""] * len(rows)
        assert {row["probability_covid19_pneumonia"] for row in rows} == {
            f"{answers[0]['probabilities']['covid19_pneumonia']:.4f}".rstrip("0")
        }
        for row in rows:
            facts = [row[name] for name in ("ct_slices", "ct_lung_slices", "ct_window")]
            assert facts == ["4", "4", "level -600, width 1500"]
            assert int(row["ct_most_suspicious_slice"]) == answers[0]["slice"] + 1
            assert float(row["ct_positive_share"]) == pytest.approx(answers[0]["extent"]["share"], abs=0.005)
    assert [row["study"] for row in rows] == ["p1"]


def test_labels_give_this_hospitals_own_figures_beside_the_left_out_ones(trained, covid_mm, folder, tmp_path):
    lines = ["study,ct,xray,label,patient"]
    lines += [
        f"p{number},p{number}_ct.png,p{number}_xray.png,{name},q{number}"
        for number, name in enumerate(CLASSES)
    ]
    lines += ["p2,,p2_xray.png,normal,q2", "p3,p0_ct.png,,,"]
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out.csv"
    line = ("batch", folder / "list.csv", "--output", out, "--checkpoint", trained.checkpoint)
    reports = ("--report", tmp_path / "own.json", "--report", tmp_path / "own.pdf")
    done = covid_mm(*line, *reports)
    assert done.code == 0, done.err
    assert "4 studies in" in done.err
    assert "1 failed" in done.err
    assert "Tested here first" in done.out
    test = json.loads((tmp_path / "own.json").read_text())
    assert (test["labelled"], test["failed"]) == (3, 1)
    films = {one["head"]: one["normal"] + one["positive"] for one in test["heads"]}.get("xray", 0)
    assert films + test["failed"] + test["unanswered"] == 3
    assert (tmp_path / "own.pdf").read_bytes().startswith(b"%PDF")
    again = covid_mm(*line)  # nothing left to answer, the same figures
    assert again.out == done.out


def test_a_collections_manifest_is_answered_image_by_image(trained, covid_mm, folder, tmp_path):
    (folder / "manifest.csv").write_text("file,label,modality\np0_xray.png,normal,xray\np1_ct.png,other,ct\n")
    out = tmp_path / "out.csv"
    done = covid_mm("batch", folder / "manifest.csv", "--output", out, "--checkpoint", trained.checkpoint)
    assert done.code == 0, done.err
    assert [row["study"] for row in read_rows(out)] == ["p0_xray.png", "p1_ct.png"]
    assert "1 labelled studies" in done.out


def test_a_report_needs_labels_and_an_ending(trained, covid_mm, folder, tmp_path):
    line = ("batch", folder, "--output", tmp_path / "out.csv", "--checkpoint", trained.checkpoint, "--report")
    for name, sentence in (("own.json", "--report needs labels"), ("own.txt", "expected .json or .pdf")):
        done = covid_mm(*line, tmp_path / name)
        assert done.code == 2
        assert sentence in done.err


def test_what_needs_the_engine_says_so(covid_mm, folder, tmp_path):
    for line in (("s3://archive/films",), (folder, "--address", "auto")):
        done = covid_mm("batch", *line, "--output", tmp_path / "out.csv")
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert "--engine ray" in done.err


@pytest.mark.slow
def test_the_engine_gives_the_same_rows_and_report(trained, covid_mm, folder, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("covid_mm.commands.batch.load_answerer", load_toy)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where workers find what the tests import
    (folder / "list.csv").write_text(
        "study,ct,xray,label\np0,p0_ct.png,p0_xray.png,normal\np1,p1_ct.png,,covid19_pneumonia\np2,,p2_xray.png,\n"
    )
    line = (
        "batch",
        folder / "list.csv",
        "--checkpoint",
        trained.checkpoint,
        "--report",
        tmp_path / "report.json",
    )
    rows, reports = [], []
    for options in ((), ("--engine", "ray")):
        done = covid_mm(*line, "--output", tmp_path / f"out{len(rows)}.csv", *options)
        assert done.code == 0, done.err
        rows.append([row | {"seconds": ""} for row in read_rows(tmp_path / f"out{len(rows)}.csv")])
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    assert rows[0] == rows[1]
    assert [bool(row["error"]) for row in rows[1]] == [False, False, True]
    assert reports[0].keys() == reports[1].keys()
    again = covid_mm(*line, "--output", tmp_path / "out1.csv", "--engine", "ray")
    assert "0 studies were answered now, 3 before" in again.err
