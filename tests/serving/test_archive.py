"""ZIP archives, honest and hostile."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, ImageError
from covid_mm.serving.archive import ArchiveLimits, is_archive, open_archive


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    return tmp_path / "studies.zip"


def test_files_are_read_in_memory_and_junk_is_ignored(archive_path, tmp_path):
    make_zip(
        archive_path,
        {
            "day/a_ct.png": b"one",
            "day/": b"",
            "day/in/b_xray": b"two",
            "day/list.csv": b"study",
            "__MACOSX/day/._a_ct.png": b"x",
            "day/.DS_Store": b"x",
        },
    )
    opened = open_archive(archive_path)
    assert [(file.name, file.read()) for file in opened.images] == [
        ("a_ct.png", b"one"),
        ("in/b_xray", b"two"),
    ]
    assert [file.name for file in opened.tables] == ["list.csv"]
    assert opened.left_out == ()
    assert list(tmp_path.iterdir()) == [archive_path]
    assert is_archive(archive_path)
    assert not is_archive(tmp_path / "none")


def test_links_nested_and_encrypted_members_are_left_out_with_a_reason(archive_path):
    link = zipfile.ZipInfo("link_ct.png")
    link.external_attr = 0o120777 << 16
    make_zip(archive_path, {"inner_ct.zip": b"PK", "secret_ct.png": b"12345", "fine_ct.png": b"x"})
    with zipfile.ZipFile(archive_path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    data = bytearray(archive_path.read_bytes())
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"secret_ct.png"))
    data[at + 8] |= 1  # the flag of encryption, in the list of contents
    archive_path.write_bytes(data)
    opened = open_archive(archive_path)
    assert [file.name for file in opened.images] == ["fine_ct.png"]
    reasons = {one.name: one.reason for one in opened.left_out}
    assert "archive inside" in reasons["inner_ct.zip"]
    assert "encrypted" in reasons["secret_ct.png"]
    assert "link" in reasons["link_ct.png"]


def test_an_unusual_compression_is_left_out(archive_path):
    make_zip(archive_path, {"a_ct.png": b"x" * 100}, zipfile.ZIP_LZMA)
    opened = open_archive(archive_path)
    assert opened.images == ()
    assert "method" in opened.left_out[0].reason


@pytest.mark.parametrize(
    "name", ["../a_ct.png", "x/../../a_ct.png", "/etc/a_ct.png", "C:\\a_ct.png", "..\\a_ct.png"]
)
def test_names_that_lead_out_are_refused(archive_path, name):
    make_zip(archive_path, {name: b"x"})
    with pytest.raises(DataError, match="leads out of it"):
        open_archive(archive_path)


def test_a_bomb_is_refused_before_it_is_read(archive_path):
    make_zip(archive_path, {f"{i}_ct.png": bytes(5_000_000) for i in range(10)})
    began = time.process_time()
    with pytest.raises(DataError, match="would unpack to 48 MB"):
        open_archive(archive_path)
    assert time.process_time() - began < 0.5


def test_a_bomb_that_lies_about_its_size_is_bounded_while_it_is_read(archive_path):
    make_zip(archive_path, {"a_ct.png": bytes(50_000_000)})
    data = bytearray(archive_path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # uncompressed size
        struct.pack_into("<I", data, data.rfind(mark) + offset, 1000)
    archive_path.write_bytes(data)
    (file,) = open_archive(archive_path).images
    tracemalloc.start()
    with pytest.raises(ImageError):
        file.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_members_over_the_image_limit_are_one_sentence(archive_path):
    make_zip(archive_path, {"a_ct.png": bytes(range(256)) * 8})
    (file,) = open_archive(archive_path, image_limits=ImageLimits(max_bytes=1000)).images
    with pytest.raises(ImageError, match=r"a_ct\.png is larger than"):
        file.read()


def test_too_many_members_are_refused(archive_path):
    make_zip(archive_path, {f"{i}_ct.png": b"" for i in range(30)})
    with pytest.raises(DataError, match="more than 20 files"):
        open_archive(archive_path, ArchiveLimits(max_members=20))
    data = bytearray(archive_path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 12, 2**31)  # claims a list of contents of 2 GB
    archive_path.write_bytes(data)
    with pytest.raises(DataError, match="more than 2000 files"):
        open_archive(archive_path)


def test_too_large_archives_are_refused(archive_path):
    make_zip(archive_path, {"a_ct.png": bytes(range(256)) * 64}, zipfile.ZIP_STORED)
    with pytest.raises(DataError, match="larger than"):
        open_archive(archive_path, ArchiveLimits(max_bytes=1000))


@pytest.mark.parametrize("kind", ["text", "half", "empty", "tail"])
def test_damage_is_one_sentence(archive_path, kind):
    make_zip(archive_path, {"a_ct.png": bytes(range(256)) * 64})
    whole = archive_path.read_bytes()
    archive_path.write_bytes(
        {"text": b"hello", "half": whole[: len(whole) // 2], "empty": b"", "tail": whole[-22:]}[kind]
    )
    with pytest.raises(DataError, match="damaged or not a ZIP"):
        open_archive(archive_path)


def test_a_damaged_member_is_its_own_error(archive_path):
    make_zip(archive_path, {"a_ct.png": bytes(range(256)) * 64, "b_ct.png": b"fine"}, zipfile.ZIP_STORED)
    data = bytearray(archive_path.read_bytes())
    data[200] ^= 255
    archive_path.write_bytes(data)
    first, second = open_archive(archive_path).images
    with pytest.raises(ImageError, match=r"a_ct\.png is damaged inside"):
        first.read()
    assert second.read() == b"fine"


def test_a_zip64_list_is_read_and_counted(archive_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # makes Python write the longer form
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(5):
            archive.writestr(f"{i}_ct.png", b"x")
    assert b"PK\x06\x06" in buffer.getvalue()
    archive_path.write_bytes(buffer.getvalue())
    assert len(open_archive(archive_path).images) == 5
    with pytest.raises(DataError, match="more than 4 files"):
        open_archive(archive_path, ArchiveLimits(max_members=4))
