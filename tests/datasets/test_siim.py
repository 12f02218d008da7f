"""SIIM-FISABIO-RSNA COVID-19 as Kaggle packs it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from covid_mm.datasets import find_collections, load_images
from covid_mm.datasets.siim import FILMS, IMAGES, STUDIES, is_siim, read_siim
from covid_mm.errors import DataError, ImageError
from covid_mm.imaging import read_frame

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))
from dicom_files import SECRET, film

STUDY_HEADER = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance"
IMAGE_HEADER = "id,boxes,label,StudyInstanceUID"
BOXES = (
    "\"[{'x': 4.0, 'y': 2.0, 'width': 10.0, 'height': 5.0}, {'x': 30, 'y': 12, 'width': 12, 'height': 9}]\""
)


@pytest.fixture
def siim(tmp_path: Path) -> Path:
    """Four studies of one film each, 20 rows x 40 columns, two of one patient."""
    folder = tmp_path / "siim-covid19-detection"
    studies = {"s1": "1,0,0,0", "s2": "0,1,0,0", "s3": "0,0,1,0", "s4": "0,0,0,1"}
    patients = {"s1": "ZZPHI-1", "s2": "ZZPHI-1", "s3": "ZZPHI-3", "s4": ""}
    for number, study in enumerate(studies, start=1):
        series = folder / FILMS / study / f"series{number}"
        series.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 4000, (20, 40), dtype=np.uint16)
        (series / f"i{number}.dcm").write_bytes(film(pixels, PatientID=patients[study]))
    rows = [f"{study}_study,{marks}" for study, marks in studies.items()]
    (folder / STUDIES).write_text("\n".join([STUDY_HEADER, *rows]) + "\n")
    boxes = {"s1": "", "s2": BOXES, "s3": BOXES, "s4": ""}
    rows = [f"i{n}_image,{boxes[f's{n}']},opacity 1 4 2 14 7,s{n}" for n in range(1, 5)]
    (folder / IMAGES).write_text("\n".join([IMAGE_HEADER, *rows]) + "\n")
    return folder


def test_labels_boxes_sites_and_patients(siim: Path) -> None:
    collection = find_collections(siim.parent)["xray"][0]
    assert (collection.name, collection.counts) == ("siim-covid19", (1, 1, 2))
    assert [image.label for image in collection.images] == [0, 1, None, None]
    assert collection.images[0].name == "siim-covid19-detection/train/s1/series1/i1.dcm"
    assert collection.images[1].boxes == (
        pytest.approx((0.1, 0.1, 0.35, 0.35)),
        pytest.approx((0.75, 0.6, 1.0, 1.0)),  # cut at the film's edge
    )
    assert collection.images[0].boxes == ()
    assert {image.site for image in collection.images} == {"20x40"}
    key = hashlib.sha256(b"ZZPHI-1").hexdigest()[:12]
    assert [image.patient == key for image in collection.images] == [True, True, False, False]
    assert collection.images[3].patient == ""
    assert [image.row for image in collection.images] == [2, 3, 4, 5]


def test_the_films_can_be_trained_on(siim: Path) -> None:
    dataset = find_collections(siim.parent)["xray"][0].to_dataset()
    images = load_images(dataset.records, size=32)
    assert images.shape == (2, 32, 32)
    assert images.std() > 0


@pytest.mark.parametrize(
    ("table", "before", "after", "where", "words"),
    [
        (STUDIES, "s2_study,0,1", "s2_study,1,1", [(STUDIES, 3), (IMAGES, 3)], "exactly one"),
        (IMAGES, "i2_image", "i9_image", [(IMAGES, 3)], "train/s2/*/i9.dcm is not there"),
        (IMAGES, "i2_image", "../i2_image", [(IMAGES, 3)], "letters and digits"),
        (IMAGES, ",s2", ",s9", [(IMAGES, 3)], "no label"),
        (IMAGES, "'width': 10.0", "'width': -1", [(IMAGES, 3), (IMAGES, 4)], "in pixels"),
        (IMAGES, "'height': 5.0", "'height': open", [(IMAGES, 3), (IMAGES, 4)], "in pixels"),
    ],
)
def test_problems_by_row(
    table: str, before: str, after: str, where: list[tuple[str, int]], words: str, siim: Path
) -> None:
    path = siim / table
    path.write_text(path.read_text().replace(before, after))
    problems = read_siim(siim)[1]
    assert [(part.file, part.problem.row) for part in problems] == where
    assert words in problems[0].problem.message
    with pytest.raises(DataError, match=f"siim-covid19-detection/{where[0][0]}, row 3"):
        find_collections(siim.parent)


def test_a_damaged_film_is_a_problem_that_says_nothing_of_the_patient(siim: Path) -> None:
    path = siim / FILMS / "s2" / "series2" / "i2.dcm"
    path.write_bytes(path.read_bytes()[:200])
    problems = read_siim(siim)[1]
    assert [(part.problem.row, part.problem.column) for part in problems] == [(3, "id")]
    assert "i2.dcm" in problems[0].problem.message
    path.write_bytes(b"no DICOM")
    assert len(read_siim(siim)[1]) == 1


def test_tables_that_are_malformed(siim: Path) -> None:
    (siim / IMAGES).write_text("id,label\n")
    with pytest.raises(DataError, match="no column boxes, StudyInstanceUID"):
        read_siim(siim)
    (siim / IMAGES).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        find_collections(siim.parent)
    (siim / IMAGES).unlink()
    assert not is_siim(siim)


def test_a_header_is_read_without_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    content = film(np.zeros((20, 40), np.uint16), PatientID="")
    path.write_bytes(content[:-1000])
    frame = read_frame(path)
    assert (frame.rows, frame.columns, frame.patient) == (20, 40, "")
    assert SECRET not in repr(frame)
    with pytest.raises(ImageError, match="is not there"):
        read_frame(tmp_path / "absent.dcm")
