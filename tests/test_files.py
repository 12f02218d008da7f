"""Files appear whole or not at all, whatever is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covid_mm.datasets.phantoms import write_phantoms
from covid_mm.errors import DataError
from covid_mm.files import replace_file, write_array, write_arrays, write_atomically
from covid_mm.models.meta_file import META_NAME, write_meta

ARRAY = np.arange(6.0).reshape(2, 3)
WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_atomically(path, b"new"),
    "array": lambda path: write_array(path, ARRAY),
    "arrays": lambda path: write_arrays(path, {"a": ARRAY}),
    "meta.json": lambda path: write_meta(path.parent, {"a": 1}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(kind, tmp_path, monkeypatch):
    path = tmp_path / META_NAME
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        WRITERS[kind](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_written_is_on_the_disk_before_it_has_its_name(kind, tmp_path, monkeypatch):
    path, steps = tmp_path / META_NAME, []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("replace"), replace(old, new))[1])
    WRITERS[kind](path)
    assert steps == ["fsync", "replace"]
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folders_are_made_and_arrays_are_read_back(tmp_path):
    write_arrays(tmp_path / "a" / "b" / "c.npz", {"a": ARRAY})
    with np.load(tmp_path / "a" / "b" / "c.npz") as arrays:
        assert np.array_equal(arrays["a"], ARRAY)
    write_array(tmp_path / "d.npy", ARRAY)
    assert np.array_equal(np.load(tmp_path / "d.npy", mmap_mode="r"), ARRAY)


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (4, 4)).save(path)
    old = path.read_bytes()

    def write_half() -> None:
        with replace_file(path) as tmp_file:
            tmp_file.write_bytes(b"half")
            Image.open(tmp_path / "missing")

    with pytest.raises(OSError, match="missing"):
        write_half()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_phantoms_that_cannot_be_written_are_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(DataError, match="No space left"):
        write_phantoms(tmp_path, per_class=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
