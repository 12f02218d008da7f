"""What a visitor sent for a batch, as studies: one ZIP or many files, and perhaps a CSV manifest.

Nothing is kept between two requests: each request brings its own uploads, and the names that their
owner gave them come beside the uploads and never touch the disk.
"""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from covid_mm.config import ImageLimits
from covid_mm.errors import DataError, ImageError, Message, UsageError
from covid_mm.serving.archive import ArchiveLimits, is_archive, open_archive
from covid_mm.serving.manifest import Manifest, open_manifest
from covid_mm.serving.pairing import (
    ImageFile,
    LeftOut,
    Pairing,
    Study,
    clean_name,
    is_junk,
    make_study,
    on_disk,
    pair_files,
)

MAX_MANIFEST = 1024 * 1024  # bytes; a line for each of the page's studies takes a tenth of it
UNNAMED = "file without a name"

NOTHING = "Add one ZIP archive, or images named <study>_ct and <study>_xray."
GONE = "The files are no longer kept on the server; add them again."
MIXED = "Add one ZIP archive, or the images themselves, not both at once."
NO_STUDY = (
    "There is no study among these files. Name the images <study>_ct and <study>_xray, or add a CSV manifest."
)
MANY_TABLES = "There is more than one CSV manifest; keep one."
NOT_NAMED = "the manifest does not name it"


@dataclass(frozen=True)
class BatchLimits:
    """What one batch on the page or by the API may measure; the shell's `batch` has no such limits.

    max_studies: answered in one run. max_files: images and manifest sent one by one. max_bytes: of
    a ZIP archive, or of all files together.
    """

    max_studies: int = 200
    max_files: int = 401
    max_bytes: int = 200 * 1024 * 1024


@dataclass(frozen=True)
class Upload:
    """One file on the server. path: of the upload; name: as its owner knows it."""

    path: str
    name: str


def pair_uploads(
    uploads: Sequence[Upload],
    manifest: Upload | None = None,
    *,
    too_large: Iterable[str] = (),
    limits: BatchLimits = BatchLimits(),
    image_limits: ImageLimits = ImageLimits(),  # noqa: B008 (frozen)
) -> Pairing:
    """The studies among uploads, none opened yet but for the list of a ZIP and the manifest.

    Args:
        uploads: one ZIP, or images; a CSV among them is the manifest.
        manifest: given apart, by the API.
        too_large: names of images that the browser did not send for their size.
        limits: of the batch.
        image_limits: of each image.

    Raises:
        CovidMMError: one sentence: nothing there, too much, not a ZIP, no study, a faulty manifest.
    """
    refused = tuple(too_large)
    _check_uploads([*uploads, *([manifest] if manifest else [])], len(refused), limits)
    archives = [one for one in uploads if is_archive(Path(one.path))]
    loose = [one for one in uploads if one not in archives and not is_junk(one.name)]
    sent = [one for one in loose if _is_table(one.name)]
    images = [one for one in loose if one not in sent]
    if len(archives) > 1 or (archives and (images or refused)):
        raise UsageError(MIXED)
    files = [on_disk(one.name, Path(one.path), image_limits) for one in images]
    files += [ImageFile(name, partial(_refuse_size, name, image_limits)) for name in refused]
    left_out: list[LeftOut] = []
    inside: list[ImageFile] = []
    for one in archives:
        archive = open_archive(Path(one.path), ArchiveLimits(max_bytes=limits.max_bytes), image_limits)
        files += archive.images
        left_out += archive.left_out
        inside += archive.tables
    table = _choose_manifest([*sent, *([manifest] if manifest else [])], inside, left_out)
    pairing = pair_by_manifest(table, files, limits) if table else pair_files(files)
    if not pairing.studies:
        raise DataError(NO_STUDY)
    if len(pairing.studies) > limits.max_studies:
        raise _too_many(len(pairing.studies), limits)
    return Pairing(pairing.studies, (*pairing.left_out, *left_out))


def pair_by_manifest(manifest: Manifest, files: Sequence[ImageFile], limits: BatchLimits) -> Pairing:
    """The manifest's studies in its order; a file is found by its whole name, else by its last part.

    Raises:
        UsageError: more studies than a batch takes.
    """
    if manifest.studies > limits.max_studies:
        raise _too_many(manifest.studies, limits)
    whole = {_plain(file.name): file for file in files}
    last: dict[str, list[ImageFile]] = {}
    for file in files:
        last.setdefault(os.path.basename(_plain(file.name)), []).append(file)
    studies: list[Study] = []
    used: set[int] = set()
    seen: set[str] = set()
    for entry in manifest:
        error, given = entry.error, {}
        if entry.study in seen:
            error = "This study is in the manifest more than once; only its first line is answered."
        for modality, written in {} if error else entry.files.items():
            name = _plain(written)
            alike = last.get(os.path.basename(name), [])
            match = whole.get(name) or (alike[0] if len(alike) == 1 else None)
            if match is None:
                error = Message(
                    "{name} is not among the files; add it, or correct the manifest.",
                    name=clean_name(written),
                )
                break
            given[modality] = [match]
            used.add(id(match))
        seen.add(entry.study)
        study = Study(entry.study, {}, error=error) if error else make_study(entry.study, given)
        studies.append(replace(study, truth=entry.truth, patient=entry.patient))
    left_out = (LeftOut(clean_name(file.name), NOT_NAMED) for file in files if id(file) not in used)
    return Pairing(tuple(studies), tuple(sorted(left_out, key=lambda one: one.name)))


def keep_uploads(uploads: Iterable[Upload]) -> None:
    """Count their age from now, so that the sweep does not take them from under a run."""
    for one in uploads:
        try:
            os.utime(one.path)
        except OSError:
            raise ImageError(GONE) from None


def _check_uploads(uploads: Sequence[Upload], refused: int, limits: BatchLimits) -> None:
    """Raises CovidMMError for none, too many, too much, or what the sweep has taken."""
    if not uploads and not refused:
        raise UsageError(NOTHING)
    if len(uploads) + refused > limits.max_files:
        raise UsageError(
            "These are {count} files, and this page takes {most} at once; send them in parts, or in"
            " one ZIP archive.",
            count=len(uploads) + refused,
            most=limits.max_files,
        )
    try:
        total = sum(os.stat(one.path).st_size for one in uploads)
    except OSError:
        raise ImageError(GONE) from None
    if total > limits.max_bytes:
        raise UsageError(
            "These files have {size} MB, and this page takes {most} MB at once; send them in parts.",
            size=f"{total / 2**20:.0f}",
            most=f"{limits.max_bytes / 2**20:g}",
        )


def _choose_manifest(
    sent: Sequence[Upload], inside: Sequence[ImageFile], left_out: list[LeftOut]
) -> Manifest | None:
    """The one manifest. A CSV sent on purpose must be one; one inside a ZIP may be something else."""
    if len(sent) > 1:
        raise UsageError(MANY_TABLES)
    if sent:
        left_out += [LeftOut(clean_name(table.name), "another manifest was sent") for table in inside]
        path = Path(sent[0].path)
        name = clean_name(sent[0].name)
        if path.stat().st_size > MAX_MANIFEST:
            raise DataError(
                "{what} is larger than {limit} MB; divide it.", what=name, limit=f"{MAX_MANIFEST / 2**20:g}"
            )
        return open_manifest(partial(_open_bytes, path), name)
    pairing = []
    for table in inside:
        try:
            data = table.read()
            if len(data) > MAX_MANIFEST:
                raise DataError("too large for a manifest")
            pairing.append(open_manifest(partial(io.BytesIO, data), clean_name(table.name)))
        except (DataError, ImageError):
            left_out.append(
                LeftOut(clean_name(table.name), "not a manifest with the columns study, ct, xray")
            )
    if len(pairing) > 1:
        raise UsageError(MANY_TABLES)
    return pairing[0] if pairing else None


def _open_bytes(path: Path) -> BinaryIO:
    return open(path, "rb")


def _too_many(count: int, limits: BatchLimits) -> UsageError:
    return UsageError(
        "These are {count} studies, and this page answers {most} at once; send them in parts, or"
        " use `python -m covid_mm batch`.",
        count=count,
        most=limits.max_studies,
    )


def _refuse_size(name: str, limits: ImageLimits) -> NoReturn:
    raise ImageError(
        "{what} is larger than {limit} MB; scale it down.",
        what=clean_name(name),
        limit=f"{limits.max_bytes / 2**20:g}",
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(".csv")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")
