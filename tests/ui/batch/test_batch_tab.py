"""Many studies on the page and by the API: pairing, rows, the lock on the network, and nothing left behind."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import threading
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
from fake_predictor import EVIDENCE, INFO, LUNGS, FakePredictor
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from live_server import LiveServer, Visitor, file_data
from made_images import make_flat, make_png

from covid_mm.config import ImageLimits
from covid_mm.errors import CheckpointError, CovidMMError
from covid_mm.serving.batch import COLUMNS, Row, answer_studies
from covid_mm.serving.pairing import LeftOut, Pairing, Study
from covid_mm.ui.batch.files import GONE, BatchLimits, Upload, pair_uploads
from covid_mm.ui.batch.tab import run_page
from covid_mm.ui.batch.view import (
    describe_pairing,
    describe_progress,
    describe_row,
    render_pairing,
    render_row,
    render_run_head,
)
from covid_mm.ui.predictors import BATCH, PredictorPool, PriorityLock
from covid_mm.ui.style import LIGHT
from covid_mm.ui.templates import read_asset

MARK = "ZZPHI"


def write_zip(path: Path, members: dict[str, bytes]) -> Upload:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Upload(str(path), path.name)


@pytest.fixture
def put(tmp_path):
    """`put("a_ct.png", data)`: an upload, as the server keeps it, with its owner's name beside it."""

    def write(name: str, data: bytes = b"x") -> Upload:
        path = tmp_path / f"image-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(data)
        return Upload(str(path), name)

    return write


@pytest.fixture
def archive(tmp_path, dark, bright) -> Upload:
    """Three studies in a folder: one with both images, one damaged, one with an X-ray alone."""
    members = {
        "top/a_ct.png": dark,
        "top/a_xray.png": dark,
        "top/b_ct.png": bright[:60],
        "top/c_XRAY.png": bright,
        "top/notes.txt": b"hello",
    }
    return write_zip(tmp_path / "studies.zip", members)


def files_of(result: Pairing) -> dict[str, list[str]]:
    return {study.name: list(study.files) for study in result.studies}


def test_a_zip_and_loose_files_are_paired_by_the_rule(archive, put):
    expected = {"a": ["ct", "xray"], "b": ["ct"], "c": ["xray"]}
    result = pair_uploads([archive])
    assert files_of(result) == expected
    assert [one.name for one in result.left_out] == ["notes.txt"]
    loose = [put(name) for name in ("a_ct.png", "a_xray.jpg", "b_ct", "c_XRAY.dcm", ".DS_Store", "notes.txt")]
    result = pair_uploads(loose)
    assert files_of(result) == expected
    assert [one.name for one in result.left_out] == ["notes.txt"]


def test_a_manifest_names_the_files_of_a_zip_or_the_loose_ones(tmp_path, put, dark):
    table = b"study,ct,xray\nS1,one.png,folder/two.png\nS2,missing.png,\nS1,one.png,\n"
    members = {"scans/one.png": dark, "scans/two.png": dark, "scans/three.png": dark}
    packed = write_zip(
        tmp_path / "z.zip", members | {"scans/list.csv": table, "scans/other.csv": b"x,y\n1,2\n"}
    )
    loose = [put(name.split("/")[1], data) for name, data in members.items()]
    for uploads, manifest in (
        ([packed], None),
        ([*loose, put("list.csv", table)], None),
        (loose, put("list.csv", table)),
    ):
        result = pair_uploads(uploads, manifest)
        assert [study.name for study in result.studies] == ["S1", "S2", "S1"]
        assert list(result.studies[0].files) == ["ct", "xray"]
        assert "missing.png is not among the files" in result.studies[1].error
        assert "more than once" in result.studies[2].error
        assert "three.png" in {one.name for one in result.left_out}


def test_what_cannot_be_run_is_one_sentence(archive, put, tmp_path):
    pair = [put("a_ct.png"), put("a_xray.png")]
    manifest = put("m.csv", b"study,ct\n" + b"".join(b"%d,a\n" % n for n in range(5)))
    small = BatchLimits(max_studies=1, max_files=3, max_bytes=1000)
    cases = [
        ([], {}, "Add one ZIP archive"),
        ([archive, pair[0]], {}, "not both at once"),
        ([archive], {"too_large": ["b_ct.png"]}, "not both at once"),
        ([*pair, put("x.csv"), put("y.csv")], {}, "more than one CSV manifest"),
        ([put("scan1.png")], {}, "There is no study"),
        ([put("x.csv", b"a,b\n1,2\n")], {}, "expected the columns study, ct, xray"),
        ([put("a_ct"), put("b_ct")], {"limits": small}, "2 studies, and this page answers 1"),
        ([put("a_ct")], {"limits": small, "manifest": manifest}, "5 studies"),
        ([put("a_ct")] * 4, {"limits": small}, "4 files, and this page takes 3"),
        ([put("a_ct", bytes(2**20))], {"limits": small}, "1 MB, and this page takes"),
        ([Upload(str(tmp_path / "swept"), "a_ct.png")], {}, GONE),
        ([write_zip(tmp_path / "up.zip", {"../a_ct.png": b"x"})], {}, "leads out of it"),
    ]
    for uploads, options, sentence in cases:
        with pytest.raises(CovidMMError) as caught:
            pair_uploads(uploads, **options)
        assert sentence in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_row_carries_evidence_reason_and_what_was_read(put):
    between = make_png(0.53, seed=1, size=(60, 120))
    files = [put("a_ct.png", between), put("a_xray.png", between), put("b_ct.png", make_flat(2))]
    abstaining, lungless = list(answer_studies(FakePredictor(), pair_uploads(files).studies))
    row = render_row(abstaining)
    assert "On hospitals never seen in training: AUC 0.93, sensitivity 87 %, specificity 84 %." in row
    assert "The probability lies between 48 % and 51 %, where the network was wrong too often" in row
    assert 'data-label="undetermined"' in row
    assert ">50 %<" in row
    assert "<b>50 %" not in row  # no class is named, so nothing is stressed
    assert row.count('style="--ratio:56/28"') == 2  # in the image's own proportions
    assert row.count('<svg class="mm-outline"') == 2
    row = render_row(lungless, "no X-ray: answered from the CT alone")
    assert "No lungs were found on the CT." in row
    assert "answered from" not in row
    assert "On hospitals never seen" not in row
    bare = dataclasses.replace(abstaining.prediction, evidence=None)
    assert "Not measured on hospitals never seen in training." in render_row(
        dataclasses.replace(abstaining, prediction=bare)
    )


def test_an_image_too_large_to_be_sent_is_its_studys_reason(put, dark):
    result = pair_uploads([put("a_xray.png", dark)], too_large=["a_ct.png"], image_limits=ImageLimits())
    (row,) = answer_studies(FakePredictor(), result.studies)
    assert "a_ct.png is larger than 20 MB" in row.error


@pytest.fixture
def rows() -> list[Row]:
    """An answer from both images, one from a single image with a hostile name, and an error."""
    predictor = FakePredictor()
    both = predictor.predict(make_png(0.8), make_png(0.1, seed=3))
    one = predictor.predict(make_png(0.8), None)
    return [
        Row("a", both, "", INFO, 0.1),
        Row("<b onclick=x>=1", one, "", INFO, 0.1),
        Row("c", None, "CT: the image is damaged.", INFO, 0.1),
    ]


def test_rows_are_escaped_well_formed_and_small(rows):
    for row in rows:
        shown = describe_row(row)
        ET.fromstring(shown["html"])
        assert "<b onclick" not in shown["html"]
        assert len(shown["html"]) < 20_000
        cells = next(csv.reader([shown["line"]]))
        assert len(cells) == len(COLUMNS)
    both, one, error = (
        render_row(row, remark) for row, remark in zip(rows, ("", "no X-ray", ""), strict=True)
    )
    assert "CT and X-ray disagree" in both
    assert both.count("<img") == 2
    assert "No X-ray" in one
    assert one.count("<img") == 1
    assert "CT: the image is damaged." in error
    assert "No answer" in error
    assert 'data-sort=""' in error  # comes last, however the table is sorted


def test_a_name_cannot_become_a_formula(rows):
    line = describe_row(dataclasses.replace(rows[2], study='=HYPERLINK("x")', error="+1"))["line"]
    cells = next(csv.reader([line]))
    assert cells[0].startswith("'=")
    assert cells[COLUMNS.index("error")].startswith("'+")


def test_tables_have_captions_header_cells_and_sort_buttons():
    study = Study("<i>", {}, error="There are 2 CT files.")
    pairing = Pairing((study,), (LeftOut("<x>", "no"),) * 60)
    html = render_pairing(pairing)
    ET.fromstring(html)
    assert "<i>" not in html
    assert "and 10 files more" in html
    assert "1 that cannot be answered; 60 files left out" in describe_pairing(pairing)
    head = render_run_head(3, INFO)
    root = ET.fromstring(str(head).replace("disabled>", "disabled=''>"))
    assert root.find(".//caption") is not None
    assert len(root.findall(".//th[@aria-sort='none']/button")) == 5
    assert all(cell.get("scope") == "col" for cell in root.iter("th"))


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [
        (0, 0.0, "0 of 40 studies done"),
        (20, 5.0, "20 of 40 studies done: 20 answered, 0 undetermined, 0 failed, a few seconds left"),
        (10, 20.0, "10 of 40 studies done: 10 answered, 0 undetermined, 0 failed, about 60 seconds left"),
        (4, 40.0, "4 of 40 studies done: 4 answered, 0 undetermined, 0 failed, about 6 minutes left"),
        (40, 9.0, "40 of 40 studies done: 40 answered, 0 undetermined, 0 failed"),
    ],
)
def test_progress_has_counts_and_time_left(done, seconds, text):
    assert describe_progress(["answered"] * done, 40, seconds) == text


def test_answered_are_only_studies_with_an_answer():
    outcomes = ["answered", "failed", "undetermined", "answered"]
    assert describe_progress(outcomes, 4, 1.0) == "4 of 4 studies done: 2 answered, 1 undetermined, 1 failed"


def test_the_style_sheet_knows_its_colours_and_has_no_selector_that_gradio_would_break():
    sheet = re.sub(r"/\*.*?\*/", "", read_asset("batch/batch.css"), flags=re.DOTALL)
    assert set(re.findall(r"--mm-([a-z-]+)", sheet)) <= set(LIGHT)
    assert not re.search(r":(is|where|not)\([^)]*,", sheet)


class SlowPredictor(FakePredictor):
    def predict(self, ct=None, xray=None, **options):
        time.sleep(0.1)
        return super().predict(ct, xray)


def pool(predictor: FakePredictor) -> PredictorPool:
    networks = PredictorPool({"fake": lambda: predictor})
    networks.choose()
    return networks


def test_a_run_yields_one_row_more_each_time_and_deletes_its_uploads(archive):
    seen = list(run_page(pool(FakePredictor()), ImageLimits(), BatchLimits(), [archive]))
    assert [len(one["rows"]) for one in seen] == [0, 1, 2, 3]
    assert "CT: the image is truncated" in seen[-1]["rows"][1]["html"]
    assert not Path(archive.path).exists()
    again = list(run_page(pool(FakePredictor()), ImageLimits(), BatchLimits(), [archive]))
    assert GONE in again[0]["html"]


def test_a_network_that_fails_within_a_run_ends_it_with_its_sentence(archive):
    class Broken(FakePredictor):
        def predict(self, ct=None, xray=None, **options):
            if self.calls:
                raise CheckpointError("The output is not a number.")
            return super().predict(ct, xray)

    seen = list(run_page(pool(Broken()), ImageLimits(), BatchLimits(), [archive]))
    assert [one["kind"] for one in seen] == ["run", "run", "run", "problem"]
    assert seen[-1]["sentence"] == "The output is not a number."
    assert not Path(archive.path).exists()


def test_a_cancelled_run_stops_between_two_studies_and_deletes_its_uploads(archive):
    predictor = FakePredictor()
    run = run_page(pool(predictor), ImageLimits(), BatchLimits(), [archive])
    next(run)
    next(run)
    run.close()
    assert predictor.calls == 1
    assert not Path(archive.path).exists()


def test_a_single_study_goes_between_two_of_a_batch(put, dark):
    uploads = [put(f"s{number}_ct.png", dark) for number in range(8)]
    networks = pool(SlowPredictor())
    done: list[int] = []
    run = threading.Thread(
        target=lambda: done.extend(
            len(one["rows"]) for one in run_page(networks, ImageLimits(), BatchLimits(), uploads)
        )
    )
    run.start()
    while not networks.lock.is_held:
        time.sleep(0.005)
    began = time.monotonic()
    with networks.lock.hold():
        waited = time.monotonic() - began
        busy = run.is_alive()
    run.join()
    assert busy
    assert waited < 0.4  # one study of the batch at most, not the eight
    assert done[-1] == 8


def test_the_lock_goes_by_rank_then_by_arrival():
    lock, order = PriorityLock(), []

    def work(name: str, rank: int) -> None:
        with lock.hold(rank):
            order.append(name)

    threads = []
    with lock.hold():
        for name, rank in (("batch 1", BATCH), ("batch 2", BATCH), ("single", 0)):
            threads.append(threading.Thread(target=work, args=(name, rank)))
            threads[-1].start()
            while lock.waiting < len(threads):
                time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert order == ["single", "batch 1", "batch 2"]


# The running server


@pytest.fixture
def client(server: LiveServer) -> Client:
    return Client(server.url, verbose=False)


def named(visitor: Visitor, data: bytes, name: str) -> dict:
    """An upload as the page sends it: without a name, which travels beside it."""
    return file_data(visitor.upload(data)["path"], name)


def test_the_api_takes_files_and_gives_the_designs_json(client, server, tmp_path, dark, bright):
    for name, data in (("a_ct", dark), ("a_xray", bright), ("b_ct", dark[:99]), ("other", dark)):
        (tmp_path / f"{name}.png").write_bytes(data)
    before = set(server.uploads)
    files = [handle_file(str(path)) for path in sorted(tmp_path.glob("*.png"))]
    result = client.predict(files=files, api_name="/batch")
    assert list(result) == ["studies", "left_out", "checkpoint"]
    a, b = result["studies"]
    fields = ["study", "label", "probabilities", "branches", "modalities", "warnings"]
    fields += ["lungs", "evidence", "scan", "error"]
    assert [list(a), list(b)] == [fields, fields]
    assert (a["study"], a["label"], a["error"]) == ("a", "undetermined", None)
    assert set(a["branches"]) == {"ct", "xray"}
    assert a["warnings"][0]["code"] == "branches_disagree"
    assert a["lungs"] == {"ct": list(LUNGS), "xray": list(LUNGS)}
    assert a["evidence"] == EVIDENCE["fused"].to_dict() | {"collections": ["east hospital", "west hospital"]}
    assert (b["lungs"], b["evidence"]) == ({}, None)
    assert (b["label"], b["probabilities"]) == (None, {})
    assert b["error"].startswith("CT: the image is truncated")
    assert result["left_out"] == [{"file": "other.png", "reason": "its name does not end in _ct or _xray"}]
    assert result["checkpoint"]["name"] == "fake-for-tests"
    json.dumps(result)
    assert set(server.uploads) <= before


def test_the_api_takes_one_zip_and_a_manifest_and_can_be_followed(client, tmp_path, archive):
    (tmp_path / "list.csv").write_text("study,ct,xray\nS1,a_ct.png,c_XRAY.png\nS2,,a_xray.png\n")
    job = client.submit(
        files=handle_file(archive.path), manifest=handle_file(str(tmp_path / "list.csv")), api_name="/batch"
    )
    result = job.result(timeout=120)
    assert [study["study"] for study in result["studies"]] == ["S1", "S2"]
    assert [len(part["studies"]) for part in job.outputs()] == [0, 1, 2]


def test_the_apis_errors_are_one_sentence(client, tmp_path):
    (tmp_path / "scan.png").write_bytes(b"x")
    with pytest.raises(AppError, match="There is no study among these files"):
        client.predict(files=[handle_file(str(tmp_path / "scan.png"))], api_name="/batch")
    link = {"path": "http://127.0.0.1:9/x_ct.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError):
        client.predict(files=[link], api_name="/batch")


def test_the_api_is_documented(client):
    info = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/batch"]
    assert "manifest" in info["description"]
    assert [part["parameter_name"] for part in info["parameters"]] == ["files", "manifest"]
    assert info["parameters"][1]["parameter_has_default"]


def test_names_are_the_visitors_own_and_nobody_elses(server, visitor, dark):
    other = Visitor(server.url)
    files = [named(visitor, dark, f"{MARK} Doe_{modality}.png") for modality in ("ct", "xray")]
    paired = visitor.ask("mm-batch-pair", [files, None])["output"]["data"][0]
    assert f"{MARK} Doe" in paired["html"]
    assert paired["ready"] is True
    done = visitor.ask("mm-batch-run", [files, None, None])["output"]["data"][0]
    assert [f"{MARK} Doe" in row["line"] for row in done["rows"]] == [True]
    assert next(csv.reader(io.StringIO(done["csv"]))) == list(COLUMNS)
    assert not any(Path(file["path"]).exists() for file in files)

    other.request("GET", "/config")
    other.ask("mm-batch-pair", [[named(other, dark, "x_ct.png")], None])
    assert MARK not in other.received
    assert MARK not in server.log
    assert not any(MARK in str(path) for path in server.uploads)


def test_two_runs_at_once_never_mix(server, dark, bright):
    visitors = [Visitor(server.url), Visitor(server.url)]
    answers: dict[int, dict] = {}

    def run(number: int) -> None:
        data = (dark, bright)[number]
        files = [named(visitors[number], data, f"v{number}-{index}_ct.png") for index in range(6)]
        answers[number] = visitors[number].ask("mm-batch-run", [files, None, None])["output"]["data"][0]

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, label in ((0, "normal"), (1, "covid19_pneumonia")):
        cells = list(csv.reader(row["line"] for row in answers[number]["rows"]))
        assert [cell[0] for cell in cells] == [f"v{number}-{index}" for index in range(6)]
        assert {cell[1] for cell in cells} == {label}
        assert f"v{1 - number}-" not in visitors[number].received


def test_foreign_paths_and_nonsense_are_refused(server, visitor, dark):
    stolen = [file_data("/etc/passwd", "a_ct.png")]
    assert visitor.ask("mm-batch-pair", [stolen, None])["success"] is False
    cached = [named(visitor, dark, None)]
    result = visitor.ask("mm-batch-pair", [cached, {"x": 1}])["output"]["data"][0]
    assert result["kind"] == "problem"
    visitor.ask("mm-batch-delete", [cached])
    assert not Path(cached[0]["path"]).exists()
    assert "root:" not in visitor.received
