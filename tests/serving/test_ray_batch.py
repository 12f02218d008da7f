"""A batch on Ray: row for row what one process gives, whatever dies; shards that are written once."""

from __future__ import annotations

import csv
import dataclasses
import os
import random
import signal
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from answerers import FakeAnswerer, load_toy
from fake_predictor import INFO
from made_images import make_png
from scan_files import zip_files
from toy_checkpoint import publish_toy
from toy_networks import toy_backbones

from covid_mm.errors import CheckpointError, DataError, ImageError, UsageError
from covid_mm.imaging import WindowSettings
from covid_mm.serving.batch import COLUMNS, ResultFile, Row
from covid_mm.serving.metadata import read_metadata
from covid_mm.serving.pairing import Study
from covid_mm.serving.prediction import ScanAnswer, SliceAnswer
from covid_mm.serving.study_batches import answer_in_batches
from covid_mm.serving.study_source import StudySource

ray = pytest.importorskip("ray")
pq = pytest.importorskip("pyarrow.parquet")

from covid_mm.serving import ray_batch  # noqa: E402
from covid_mm.serving.ray_batch import RaySettings, answer_on_ray  # noqa: E402
from covid_mm.serving.result_shards import SCHEMA, ShardFolder, make_table  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Forty studies, of which one film is damaged; three have no CT."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        level = 0.1 + 0.02 * number
        (folder / f"s{number:02d}_xray.png").write_bytes(make_png(level, seed=number))
        if number % 13:
            (folder / f"s{number:02d}_ct.png").write_bytes(make_png(1.0 - level, seed=number + 100))
    (folder / "s07_xray.png").write_bytes(make_png(0.5)[:40])
    return folder


@pytest.fixture
def cluster(monkeypatch):
    """`cluster(4)`: Ray on this machine with so many processors, real or not."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where workers find what the tests import

    def start(cpus: int) -> None:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=200 * 2**20,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )

    yield start
    ray.shutdown()


def read_cells(path: Path) -> list[dict[str, str]]:
    """All but what differs from run to run."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


def answer_here(source: StudySource, answerer, output: Path) -> list[dict[str, str]]:
    """By one process."""
    with ResultFile(output, answerer.info) as file:
        for row in answer_in_batches(answerer, source.find_work().studies()):
            file.append(row)
    return read_cells(output)


def answer_there(source, load, output, info=INFO, *, retry=False, **settings) -> tuple[int, Counter[str]]:
    """On Ray: how many were answered now, and the labels of all."""
    work = source.find_work()
    with ShardFolder(output, info, retry=retry) as shards:
        answered = answer_on_ray(source, work.studies(), load, shards, RaySettings(cpus=1, **settings))
        return answered, shards.commit(work.studies())


def test_a_cluster_gives_what_one_process_gives_and_goes_on_where_it_stopped(
    images, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_batch, "BLOCK", 8)
    source, output = StudySource(str(images)), tmp_path / "there.csv"
    expected = answer_here(source, FakeAnswerer(), tmp_path / "here.csv")
    cluster(2)
    run = partial(answer_there, source, FakeAnswerer, output, shard=10)
    answered, labels = run()
    assert answered == labels.total() == 40
    assert read_cells(output) == expected
    assert [row["study"] for row in expected if row["error"]] == ["s07"]
    table = pq.read_table(output.with_suffix(".parquet"))
    assert table.schema.equals(SCHEMA)
    assert table.column_names == list(COLUMNS)
    assert table["study"].to_pylist() == [row["study"] for row in expected]
    assert run()[0] == 0  # no worker is asked then
    first = min(output.with_suffix(".shards").glob("*.parquet"))
    lost = pq.read_table(first).num_rows
    first.unlink()
    answered, _ = run(retry=True)  # with the damaged one, whose older row is not doubled
    assert lost <= answered <= lost + 1 < 40
    assert read_cells(output) == expected


@pytest.mark.slow
def test_manifests_and_archives_too(images, cluster, tmp_path):
    names = [f"s{number:02d}" for number in range(1, 9)]
    rows = [f"{name},{name}_ct.png,{name}_xray.png\n" for name in [*names, names[0]]]
    (tmp_path / "list.csv").write_text("study,ct,xray\n" + "".join(rows))
    members = {path.name: path.read_bytes() for path in sorted(images.iterdir())[:18]}
    (tmp_path / "all.zip").write_bytes(zip_files(members))
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
    cluster(2)
    for name in ("list.csv", "all.zip"):
        source = StudySource(str(tmp_path / name))
        alone = answer_here(source, FakeAnswerer(), tmp_path / f"{name}-here.csv")
        answer_there(source, FakeAnswerer, tmp_path / f"{name}-there.csv")
        assert read_cells(tmp_path / f"{name}-there.csv") == alone


def test_files_by_url_and_parquet_manifests_name_the_same_studies(images, tmp_path):
    import fsspec
    import pyarrow as pa

    local = [study.name for study in StudySource(str(images)).find_work().studies()]
    url = StudySource(f"file://{images}")
    studies = list(url.find_work().studies())
    assert [study.name for study in studies] == local
    assert studies[0].files["xray"].read() == (images / "s00_xray.png").read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a_xray.png", b"film")
    memory.pipe(
        "/bucket/list.csv", b"study,xray\na,a_xray.png\nb,memory://bucket/a_xray.png\nc,missing.png\n"
    )
    one, two, three = StudySource("memory://bucket/list.csv").find_work().studies()
    assert one.files["xray"].read() == two.files["xray"].read() == b"film"
    with pytest.raises(ImageError, match="not there"):
        three.files["xray"].read()
    path = images / "list.parquet"
    pq.write_table(
        pa.table({"study": ["x", "y"], "xray": ["s00_xray.png", None], "label": ["normal", ""]}), path
    )
    first, second = StudySource(str(path)).find_work().studies()
    path.unlink()
    assert first.truth == "normal"
    assert first.files["xray"].read() == (images / "s00_xray.png").read_bytes()
    assert "names no image" in second.error
    for wrong in ("memory://nothing", "nosuch://x/y"):
        with pytest.raises((DataError, UsageError)):
            StudySource(wrong).find_work()


def test_shards_of_others_are_refused(tmp_path, images):
    studies = StudySource(str(images)).find_work().studies
    output = tmp_path / "out.csv"
    output.write_text("mine")
    with pytest.raises(UsageError, match="not written with --engine ray"), ShardFolder(output, INFO):
        pass
    output.unlink()
    with pytest.raises(UsageError, match=r"expected \.csv"), ShardFolder(tmp_path / "out", INFO):
        pass
    with ShardFolder(output, INFO) as shards:
        with pytest.raises(UsageError, match="another run"), ShardFolder(output, INFO):
            pass
        with pytest.raises(DataError, match="40 of 40 studies have no row"):
            shards.commit(studies())
        (shards.folder / "torn.parquet").write_bytes(b"PAR1")
        with pytest.raises(UsageError, match="damaged"):
            shards.read_done()
    assert not output.exists()


def test_a_shard_keeps_every_cell_of_the_csv(tmp_path):
    scan = ScanAnswer(
        (SliceAnswer(0, None, True, 0.7, True), SliceAnswer(1, 2.5, False, None)),
        0,
        WindowSettings(-600, 1500),
    )
    prediction = FakeAnswerer().predict(ct=make_png(0.4), xray=make_png(0.9))
    rows = [
        Row("=a", dataclasses.replace(prediction, scan=scan), "", INFO, 1.25),
        Row("b", prediction, "", INFO, 0.001),
        Row("c", None, "The image is damaged.", INFO, 0.0),
    ]
    assert prediction.warnings
    output = tmp_path / "out.csv"
    with ShardFolder(output, INFO) as shards:
        shards.write(make_table((row, 0) for row in rows))
        shards.commit(Study(row.study, {}) for row in rows)
    with output.open(newline="") as file:
        assert list(csv.reader(file)) == [list(COLUMNS), *(row.to_cells() for row in rows)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_networks_on_workers_answer_as_in_one_process(images, cluster, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(ray_batch, "BLOCK", 4)
    checkpoint = tmp_path / "toy"
    with toy_backbones():
        publish_toy(checkpoint)
    source = StudySource(str(images))
    expected = answer_here(source, load_toy(checkpoint), tmp_path / "here.csv")
    cluster(workers)
    info = read_metadata(checkpoint).info
    output = tmp_path / "there.csv"
    answer_there(source, partial(load_toy, checkpoint), output, info, networks=max(1, workers - 2), shard=7)
    assert read_cells(output) == expected


@pytest.mark.slow
def test_a_network_that_cannot_answer_ends_the_run_with_its_sentence(images, cluster, tmp_path):
    cluster(2)
    with pytest.raises(CheckpointError, match="is not there"):
        answer_there(StudySource(str(images)), _load_nothing, tmp_path / "out.csv")


def _load_nothing():
    raise CheckpointError("The checkpoint is not there; name another folder.")


@pytest.mark.slow
def test_workers_and_actors_that_die_lose_nothing_and_double_nothing(images, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_batch, "BLOCK", 4)
    names = sorted(images.glob("*_xray.png"))
    lines = [f"n{number:03d},{names[number % len(names)]}\n" for number in range(320)]
    manifest = tmp_path / "list.csv"
    manifest.write_text("study,xray\n" + "".join(lines))
    source = StudySource(str(manifest))
    expected = answer_here(source, FakeAnswerer(), tmp_path / "here.csv")
    cluster(4)
    killed: list[str] = []
    ended = threading.Event()

    def kill() -> None:
        chance = random.Random(7)
        while len(killed) < 10 and not ended.wait(chance.uniform(0.2, 1.5)):
            victims = list_workers()
            # an actor and a reader in turn, as far as there are any at that moment
            actors = [one for one in victims if "AnswerBlocks" in one[1]]
            others = [one for one in victims if "read_block" in one[1] or "Write" in one[1]]
            pool = (actors or others) if len(killed) % 2 else (others or actors)
            if pool:
                pid, title = chance.choice(pool)
                os.kill(pid, signal.SIGKILL)
                killed.append(title)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        output = tmp_path / "there.csv"
        answer_there(source, partial(FakeAnswerer, 0.15), output, networks=2, shard=25)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 10, killed
    assert any("AnswerBlocks" in title for title in killed)
    assert read_cells(output) == expected
    rows = [
        study
        for path in output.with_suffix(".shards").glob("*.parquet")
        for study in pq.read_table(path)["study"].to_pylist()
    ]
    assert sorted(rows) == [row["study"] for row in expected]  # in the shards too


def list_workers() -> list[tuple[int, str]]:
    """Processes of this test's own cluster that are at work, with their titles."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                titles[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])

    def is_ours(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return [(pid, title) for pid, title in titles.items() if title.startswith("ray::") and is_ours(pid)]
