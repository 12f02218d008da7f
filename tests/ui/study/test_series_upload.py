"""What lies in a slot: one file, or a series of which one slice is read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "imaging"))
from dicom_files import ct_slice

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.ui.study import images
from covid_mm.ui.study.images import list_paths, read_slot
from covid_mm.ui.study.slot_choice import SliceChoice

LIMITS = ImageLimits()
TITLE = "CT slice"


@pytest.fixture
def series(tmp_path) -> tuple[str, ...]:
    """Three slices of -800, 0 and 900 HU, given from last to first."""
    paths = []
    for number, level in enumerate([-800, 0, 900]):
        path = tmp_path / f"{number}"
        path.write_bytes(
            ct_slice(
                np.full((32, 32), level, np.int16),
                SeriesInstanceUID="1.2.3",
                ImagePositionPatient=[0, 0, 7.0 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )
        )
        paths.append(str(path))
    return tuple(reversed(paths))


def test_one_file_is_itself(series):
    data, choice = read_slot(series[0], TITLE, LIMITS, SliceChoice("lung", 0))
    assert data == Path(series[0]).read_bytes()
    assert choice == SliceChoice("lung", 0)
    assert list_paths(None) == ()
    assert list_paths("a") == ("a",)


@pytest.mark.parametrize(("frame", "number"), [(0, 0), (1, 1), (2, 2), (None, 0)])
def test_a_slice_is_found_by_its_place(series, frame, number):
    """Without a choice the slice with the most lung, which is the first."""
    data, choice = read_slot(series, TITLE, LIMITS, SliceChoice("lung", frame))
    assert data == (Path(series[0]).parent / str(number)).read_bytes()
    assert choice == SliceChoice("lung", 0)


def test_what_cannot_be_is_one_sentence(series, tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="there is no slice 4"):
        read_slot(series, TITLE, LIMITS, SliceChoice(None, 3))
    with pytest.raises(ImageError, match="no longer kept"):
        read_slot((*series, str(tmp_path / "gone")), TITLE, LIMITS, SliceChoice())
    (tmp_path / "text").write_text("no image")
    with pytest.raises(ImageError, match="file 2 of 2 is not DICOM"):
        read_slot((series[0], str(tmp_path / "text")), TITLE, LIMITS, SliceChoice())
    monkeypatch.setattr(images, "MAX_SERIES_FILES", 2)
    with pytest.raises(ImageError, match="may have 2"):
        read_slot(series, TITLE, LIMITS, SliceChoice())
    monkeypatch.setattr(images, "MAX_SERIES_FILES", 10)
    monkeypatch.setattr(images, "MAX_SERIES_BYTES", 4000)
    with pytest.raises(ImageError, match="larger than"):
        read_slot(series, TITLE, LIMITS, SliceChoice())
