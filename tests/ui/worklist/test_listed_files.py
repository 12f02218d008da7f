"""The files of a list's studies: kept for its own visitor, within a limit, and gone with the study or the list."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_predictor import FakePredictor
from live_server import LiveServer
from made_clock import Clock
from scan_files import chest_hu, nifti_file, series_files
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_worklist_routes import Owner

from covid_mm.config import ImageLimits
from covid_mm.errors import UsageError
from covid_mm.serving.batch import answer_studies
from covid_mm.serving.pairing import ImageFile, make_study, on_disk
from covid_mm.ui.page import answer_page
from covid_mm.ui.predictors import PredictorPool
from covid_mm.ui.server.upload_folder import count_bytes
from covid_mm.ui.study.analysis import delete_uploads
from covid_mm.ui.study.events import download_page, explain_page
from covid_mm.ui.viewer.events import frames_page
from covid_mm.ui.worklist.files import FileKeeper
from covid_mm.ui.worklist.panel import BatchRows, SessionStudies, find_listed
from covid_mm.ui.worklist.routes import make_routes
from covid_mm.ui.worklist.store import WorklistLimits, WorklistStore
from covid_mm.ui.worklist.studies import ListedStudy
from covid_mm.ui.worklist.view import describe_files

ONE, TWO = "1" * 64, "2" * 64
LIMITS = ImageLimits()


@pytest.fixture
def keeper(tmp_path) -> FileKeeper:
    return FileKeeper(tmp_path / "studies")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(keeper, clock) -> WorklistStore:
    limits = WorklistLimits(studies=4, visitor_bytes=65_000, visitor_file_bytes=2500, total_file_bytes=4000)
    opened = WorklistStore(limits, clock, keeper=keeper)
    opened.open(ONE, "tab", "session")
    opened.open(TWO, "tab", "other")
    return opened


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def add(store: WorklistStore, size: int, session: str = "session", **values: object) -> int:
    files = store.keeper.keep({"ct": [bytes(size)]}) if store.keeper else None
    return store.add(session, ListedStudy(files=files, **values))  # type: ignore[arg-type]


def has_files(store: WorklistStore, token: str = ONE) -> list[bool]:
    return [study.files is not None for study in store.list_changes(token, 0)[2]]


def test_uploads_are_linked_and_what_fails_leaves_nothing(keeper, tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(b"pixels")
    files = keeper.keep({"ct": [str(upload), b"more"], "xray": [b"film"]})
    assert [Path(path).read_bytes() for path in files.paths["ct"]] == [b"pixels", b"more"]
    assert sum(files.sizes.values()) == 14
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert count_bytes(tmp_path) == 14  # the link takes no room
    upload.unlink()
    assert Path(files.paths["ct"][0]).read_bytes() == b"pixels"
    files.delete()
    assert keeper.keep({"ct": [str(upload)]}) is None
    assert keeper.keep({"ct": [bytes(10)], "xray": [bytes(10)]}, most=19) is None
    assert keeper.keep({}) is None
    assert list((tmp_path / "studies").iterdir()) == []


def test_the_oldest_files_go_first_of_a_list_then_of_all(store, clock):
    for _ in range(3):
        add(store, 1000)
    assert has_files(store) == [False, True, True]
    with pytest.raises(UsageError, match="make room for newer ones"):
        store.read_files(1, session="session")
    clock.now += 1
    for _ in range(3):
        add(store, 1000, "other")
    assert has_files(store, TWO) == [False, True, True]
    assert has_files(store) == [False, True, True]
    store.limits = WorklistLimits(visitor_file_bytes=2500, total_file_bytes=3500)
    add(store, 1000, "other")
    assert (has_files(store), has_files(store, TWO)) == ([False, False, True], [False, False, True, True])


def test_a_file_of_two_studies_counts_once(store, tmp_path):
    (tmp_path / "upload").write_bytes(bytes(2000))
    for _ in range(3):
        files = store.keeper.keep({"ct": [str(tmp_path / "upload")]})
        store.add("session", ListedStudy(files=files))
    assert has_files(store) == [True] * 3


def test_files_go_with_the_study_the_list_and_the_pictures(store, clock, tmp_path):
    folder = tmp_path / "studies"
    for _ in range(2):
        add(store, 10)
    store.delete(ONE, [1])
    assert len(list_names(folder)) == 1
    store.forget(ONE)
    assert list_names(folder) == []
    assert add(store, 10) == 0  # of a session without a list
    assert list_names(folder) == []
    add(store, 10, "other", packed=bytes(40_000))
    add(store, 10, "other", packed=bytes(40_000))  # too much: the first can no longer be opened
    assert has_files(store, TWO) == [False, True]
    for _ in range(4):
        add(store, 10, "other")
    assert len(list_names(folder)) == 4  # as many studies as a list has
    clock.now += 1801
    store.expire()
    assert list(folder.iterdir()) == []


def test_what_reading_writes_beside_files_is_counted(store):
    add(store, 1000)
    add(store, 1000)
    files, _ = store.read_files(2, session="session")
    (files.folder / "ct-0.scan-x.npy").write_bytes(bytes(600))
    store.measure_read_files()
    assert has_files(store) == [False, True]
    store.measure_read_files()
    assert has_files(store) == [False, True]


def test_a_scan_of_the_list_gives_slices_maps_and_downloads_to_its_own_session(keeper, tmp_path, dark):
    predictor = FakePredictor()
    predictor.scan_delay = 0.0
    networks = PredictorPool({predictor.info.name: lambda: predictor})
    store = WorklistStore(clock=Clock(), keeper=keeper)
    for token, session in ((ONE, "session"), (TWO, "other")):
        store.open(token, "tab", session)
    volume = chest_hu(8, 48) + (np.arange(8) * 40).astype(np.int16)[:, None, None]
    paths = []
    for number, data in enumerate([*series_files(volume), dark]):
        paths.append(str(tmp_path / f"u{number}"))
        Path(paths[-1]).write_bytes(data)
    ct, xray = tuple(paths[:-1]), paths[-1]
    slices = {"ct": {"window": "mediastinum", "frame": 3, "series": 0}}
    answer_page(networks, LIMITS, ct, xray, None, slices, listed=SessionStudies(store, "session"))
    delete_uploads(ct, xray)

    (study,) = store.list_changes(ONE, 0)[2]
    assert describe_files(study) == {"ct": {"window": "mediastinum", "frame": 3, "series": 0}, "xray": {}}
    listed = partial(find_listed, store)
    own = {"listed": listed, "session": "session"}
    asked = {"listed": 1, "number": 5}
    frames = frames_page(LIMITS, None, None, asked | {"modality": "ct", "frames": [2, 7]}, **own)
    assert (frames["count"], list(frames["pictures"]), frames["number"]) == (8, ["2", "7"], 5)
    assert frames["pictures"]["2"]["width"] == 48
    film = frames_page(LIMITS, None, None, asked | {"modality": "xray"}, **own)
    assert film["count"] == 1
    method = {"method": "layer_cam", "layer": "fine", "slice": 4}
    *_, maps = explain_page(networks, LIMITS, None, None, "no such network", None, asked | method, **own)
    assert sorted(maps["maps"]) == ["ct", "xray"]
    assert maps["slice"]["index"] == 4
    saved = {"modality": "xray", "opacity": 0.5}
    assert "url" in download_page(networks, LIMITS, None, None, None, None, asked | saved, **own)

    for session in ("other", None):
        foreign = {"listed": listed, "session": session}
        given = frames_page(LIMITS, None, None, asked | {"modality": "ct"}, **foreign)
        assert "pictures" not in given
        *_, given = explain_page(networks, LIMITS, None, None, None, None, asked, **foreign)
        assert "maps" not in given
    store.delete(ONE, [1])
    given = frames_page(LIMITS, None, None, asked | {"modality": "ct"}, **own)
    assert "no longer in the list" in given["error"]
    assert list_names(tmp_path / "studies") == []


def test_rows_of_a_batch_keep_uploads_and_what_a_zip_held(keeper, tmp_path, bright, dark):
    store = WorklistStore(clock=Clock(), keeper=keeper)
    store.open(ONE, "tab", "session")
    rows = BatchRows(store)
    (tmp_path / "upload").write_bytes(bright)
    given = {"ct": on_disk("a_ct.png", tmp_path / "upload"), "xray": ImageFile("a_xray.png", lambda: dark)}
    studies = [make_study("a", {m: [file] for m, file in given.items()}), make_study("b", {})]
    run = rows.begin_run("session")
    for study, row in zip(studies, answer_studies(FakePredictor(), studies), strict=True):
        rows.keep("session", run, row, {}, study.files)
    first, second = store.list_changes(ONE, 0)[2]
    assert second.files is None
    assert [Path(first.files.paths[m][0]).read_bytes() for m in ("ct", "xray")] == [bright, dark]


def test_a_batchs_scan_has_thumbnails_when_it_is_opened(keeper, tmp_path):
    store = WorklistStore(clock=Clock(), keeper=keeper)
    store.open(ONE, "tab", "session")
    (tmp_path / "upload").write_bytes(nifti_file(chest_hu(12, 48)))
    predictor = FakePredictor()
    predictor.scan_delay = 0.0
    study = make_study("a", {"ct": [on_disk("a_ct.nii", tmp_path / "upload")]})
    (row,) = answer_studies(predictor, [study])
    rows = BatchRows(store)
    number = rows.keep("session", rows.begin_run("session"), row, {}, study.files)
    asked = {"token": ONE, "action": "study", "number": number}
    with TestClient(Starlette(routes=make_routes(store))) as client:
        opened = client.post("/worklist", json=asked).json()
        assert "mm-series-thumbnails" in opened["html"]
        assert opened["files"] == {"ct": {}}
        store.measure_read_files()
        (listed,) = store.list_changes(ONE, 0)[2]
        assert len(listed.files.sizes) == 3  # the file, its slices as numbers, and what they are
        listed.files.delete()
        again = client.post("/worklist", json=asked)
        assert (again.status_code, "mm-series-thumbnails" in again.json()["html"]) == (200, False)


def test_a_study_whose_files_are_gone_says_so(keeper, tmp_path, dark):
    limits = WorklistLimits(visitor_file_bytes=len(dark) - 1)
    store = WorklistStore(limits, Clock(), keeper=keeper)
    store.open(ONE, "tab", "session")
    (tmp_path / "upload").write_bytes(dark)
    networks = PredictorPool({"fake": FakePredictor})
    listed = SessionStudies(store, "session")
    answer_page(networks, LIMITS, None, str(tmp_path / "upload"), listed=listed)
    with TestClient(Starlette(routes=make_routes(store))) as client:
        opened = client.post("/worklist", json={"token": ONE, "action": "study", "number": 1}).json()
    assert opened["files"] is None
    assert "had to make room for newer ones" in opened["html"]
    assert "mm-layer" in opened["html"]
    assert list_names(tmp_path / "studies") == []


def test_no_address_serves_a_kept_file(server: LiveServer, dark):
    owner = Owner(server.url)
    owner.analyse(None, dark)
    kept = server.kept
    assert [path.name for path in kept if path.read_bytes() == dark] != []
    for path in kept:
        for address in (f"/gradio_api/file={path}", f"/file={path}", f"/gradio_api/proxy={path}"):
            assert owner.request("GET", address).status_code in (401, 403, 404, 405)
        # nor does an event take its path in place of an upload
        reply = owner.join(owner.find_event("mm-frames"), [None, {"path": str(path)}, {"modality": "xray"}])
        if reply.status_code == 200:
            assert not owner.listen()["success"]
    owner.post("delete", numbers=[1])
    assert len(set(kept) - set(server.kept)) == 1
