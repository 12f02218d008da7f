"""A CSV that names the images of each study: columns study, ct, xray; a name may be empty.

Two more columns may say what each study is and whose: label (a class, `other` or nothing) and patient. A collection's
own manifest (columns file, label, and what `check-data` knows) is taken too: each of its rows is a study of one image.

Commas, semicolons or tabs; UTF-8 (with or without its mark) or UTF-16 with its mark, as Excel saves
them. Read line by line, so that a long manifest takes no more memory than a short one.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from covid_mm.config import CLASSES, MODALITIES
from covid_mm.errors import DataError, Message
from covid_mm.serving.pairing import clean_name

COLUMNS = ("study", *MODALITIES)
LABELS = ("label", "patient")  # may be there
OF_COLLECTION = (
    "file",
    *LABELS,
    "modality",
    "site",
    "view",
    "boxes",
    "lesion_mask",
    "lung_mask",
)  # as check-data knows them
OTHER = "other"  # a label that is neither class
MAX_HEADER = 4096  # bytes; a longer first line is no header of ours
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Entry:
    """One line: the study's name, modality -> file name as written, and why it cannot be used.

    truth: the class that its owner gives it, empty where none. patient: empty where not known.
    """

    study: str
    files: dict[str, str]
    error: str = ""
    truth: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read once from end to end, so that a fault is said before work begins.

    name: for messages. open: gives its bytes anew. studies: number of entries. folder: the name of its folder, whose
    end (-ct, -xray) says the modality of a collection's images where no column does.
    """

    name: str
    open: Callable[[], BinaryIO]
    studies: int
    folder: str = ""

    def __iter__(self) -> Iterator[Entry]:
        """Its entries, read anew."""
        return _read(self.open, self.name, self.folder)


def open_manifest(open_bytes: Callable[[], BinaryIO], name: str, folder: str = "") -> Manifest:
    """Check a manifest from end to end. folder: the name of the one that it lies in, where that is known.

    Raises:
        DataError: one sentence: not a CSV, another encoding, unknown or missing columns, no study.
    """
    count = sum(1 for _ in _read(open_bytes, name, folder))
    if count == 0:
        raise DataError("{name} names no study; expected a line for each below its header.", name=name)
    return Manifest(name, open_bytes, count, folder)


def _read(open_bytes: Callable[[], BinaryIO], name: str, folder: str) -> Iterator[Entry]:
    """Entries one by one; a line that does not fit is an entry with its reason."""
    try:
        with open_bytes() as file:
            encoding, first = _look_at(file, name)
            text = io.TextIOWrapper(file, encoding=encoding, newline="")
            delimiter = max(_DELIMITERS, key=first.count)
            reader = csv.reader(text, delimiter=delimiter)
            columns = _check_header(next(reader, []), name)
            for fields in reader:
                if any("\n" in field for field in fields):
                    raise DataError(
                        "{name} has a quotation mark that is not closed, before line {line}; close it.",
                        name=name,
                        line=reader.line_num,
                    )
                if any(field.strip() for field in fields):
                    yield _entry(columns, fields, reader.line_num, folder)
    except UnicodeError as error:
        raise DataError(
            "{name} is not UTF-8 text; save it as 'CSV UTF-8' and try again.", name=name
        ) from error
    except csv.Error as error:
        raise DataError(
            "{name} is not a CSV that can be read ({error}); save it anew as CSV.", name=name, error=error
        ) from error
    except OSError as error:
        raise DataError("{what} can't be opened: {reason}.", what=name, reason=error.strerror) from error


def _look_at(file: BinaryIO, name: str) -> tuple[str, str]:
    """Its encoding and first line. Raises DataError where it is not text."""
    start = file.read(MAX_HEADER)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
        if b"\0" in start:
            raise DataError(
                "{name} is not a text file; expected a CSV with the columns {columns}.",
                name=name,
                columns=", ".join(COLUMNS),
            )
    head = start[: len(start) // 2 * 2].decode(encoding, errors="ignore")
    return encoding, head.splitlines()[0] if head else ""


def _check_header(fields: list[str], name: str) -> list[str]:
    """The columns' names in order. Raises DataError that names what does not fit."""
    columns = [field.strip().lower() for field in fields]
    of_collection = "file" in columns and "study" not in columns
    known = OF_COLLECTION if of_collection else (*COLUMNS, *LABELS)
    expected = ", ".join(known)
    unknown = [column for column in columns if column not in known]
    if unknown:
        shown = ", ".join(repr(clean_name(column)[:40]) for column in unknown[:3])
        raise DataError(
            "{name} has a header with {shown}; expected the columns {columns} and no other.",
            name=name,
            shown=shown,
            columns=expected,
        )
    if len(set(columns)) < len(columns):
        raise DataError(
            "{name} has a column twice; expected the columns {columns}, each once.",
            name=name,
            columns=expected,
        )
    if not of_collection and ("study" not in columns or not set(columns) & set(MODALITIES)):
        raise DataError(
            "{name} lacks a column; expected the columns {columns} (all but study and one of ct and xray may be left"
            " out).",
            name=name,
            columns=expected,
        )
    return columns


def _entry(columns: list[str], fields: list[str], line: int, folder: str) -> Entry:
    """One line's study, or its reason; a study without a name is called after its line."""
    while len(fields) > len(columns) and not fields[-1].strip():
        fields = fields[:-1]  # Excel ends lines with empty fields
    by_column = dict(zip(columns, (field.strip() for field in fields), strict=False))
    study = clean_name(by_column.get("study") or by_column.get("file", ""))
    if len(fields) != len(columns):
        return Entry(
            study or f"line {line}",
            {},
            Message(
                "Line {line} has {count} fields, expected {expected}; quote a name that holds a comma.",
                line=line,
                count=len(fields),
                expected=len(columns),
            ),
        )
    if not study:
        return Entry(
            f"line {line}", {}, Message("Line {line} names no study; fill in its first column.", line=line)
        )
    truth = by_column.get("label", "").lower()
    if truth not in ("", OTHER, *CLASSES):
        error = Message(
            "Line {line} has the label {label}; expected {known}, {other} or nothing.",
            line=line,
            label=clean_name(truth)[:40],
            known=", ".join(CLASSES),
            other=OTHER,
        )
        return Entry(study, {}, error)
    files = {modality: by_column[modality] for modality in MODALITIES if by_column.get(modality)}
    if "file" in by_column:
        modality = by_column.get("modality", "").lower() or folder.lower().rpartition("-")[2]
        if modality not in MODALITIES:
            error = Message(
                "Line {line} says no modality; fill in a column modality with ct or xray.", line=line
            )
            return Entry(study, {}, error)
        files = {modality: by_column["file"]}
    if not files:
        return Entry(
            study, {}, Message("Line {line} names no image; give a CT slice, an X-ray, or both.", line=line)
        )
    patient = clean_name(by_column.get("patient", ""))
    return Entry(study, files, truth="" if truth == OTHER else truth, patient=patient)
