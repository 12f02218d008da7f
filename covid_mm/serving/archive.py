"""Images inside a ZIP, read one by one in memory: nothing is unpacked, no name becomes a path.

What an archive claims of itself is checked before its list of contents is read, and what a member
gives is bounded while it is read, whatever its header claims.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, ImageError
from covid_mm.serving.pairing import ImageFile, LeftOut, clean_name, is_junk

_END = b"PK\x05\x06"  # end of the central directory
_END_SIZE = 22
_LONGEST_COMMENT = 65535
_ENTRY_BYTES = 1024  # a directory entry with a long name and its extra fields
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_PACKED_VOLUMES = ".nii.gz"
_ENCRYPTED = 0x1  # bit of a member's flags
_DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class ArchiveLimits:
    """What a ZIP may measure.

    max_bytes: of the archive. max_members: files and folders in it. max_total: bytes of all
    members unpacked. max_ratio: bytes unpacked for one packed, over all of it; images hardly
    shrink, DICOM to about a third, a bomb to a thousandth.
    """

    max_bytes: int = 200 * 1024 * 1024
    max_members: int = 2000
    max_total: int = 2 * 1024**3
    max_ratio: float = 100.0


@dataclass(frozen=True)
class Archive:
    """The files in a ZIP that may be images, those that are CSV, and those that are neither."""

    images: tuple[ImageFile, ...]
    tables: tuple[ImageFile, ...]
    left_out: tuple[LeftOut, ...]


def open_archive(
    path: Path,
    limits: ArchiveLimits = ArchiveLimits(),
    image_limits: ImageLimits = _DEFAULT_LIMITS,
) -> Archive:
    """List a ZIP. A top folder that holds everything is not part of the names.

    Raises:
        DataError: one sentence: not a ZIP, damaged, too large, too many members, a bomb, or a
            member whose name leads out of it.
    """
    try:
        _check_size(path, limits)
        archive = zipfile.ZipFile(path)  # stays open as long as a file in it may be asked for
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, UnicodeError) as error:
        raise DataError("The ZIP archive is damaged or not a ZIP; make it anew.") from error
    except OSError as error:
        raise DataError("The ZIP archive can't be opened: {reason}.", reason=error.strerror) from error
    _check_members(archive.infolist(), limits)
    members = [
        member for member in archive.infolist() if not member.is_dir() and not is_junk(member.filename)
    ]
    top = _find_top([member.filename for member in members])
    images: list[ImageFile] = []
    tables: list[ImageFile] = []
    left_out: list[LeftOut] = []
    for member in members:
        name = member.filename[len(top) :]
        if reason := _refusal(member):
            left_out.append(LeftOut(clean_name(name), reason))
            continue
        file = ImageFile(name, _reader(archive, member, image_limits))
        (tables if name.lower().endswith(".csv") else images).append(file)
    return Archive(tuple(images), tuple(tables), tuple(left_out))


def is_archive(path: Path) -> bool:
    """Whether a file begins as a ZIP does (or is an empty one), whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"PK\x03\x04", _END)
    except OSError:
        return False


def _check_size(path: Path, limits: ArchiveLimits) -> None:
    """Look at the archive's size and at that of its list of contents before the list is read.

    Raises DataError, and BadZipFile where there is no list.
    """
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise DataError(
            "The ZIP archive is larger than {limit} MB; divide it.", limit=f"{limits.max_bytes / 2**20:g}"
        )
    with open(path, "rb") as file:
        file.seek(max(0, size - _END_SIZE - _LONGEST_COMMENT))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        raise zipfile.BadZipFile
    count, directory = struct.unpack_from("<HI", tail, at + 10)
    if count > limits.max_members or directory > limits.max_members * _ENTRY_BYTES:
        raise _too_many(limits)
    if b"PK\x06\x07" in tail[max(0, at - 20) : at]:  # ZIP64: sizes that this check would not see
        _check_zip64(tail[at - 20 : at], path, limits)


def _check_zip64(locator: bytes, path: Path, limits: ArchiveLimits) -> None:
    """The same of the longer form that large archives and some programs write."""
    (offset,) = struct.unpack_from("<Q", locator, 8)
    with open(path, "rb") as file:
        file.seek(offset)
        record = file.read(56)
    if not record.startswith(b"PK\x06\x06"):
        raise zipfile.BadZipFile
    count, directory = struct.unpack_from("<QQ", record, 32)
    if count > limits.max_members or directory > limits.max_members * _ENTRY_BYTES:
        raise _too_many(limits)


def _check_members(members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    """Raises DataError for a bomb, or for names that would leave a folder they are unpacked into."""
    if len(members) > limits.max_members:
        raise _too_many(limits)
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > limits.max_total or (total > 2**20 and total > packed * limits.max_ratio):
        raise DataError(
            "The ZIP archive would unpack to {size} MB, more than images give; send the images in"
            " smaller archives.",
            size=f"{total / 2**20:.0f}",
        )
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if parts[0] == "" or ".." in parts or ":" in parts[0]:
            raise DataError(
                "The ZIP archive holds a name that leads out of it; make it anew from the images."
            )


def _too_many(limits: ArchiveLimits) -> DataError:
    return DataError("The ZIP archive holds more than {most} files; divide it.", most=limits.max_members)


def _refusal(member: zipfile.ZipInfo) -> str:
    """Why a member is not read; empty where it is."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link, not a file"
    if member.flag_bits & _ENCRYPTED:
        return "encrypted; make the ZIP without a password"
    if member.compress_type not in _METHODS:
        return "compressed by a method that is not read; use plain ZIP"
    name = member.filename.lower()
    if name.endswith(_NESTED) and not name.endswith(_PACKED_VOLUMES):
        return "an archive inside the archive"
    return ""


def _find_top(names: list[str]) -> str:
    """`folder/` where all names begin with it; a ZIP of one folder has such a name."""
    folders = {name.rpartition("/")[0] for name in names}
    top = os.path.commonpath(folders) if "" not in folders and folders else ""
    return f"{top}/" if top else ""


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: ImageLimits) -> Callable[[], bytes]:
    name = clean_name(os.path.basename(member.filename))

    def read() -> bytes:
        try:
            with archive.open(member) as file:
                # asked for no more than it claims, so that one which lies is not unpacked further
                data = file.read(min(limits.max_bytes, member.file_size) + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
            raise ImageError("{name} is damaged inside the ZIP archive; make it anew.", name=name) from error
        if len(data) > limits.max_bytes:
            raise ImageError(
                "{what} is larger than {limit} MB; scale it down.",
                what=name,
                limit=f"{limits.max_bytes / 2**20:g}",
            )
        return data

    return read
