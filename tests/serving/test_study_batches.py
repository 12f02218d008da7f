"""Studies answered in batches: each as it is alone, in order, one bad file one row, few read ahead."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from answerers import FakeAnswerer
from fake_predictor import FakePredictor
from made_images import make_png
from made_lungs import make_lungs_predictor
from scan_files import chest_hu, nifti_file
from toy_networks import PAIR, grey_images, make_network, toy_backbones

from covid_mm.config import MODALITIES
from covid_mm.errors import CheckpointError, ImageError
from covid_mm.serving.batch import COLUMNS, answer_studies
from covid_mm.serving.pairing import ImageFile, Study, on_disk
from covid_mm.serving.scan_files import read_files
from covid_mm.serving.study_batches import AHEAD, BATCH, ReadAhead, answer_in_batches


def study(name: str, **images: bytes) -> Study:
    return Study(
        name, {m: ImageFile(f"{name}_{m}.png", lambda data=data: data) for m, data in images.items()}
    )


def list_cells(rows) -> list[list[str]]:
    """All but what differs from run to run."""
    return [
        [cell for name, cell in zip(COLUMNS, row.to_cells(), strict=True) if name != "seconds"]
        for row in rows
    ]


def test_rows_are_in_order_and_a_bad_file_is_one_of_them():
    images = [make_png(level) for level in (0.2, 0.8)]
    studies = [study(f"s{number:03d}", xray=images[number % 2]) for number in range(BATCH + 3)]
    studies[4] = study("bad", ct=images[0][:40])
    studies[9] = Study("twice", {}, error="There are 2 CT files for this study; keep one.")
    answerer = FakeAnswerer()
    rows = list(answer_in_batches(answerer, iter(studies)))
    assert [row.study for row in rows] == [one.name for one in studies]
    assert list_cells(rows) == list_cells(answer_studies(FakePredictor(), studies))
    assert [row.study for row in rows if row.error] == ["bad", "twice"]
    assert answerer.batches == [BATCH - 2, 3]
    assert all(row.seconds > 0 for row in rows if not row.error)


def test_batches_are_answered_beside_each_other_and_rows_stay_in_order():
    together = threading.Barrier(3, timeout=60)

    class Meeting(FakeAnswerer):
        """Answers when three batches are there; the first one last."""

        def predict_batch(self, studies):
            together.wait()
            if studies[0]["xray"].grey.mean() < 100:
                time.sleep(0.3)
            return super().predict_batch(studies)

    studies = [study(f"s{number}", xray=make_png(0.1 if number < 2 else 0.8)) for number in range(6)]
    rows = list(answer_in_batches(Meeting(), studies, size=2, at_once=3))
    assert [row.study for row in rows] == [one.name for one in studies]
    assert list_cells(rows) == list_cells(answer_studies(FakePredictor(), studies))


def test_at_most_so_many_batches_are_under_way():
    under_way, most, lock = 0, 0, threading.Lock()

    class Counting(FakeAnswerer):
        def predict_batch(self, studies):
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.05)
            with lock:
                under_way -= 1
            return super().predict_batch(studies)

    studies = [study(str(number), xray=make_png(0.5)) for number in range(12)]
    assert len(list(answer_in_batches(Counting(), studies, size=1, at_once=2))) == 12
    assert most == 2


def test_what_the_batch_chokes_on_is_a_row_and_the_others_are_answered(caplog):
    class Choking(FakeAnswerer):
        def predict_images(self, files, **options):
            if files["xray"].grey.mean() < 100:
                raise OSError("cannot open /planted/path")
            return super().predict_images(files, **options)

    studies = [study(str(number), xray=make_png(level)) for number, level in enumerate((0.8, 0.1, 0.9))]
    rows = list(answer_in_batches(Choking(), studies))
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert "/planted" not in rows[1].error
    assert "/planted" in caplog.text


def test_a_network_that_cannot_answer_ends_the_run():
    class Broken(FakeAnswerer):
        def predict_batch(self, studies):
            raise CheckpointError("not a number")

    for at_once in (1, 3):
        with pytest.raises(CheckpointError):
            list(answer_in_batches(Broken(), [study("x", xray=make_png(0.5))] * 5, size=1, at_once=at_once))


def test_few_studies_are_read_before_they_are_needed():
    begun, lock = [], threading.Lock()

    def read(files):
        with lock:
            begun.append(files["xray"].name)
        raise ImageError("The image is damaged.")

    studies = (study(str(number), xray=b"") for number in range(10 * AHEAD))
    with ReadAhead(studies, read, threads=2) as reading:
        names = [one.study.name for one, _ in zip(reading, range(5), strict=False)]
    assert names == ["0", "1", "2", "3", "4"]
    assert len(begun) <= AHEAD + 5


def test_large_images_wait_until_they_are_needed(monkeypatch):
    monkeypatch.setattr("covid_mm.serving.study_batches.PIXELS_AHEAD", 10_000)  # of 9,216 pixels each
    sizes = []
    with ReadAhead(
        [study(str(number), xray=make_png(0.5)) for number in range(12)], read_files, threads=3
    ) as reading:
        for one in reading:
            sizes.append(reading.waiting)
            assert one.error == ""
    assert len(sizes) == 12
    assert max(sizes) <= 10_000 + 3 * 9_216


class DyingProcess:
    """Decodes here, but for a film of one colour: what decodes it ends, as one that needs too much memory does."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def run(self, function, sources):
        self.calls.append([*sources])
        if DEADLY in sources.values():
            raise ImageError("The image could not be read.")
        return function(sources)


DEADLY = make_png(0.3)


def test_a_studys_files_are_decoded_in_one_call():
    process = DyingProcess()
    images = read_files(study("x", ct=make_png(0.2), xray=make_png(0.8)).files, process.run)
    assert process.calls == [["ct", "xray"]]
    assert images["ct"].grey.mean() < images["xray"].grey.mean()


def test_the_file_that_ends_what_decodes_is_named():
    process = DyingProcess()
    with pytest.raises(ImageError, match=r"^X-ray: the image could not be read"):
        read_files(study("x", ct=make_png(0.2), xray=DEADLY).files, process.run)
    assert process.calls == [["ct", "xray"], ["ct"], ["xray"]]


def test_one_file_is_not_tried_twice():
    process = DyingProcess()
    with pytest.raises(ImageError, match=r"^X-ray: the image could not be read"):
        read_files(study("x", xray=DEADLY).files, process.run)
    assert process.calls == [["xray"]]


def test_a_damaged_file_is_named_once():
    process = DyingProcess()
    with pytest.raises(ImageError, match=r"^X-ray: (?!.*X-ray:)"):
        read_files(study("x", ct=make_png(0.2), xray=make_png(0.8)[:40]).files, process.run)
    assert process.calls == [["ct", "xray"]]


@pytest.mark.usefixtures("small_backbones")
def test_a_batch_says_of_each_study_what_the_network_says_of_it_alone(tmp_path: Path):
    with toy_backbones():
        predictor = make_lungs_predictor(make_network(PAIR, head_width=16, seed=1))
    studies = []
    for number, grey in enumerate(grey_images(11, 180, seed=5).astype(np.uint8)):
        given = [m for m in MODALITIES if number % 3 != list(MODALITIES).index(m)]
        files = {}
        for m in given:
            path = tmp_path / f"{number}_{m}.png"
            path.write_bytes(_png(grey if number % 5 else np.zeros_like(grey)))
            files[m] = on_disk(path.name, path)
        studies.append(Study(str(number), files))
    scan = tmp_path / "scan.nii"
    scan.write_bytes(nifti_file(chest_hu(4, side=64)))
    studies.insert(3, Study("scan", {"ct": on_disk(scan.name, scan)}))
    together = list_cells(answer_in_batches(predictor, studies))
    assert together == list_cells(answer_studies(predictor, studies))
    assert len({tuple(cells[1:]) for cells in together}) > 4


def _png(grey) -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()
