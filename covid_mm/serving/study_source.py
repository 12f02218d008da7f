"""Where many studies come from: a folder, a ZIP, a manifest, or the same on a file system that fsspec knows.

Files are opened by name, so that any process, on any machine that sees the same storage, can read a study.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, ImageError, UsageError
from covid_mm.serving.archive import Archive, ArchiveLimits, is_archive, open_archive
from covid_mm.serving.manifest import Entry, open_manifest
from covid_mm.serving.pairing import (
    RULE,
    ImageFile,
    LeftOut,
    Study,
    clean_name,
    is_junk,
    list_folder,
    make_study,
    on_disk,
    pair_files,
)

# one's own archive may be larger than a stranger's on a page
LIMITS = ArchiveLimits(max_bytes=2**40, max_members=200_000, max_total=2**42)
# a file may be a whole scan; who decodes one image has its own limit
FILE_LIMITS = ImageLimits(max_bytes=ImageLimits().max_series_bytes)
PARQUET = ".parquet"
EXTRA = "install it with `pip install covid-mm[ray]`"


@dataclass(frozen=True)
class Work:
    """What a run has before it. studies: gives them anew; total: how many."""

    studies: Callable[[], Iterator[Study]]
    total: int
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class StudySource:
    """Studies by their files' names. address: a path, or a URL of fsspec such as `s3://bucket/films`."""

    address: str

    @property
    def is_remote(self) -> bool:
        """Whether fsspec reads it."""
        return "://" in self.address

    @cached_property
    def path(self) -> Path:
        """On disk."""
        return Path(self.address)

    def find_work(self) -> Work:
        """The studies that it names.

        Raises:
            DataError: there is none, or it cannot be read. UsageError: what reads it is not installed.
        """
        if self.is_remote:
            return self._find_remote_work()
        source = self.path
        if source.is_dir() or is_archive(source):
            left_out: tuple[LeftOut, ...] = ()
            if source.is_dir():
                files = list_folder(source, FILE_LIMITS)
            else:
                archive = _open_archive(source)
                files, left_out = list(archive.images), archive.left_out
            return self._pair(files, left_out)
        if not source.is_file():
            raise DataError(f"{source} is not there; name a CSV manifest, a folder or a ZIP.")
        return self._read_manifest(partial(_open_bytes, source), source.name, source.resolve().parent.name)

    def open_file(self, name: str) -> ImageFile:
        """A file of the source, by its name there: to be read later, by whoever has it."""
        if self.is_remote:
            return ImageFile(name, partial(_read_remote, self._remote_name(name), name))
        if self._folder is None:
            return _list_archive(self.path)[name]
        return on_disk(name, self._folder / name, FILE_LIMITS)

    @cached_property
    def _folder(self) -> Path | None:
        """Where its files lie; None of a ZIP. Looked up once, not for each file."""
        if self.path.is_dir():
            return self.path
        return None if is_archive(self.path) else self.path.parent

    def _pair(self, files: list[ImageFile], left_out: tuple[LeftOut, ...] = ()) -> Work:
        paired = pair_files(files)
        if not paired.studies:
            raise DataError(f"There is no study in {self.address}. Expected: {RULE}")
        return Work(lambda: iter(paired.studies), len(paired.studies), (*left_out, *paired.left_out))

    def _read_manifest(self, open_bytes: Callable[[], BinaryIO], name: str, folder: str) -> Work:
        if name.lower().endswith(PARQUET):
            rows = _convert_parquet(open_bytes, clean_name(name))
            open_bytes = partial(io.BytesIO, rows)
        manifest = open_manifest(open_bytes, clean_name(name), folder)
        return Work(lambda: self._make_studies(iter(manifest)), manifest.studies)

    def _make_studies(self, entries: Iterator[Entry]) -> Iterator[Study]:
        """The studies of a manifest one by one; a name that comes again is an error of its later line."""
        seen: set[str] = set()
        for entry in entries:
            if entry.error:
                yield Study(entry.study, {}, error=entry.error)
            elif entry.study in seen:
                yield Study(
                    entry.study,
                    {},
                    error="This study is in the manifest more than once; only its first line is answered.",
                )
            else:
                files = {m: [self.open_file(name)] for m, name in entry.files.items()}
                yield replace(make_study(entry.study, files), truth=entry.truth, patient=entry.patient)
            seen.add(entry.study)

    def _find_remote_work(self) -> Work:
        system, root = connect(self.address)
        try:
            if not system.isdir(root):
                folder = root.rpartition("/")[0].rpartition("/")[2]
                opener = partial(system.open, root, "rb")
                return self._read_manifest(opener, root.rpartition("/")[2], folder)
            inside = (path.removeprefix(root).lstrip("/") for path in system.find(root))
            return self._pair([self.open_file(name) for name in inside if not is_junk(name)])
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.address} cannot be read ({type(error).__name__}); check its name."
            ) from error

    def _remote_name(self, name: str) -> str:
        """The URL of a file that is named from the source's folder, or by a URL of its own."""
        if "://" in name:
            return name
        system, root = connect(self.address)
        folder = root if system.isdir(root) else root.rpartition("/")[0]
        return str(system.unstrip_protocol(f"{folder}/{name}"))


@lru_cache(maxsize=8)
def connect(address: str) -> tuple[Any, str]:
    """A file system of fsspec, and the address's path there. Raises UsageError."""
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{address} needs fsspec, which is not installed; {EXTRA}.") from error
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(address))
    except (ImportError, ValueError) as error:
        raise UsageError(f"{address} cannot be opened: {error}.") from error


def _read_remote(address: str, name: str) -> bytes:
    """A file's content, as `pairing.read_bytes`. Raises ImageError."""
    what = clean_name(name.rpartition("/")[2])
    try:
        system, path = connect(address)
        with system.open(path, "rb") as file:
            data = cast(bytes, file.read(FILE_LIMITS.max_bytes + 1))
    except FileNotFoundError as error:
        raise ImageError("{name} is not there, or is not a file; check its name.", name=what) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageError("{what} can't be opened: {reason}.", what=what, reason=reason) from error
    if len(data) > FILE_LIMITS.max_bytes:
        raise ImageError(
            "{what} is larger than {limit} MB; scale it down.",
            what=what,
            limit=f"{FILE_LIMITS.max_bytes / 2**20:g}",
        )
    return data


def _open_archive(path: Path) -> Archive:
    return open_archive(path, LIMITS, FILE_LIMITS)


@lru_cache(maxsize=2)
def _list_archive(path: Path) -> Mapping[str, ImageFile]:
    """The images of a ZIP by name; it is opened once a process."""
    return {file.name: file for file in _open_archive(path).images}


def _open_bytes(path: Path) -> BinaryIO:
    return open(path, "rb")


def _convert_parquet(open_bytes: Callable[[], BinaryIO], name: str) -> bytes:
    """A manifest in Parquet as the CSV that it could have been. Raises DataError, UsageError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(f"A Parquet manifest needs pyarrow, which is not installed; {EXTRA}.") from error
    try:
        with open_bytes() as file:
            table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{name} is not a Parquet file that can be read; save it anew.") from error
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    for batch in table.to_batches():
        for row in zip(*batch.to_pydict().values(), strict=True):
            writer.writerow("" if value is None else value for value in row)
    return text.getvalue().encode()
