from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from trees import write_image

from covid_mm.datasets import ImageRecord, check_readable, load_images
from covid_mm.errors import DataError
from covid_mm.imaging import read_image


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    return [
        ImageRecord(write_image(tmp_path / "images" / f"{number}.png", number), "ct", 0, f"{number}.png")
        for number in range(8)
    ]


def test_images_are_those_that_serving_reads(records: list[ImageRecord]) -> None:
    images = load_images(records)
    assert images.shape == (8, 150, 150)
    assert images.dtype == np.float32
    for image, record in zip(images, records, strict=True):
        np.testing.assert_array_equal(image, read_image(record.path)[:, :, 0])
    assert load_images(records[:2], size=32).shape == (2, 32, 32)
    assert load_images([]).shape == (0, 150, 150)


def test_five_bad_files_are_five_names_in_one_error(records: list[ImageRecord]) -> None:
    records[0].path.write_bytes(b"")
    records[2].path.write_bytes(records[2].path.read_bytes()[:60])
    records[3].path.write_text("a text")
    records[5].path.unlink()
    records[7].path.write_bytes(b"GIF89a")
    for read in (check_readable, load_images):
        with pytest.raises(DataError, match="5 images can't be read") as caught:
            read(records)
        message = str(caught.value)
        assert [f"{number}.png" in message for number in range(8)] == [
            True,
            False,
            True,
            True,
            False,
            True,
            False,
            True,
        ]
        assert str(records[0].path.parent) not in message


def test_readable_files_pass(records: list[ImageRecord]) -> None:
    assert check_readable(record for record in records) is None


def test_the_cache_gives_the_same_and_is_used(
    records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    images = load_images(records, size=20, cache=cache)
    assert len(list(cache.iterdir())) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("covid_mm.datasets.store.read_grey", refuse)
    np.testing.assert_array_equal(load_images(records, size=20, cache=cache), images)


def test_the_cache_is_left_aside_after_any_change(records: list[ImageRecord], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    images = load_images(records, size=20, cache=cache)
    assert load_images(records, size=24, cache=cache).shape == (8, 24, 24)
    np.testing.assert_array_equal(load_images(records[::-1], size=20, cache=cache), images[::-1])
    write_image(records[1].path, 99)
    status = records[1].path.stat()
    os.utime(records[1].path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = load_images(records, size=20, cache=cache)
    assert not np.array_equal(changed[1], images[1])
    np.testing.assert_array_equal(changed[2:], images[2:])


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"text"])
def test_a_damaged_cache_is_made_again(damage: bytes, records: list[ImageRecord], tmp_path: Path) -> None:
    images = load_images(records, size=20, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    for content in (damage, whole[:-7]):
        file.write_bytes(content)
        np.testing.assert_array_equal(load_images(records, size=20, cache=tmp_path / "cache"), images)
        assert file.read_bytes() == whole


def test_progress_is_shown_on_standard_error(
    records: list[ImageRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    load_images(records, size=20, progress=True)
    assert "Reading images" in capsys.readouterr().err
    load_images(records, size=20)
    assert capsys.readouterr() == ("", "")
