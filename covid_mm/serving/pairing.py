"""Which files belong to one study: `<study>_ct.*` and `<study>_xray.*`.

Everything before the last `_ct` or `_xray` is the study's name, folders included; upper and lower
case of `_CT` and of the ending don't matter, and a DICOM file may come without an ending. A study
may have one of the two. Nothing is opened here: names only, contents when a study is answered.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import DataError, ImageError, Message
from covid_mm.formats import flatten_text

RULE = (
    "<study>_ct.* and <study>_xray.* belong together; either may be missing. A CSV with the columns study,"
    " ct and xray may say it instead."
)
LONGEST_NAME = 200  # letters of a study's or a file's name

_FITTING = r"(?P<study>.+)_(?P<modality>{modalities})(?:\.nii\.gz|\.[a-z0-9]{{1,5}})?"
_JUNK = {"thumbs.db", "desktop.ini"}
_DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class ImageFile:
    """A file that may be an image. name: as its owner knows it; read: its bytes, or ImageError.

    path: where it lies on disk, perhaps a folder of a CT series; None inside a ZIP.
    """

    name: str
    read: Callable[[], bytes]
    path: Path | None = None


@dataclass(frozen=True)
class Study:
    """What is to be answered together.

    files: modality -> file. remark: what the owner should know before it runs; error: why it
    cannot be answered (then files are not read). truth: the class that its owner gives it, empty where none.
    patient: empty where not known.
    """

    name: str
    files: dict[str, ImageFile]
    remark: str = ""
    error: str = ""
    truth: str = ""
    patient: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A file that belongs to no study. name: as its owner knows it; reason: one clause."""

    name: str
    reason: str


@dataclass(frozen=True)
class Pairing:
    """What was found among the files, studies sorted by name."""

    studies: tuple[Study, ...]
    left_out: tuple[LeftOut, ...] = ()


def pair_files(files: Iterable[ImageFile]) -> Pairing:
    """Studies by the rule; two files for one slot are an error of that study, never a guess."""
    by_study: dict[str, dict[str, list[ImageFile]]] = {}
    left_out = []
    for file in files:
        parsed = split_name(file.name)
        if parsed is None:
            endings = " or ".join(f"_{modality}" for modality in MODALITIES)
            reason = Message("its name does not end in {endings}", endings=endings)
            left_out.append(LeftOut(clean_name(file.name), reason))
        else:
            study, modality = parsed
            by_study.setdefault(study, {}).setdefault(modality, []).append(file)
    studies = [make_study(name, by_study[name]) for name in sorted(by_study)]
    return Pairing(tuple(studies), tuple(sorted(left_out, key=lambda one: one.name)))


def make_study(name: str, given: dict[str, list[ImageFile]]) -> Study:
    """One study of the files found for each modality, with its remark or error."""
    for modality, several in given.items():
        if len(several) > 1:
            twice = " and ".join(dict.fromkeys(sorted(clean_name(file.name) for file in several)))
            title = MODALITIES[modality].title
            return Study(
                name,
                {},
                error=Message(
                    "There are {count} {modality} files for this study ({names}); keep one.",
                    count=len(several),
                    modality=title,
                    names=twice,
                ),
            )
    files: dict[str, ImageFile] = {m: given[m][0] for m in MODALITIES if given.get(m)}
    return Study(name, files, remark=remark_on(files))


def remark_on(files: dict[str, ImageFile]) -> str:
    """What is to be said of a study with one image; nothing where it has both."""
    if len(files) != 1:
        return ""
    (only,) = files
    other = next(modality for modality in MODALITIES if modality != only)
    return Message(
        "no {missing}: answered from the {given} alone",
        missing=MODALITIES[other].title,
        given=MODALITIES[only].title,
    )


def split_name(name: str) -> tuple[str, str] | None:
    """(study, modality) of a file's name, folders included; None where it does not fit the rule."""
    fits = re.fullmatch(
        _FITTING.format(modalities="|".join(MODALITIES)),
        unicodedata.normalize("NFC", name),
        re.IGNORECASE | re.DOTALL,
    )
    if fits is None or os.path.basename(fits["study"]) == "":
        return None
    return clean_name(fits["study"]), fits["modality"].lower()


def clean_name(text: str) -> str:
    """A name fit for one line of a table: composed letters, no control characters, not endless."""
    flat = flatten_text(unicodedata.normalize("NFC", text)).strip()
    return flat if len(flat) <= LONGEST_NAME else f"{flat[: LONGEST_NAME - 3]}..."


def is_junk(name: str) -> bool:
    """What systems put beside files without being asked: hidden files, __MACOSX, Thumbs.db."""
    parts = name.replace("\\", "/").split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1].lower() in _JUNK


def list_folder(folder: Path, limits: ImageLimits = _DEFAULT_LIMITS) -> list[ImageFile]:
    """The files under a folder by their names inside it; links and junk are not followed.

    Raises:
        DataError: the folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error

    files = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(parent, name)
            inside = path.relative_to(folder).as_posix()
            if not is_junk(inside) and not path.is_symlink():
                files.append(on_disk(inside, path, limits))
    return files


def on_disk(name: str, path: Path, limits: ImageLimits = _DEFAULT_LIMITS) -> ImageFile:
    """A file that is opened when its study is answered."""
    return ImageFile(name, lambda: read_bytes(path, clean_name(os.path.basename(name)), limits), path)


def read_bytes(path: Path, name: str, limits: ImageLimits = _DEFAULT_LIMITS) -> bytes:
    """A file's content, at most one byte over the limit. Raises ImageError without its folder."""
    try:
        if not path.is_file():
            raise ImageError("{name} is not there, or is not a file; check its name.", name=name)
        with open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise ImageError("{what} can't be opened: {reason}.", what=name, reason=reason) from error
    if len(data) > limits.max_bytes:
        raise ImageError(
            "{what} is larger than {limit} MB; scale it down.",
            what=name,
            limit=f"{limits.max_bytes / 2**20:g}",
        )
    return data
