"""A collection's `manifest.csv`: one row per image, and what is wrong with it, row by row."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from covid_mm.config import CLASSES, MODALITIES, Modality
from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.errors import DataError

MANIFEST = "manifest.csv"
REQUIRED = ("file", "label")
COLUMNS = (*REQUIRED, "patient", "site", "view", "boxes", "lesion_mask", "lung_mask", "modality")
OTHER = "other"  # a label that is neither class
_UNKNOWN_SOURCE = "the user's own images"
_UNKNOWN_LICENCE = "not stated"
BOX_MARGIN = 0.01  # readers draw a little over the edge: so far outside, a box is cut at the edge
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RowProblem:
    """What is wrong in one cell: the row as a spreadsheet numbers it (the header is row 1)."""

    row: int
    column: str
    message: str


@dataclass(frozen=True)
class KnownCollection:
    """What a public collection's folder name stands for."""

    modality: Modality
    title: str
    source: str
    licence: str


KNOWN: dict[str, KnownCollection] = {
    "siim-covid19": KnownCollection(
        "xray",
        "SIIM-FISABIO-RSNA COVID-19",
        "Lakhani et al. 2021, https://www.kaggle.com/competitions/siim-covid19-detection"
        " (films of BIMCV, Valencia, and MIDRC-RICORD)",
        "non-commercial research and education",
    ),
    "rsna-normal": KnownCollection(
        "xray",
        "RSNA Pneumonia Detection, films without pneumonia",
        "Shih et al. 2019, https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge"
        " (films of NIH ChestX-ray8)",
        "free use with attribution to the NIH Clinical Center",
    ),
    "medseg-ct": KnownCollection(
        "ct",
        "MedSeg COVID-19 CT volumes",
        "https://medicalsegmentation.com/covid19 (volumes of Radiopaedia, annotated by MedSeg)",
        "CC BY-NC-SA",
    ),
    "lung-ct": KnownCollection(
        "ct",
        "Finding and measuring lungs in CT",
        "https://www.kaggle.com/datasets/kmader/finding-lungs-in-ct-data",
        "research use",
    ),
    "iq-othnccd": KnownCollection(
        "ct",
        "IQ-OTH/NCCD lung cancer",
        "Alyasriy and Al-Huseiny 2021, https://data.mendeley.com/datasets/bhmdr45bh2",
        "research use",
    ),
}


class NotOurManifest(DataError):
    """A `manifest.csv` with neither a column `file` nor `label`: some other program's list."""


def read_manifest(path: Path, root: Path | None = None) -> tuple[Collection, tuple[RowProblem, ...]]:
    """The collection that a manifest lists, and every problem in its rows, which are left out.

    root: the folder that the images' names are relative to; by default the manifest's own. No image
    is decoded.

    Raises:
        NotOurManifest: neither `file` nor `label` is a column.
        DataError: one of them is missing, it can't be read as a CSV file in UTF-8, or nothing says the modality.
    """
    name = path.parent.resolve().name
    header, rows = _read_cells(path)
    problems = [
        RowProblem(1, column, f"expected one of {', '.join(COLUMNS)}, got {column!r}; rename or remove it")
        for column in dict.fromkeys(header)
        if column not in COLUMNS
    ]
    problems += [
        RowProblem(1, column, "the column is there twice; remove one")
        for column in COLUMNS
        if header.count(column) > 1
    ]
    modality = _find_modality(name, [row.get("modality", "") for _, row in rows])
    reader = _RowReader(path.parent, root or path.parent, modality)
    images = []
    for number, row in rows:
        image = reader.read(number, row)
        if image is not None:
            images.append(image)
    known = KNOWN.get(name)
    collection = Collection(
        name=name,
        modality=modality,
        images=tuple(images),
        title=known.title if known else name,
        source=known.source if known else _UNKNOWN_SOURCE,
        licence=known.licence if known else _UNKNOWN_LICENCE,
    )
    return collection, (*problems, *reader.problems)


class _RowReader:
    """Turns rows into images, and keeps what is wrong."""

    def __init__(self, folder: Path, root: Path, modality: Modality) -> None:
        self.problems: list[RowProblem] = []
        self._folder = folder
        self._prefix = folder.relative_to(root)
        self._modality = modality
        self._row_of: dict[str, int] = {}

    def read(self, number: int, row: dict[str, str]) -> CollectionImage | None:
        before = len(self.problems)
        self._number = number
        if "" in row:
            self._report(
                "", f"the row has more cells than the header: {row['']!r}; put a cell with commas in quotes"
            )
        file = self._read_file(row, "file", needed=True)
        label = self._read_label(row.get("label", ""))
        boxes = self._read_boxes(row.get("boxes", ""))
        lesions, lungs = (self._read_file(row, column) for column in ("lesion_mask", "lung_mask"))
        self._check_modality(row.get("modality", ""))
        if file is not None:
            first = self._row_of.setdefault(row["file"], number)
            if first != number:
                self._report("file", f"{row['file']!r} is in row {first} already; keep one of them")
        if file is None or len(self.problems) > before:
            return None
        return CollectionImage(
            path=file,
            name=(self._prefix / row["file"]).as_posix(),
            modality=self._modality,
            label=label,
            patient=row.get("patient", ""),
            site=row.get("site", ""),
            view=row.get("view", ""),
            boxes=boxes,
            lesion_mask=lesions,
            lung_mask=lungs,
            row=number,
        )

    def _report(self, column: str, message: str) -> None:
        self.problems.append(RowProblem(self._number, column, message))

    def _read_file(self, row: dict[str, str], column: str, *, needed: bool = False) -> Path | None:
        text = row.get(column, "")
        if not text:
            if needed:
                self._report(column, "is empty; name an image inside the manifest's folder")
            return None
        inside = PurePosixPath(text)
        if (
            "\\" in text
            or "\0" in text
            or inside.is_absolute()
            or ".." in inside.parts
            or ":" in inside.parts[0]
        ):
            self._report(column, f"expected a path inside the manifest's folder, with /, got {text!r}")
            return None
        path = self._folder / inside
        if not path.is_file():
            self._report(
                column, f"{text!r} is not there; copy the file or correct the name (letter case counts)"
            )
            return None
        return path

    def _read_label(self, text: str) -> int | None:
        if text in CLASSES:
            return CLASSES.index(text)
        if text != OTHER:
            self._report("label", f"expected {', '.join(CLASSES)} or {OTHER}, got {text!r}")
        return None

    def _read_boxes(self, text: str) -> tuple[Box, ...]:
        if not text:
            return ()
        try:
            return parse_boxes(text)
        except ValueError as error:
            self._report("boxes", str(error))
            return ()

    def _check_modality(self, text: str) -> None:
        if text and text not in MODALITIES:
            self._report("modality", f"expected {' or '.join(MODALITIES)}, got {text!r}")
        elif text and text != self._modality:
            self._report(
                "modality",
                f"is {text}, other rows are {self._modality}; give CT and X-ray a folder and a manifest each",
            )


def parse_boxes(text: str) -> tuple[Box, ...]:
    """Boxes from a JSON list of x0, y0, x1, y1, fractions of width and height.

    Raises:
        ValueError: saying what was expected and what came.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected a JSON list of boxes, for example [[0.1, 0.2, 0.4, 0.6]], got {_shorten(text)}"
        ) from error
    if not isinstance(values, list):
        raise ValueError(
            f"expected a list of boxes, for example [[0.1, 0.2, 0.4, 0.6]], got {_shorten(text)}"
        )
    return tuple(_check_box(value) for value in values)


def _check_box(value: object) -> Box:
    shown = _shorten(json.dumps(value))
    if (
        not isinstance(value, list)
        or len(value) != 4
        or any(isinstance(side, bool) or not isinstance(side, (int, float)) for side in value)
    ):
        raise ValueError(f"expected four numbers x0, y0, x1, y1 a box, got {shown}")
    x0, y0, x1, y1 = box = cast(Box, tuple(float(side) for side in value))
    if not all(math.isfinite(side) and -BOX_MARGIN <= side <= 1 + BOX_MARGIN for side in box):
        raise ValueError(
            f"expected fractions of width and height, 0 to 1, got {shown}; divide pixels by the image's size"
        )
    if min(x1, 1) <= max(x0, 0) or min(y1, 1) <= max(y0, 0):
        raise ValueError(f"expected x0 < x1 and y0 < y1, got {shown}; the order is x0, y0, x1, y1")
    return cast(Box, tuple(min(max(side, 0.0), 1.0) for side in box))


def _find_modality(name: str, cells: list[str]) -> Modality:
    """The first modality in the column, else the known collection's, else the folder name's end."""
    stated = next((modality for cell in cells for modality in MODALITIES if cell == modality), None)
    if stated is not None:
        return stated
    if name in KNOWN:
        return KNOWN[name].modality
    ending = next((modality for modality in MODALITIES if name.endswith(f"-{modality}")), None)
    if ending is None:
        raise DataError(
            f"Nothing says whether {name}/{MANIFEST} lists CT or X-ray images; add a column modality with ct or"
            f" xray, or name the folder {name}-ct or {name}-xray."
        )
    return ending


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each row that isn't empty with its number, cells stripped; "" holds cells too many."""
    title = f"{path.parent.name}/{path.name}"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{title} can't be read as a CSV file in UTF-8; save it as CSV UTF-8 (comma delimited)."
        ) from error
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    while header and not header[-1]:
        header.pop()
    absent = [column for column in REQUIRED if column not in header]
    if absent:
        is_ours = any(column in re.split(r"[;,\t]", ",".join(header)) for column in REQUIRED)
        raise (DataError if is_ours else NotOurManifest)(
            f"{title} has no column {' and '.join(absent)}; expected a header of {','.join(COLUMNS[:-1])} (the first"
            " two are needed), separated by commas."
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        row = dict(zip(header, cells, strict=False))
        if extra := [cell for cell in cells[len(header) :] if cell]:
            row[""] = _shorten(",".join(extra))
        rows.append((number, row))
    return header, rows


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
