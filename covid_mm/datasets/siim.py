"""SIIM-FISABIO-RSNA COVID-19 (xray) as the Kaggle competition packs it: two CSV files and `train/`.

Layout: `train_study_level.csv`, `train_image_level.csv`, `train/<study>/<series>/<image>.dcm`.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import CLASSES, POSITIVE
from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.datasets.manifest import KNOWN, Box, RowProblem
from covid_mm.errors import DataError, ImageError
from covid_mm.imaging import read_frame

STUDIES, IMAGES, FILMS = "train_study_level.csv", "train_image_level.csv", "train"
NAME = "siim-covid19"
NEGATIVE, TYPICAL = "Negative for Pneumonia", "Typical Appearance"
_FINDINGS = (NEGATIVE, TYPICAL, "Indeterminate Appearance", "Atypical Appearance")


@dataclass(frozen=True)
class FileProblem:
    """A row's problem, and the file that it stands in."""

    file: str
    problem: RowProblem


def is_siim(folder: Path) -> bool:
    """Whether the folder holds the competition's two tables."""
    return (folder / STUDIES).is_file() and (folder / IMAGES).is_file()


def read_siim(folder: Path, root: Path | None = None) -> tuple[Collection, tuple[FileProblem, ...]]:
    """The competition's training films with their study's label, and every problem, row by row.

    Negative studies are normal, typical ones COVID-19, all others neither. Boxes become fractions by the
    size in the film's header; `site` is that size, rows x columns, a proxy of the detector.

    Raises:
        DataError: a table is malformed.
    """
    problems: list[FileProblem] = []
    labels: dict[str, int | None] = {}
    for number, row in _read_rows(folder / STUDIES, ("id", *_FINDINGS)):
        marked = [finding for finding in _FINDINGS if row[finding] in ("1", "1.0")]
        if len(marked) != 1:
            message = f"expected a 1 in exactly one of {', '.join(_FINDINGS)}, got {len(marked)}"
            problems.append(FileProblem(STUDIES, RowProblem(number, "", message)))
            continue
        labels[row["id"].removesuffix("_study")] = {NEGATIVE: 0, TYPICAL: POSITIVE}.get(marked[0])
    images: list[CollectionImage] = []
    for number, row in _read_rows(folder / IMAGES, ("id", "boxes", "StudyInstanceUID")):
        column = "StudyInstanceUID"
        try:
            study = row[column]
            if study not in labels:
                raise ValueError(f"the study {study!r} has no label in {STUDIES}")
            column = "id"
            path = _find_film(folder / FILMS, study, row["id"].removesuffix("_image"))
            frame = read_frame(path)
            column = "boxes"
            boxes = _read_boxes(row["boxes"], frame.columns, frame.rows)
        except (ValueError, ImageError) as error:
            problems.append(FileProblem(IMAGES, RowProblem(number, column, str(error))))
            continue
        images.append(
            CollectionImage(
                path=path,
                name=path.relative_to(root or folder).as_posix(),
                modality="xray",
                label=labels[study],
                patient=frame.patient,
                site=f"{frame.rows}x{frame.columns}",
                row=number,
                boxes=boxes if labels[study] != CLASSES.index("normal") else (),
            )
        )
    known = KNOWN[NAME]
    collection = Collection(NAME, "xray", tuple(images), known.title, known.source, known.licence)
    return collection, tuple(problems)


def _find_film(folder: Path, study: str, image: str) -> Path:
    if not study.isalnum() or not image.isalnum():
        raise ValueError(
            f"expected letters and digits in the study and the image, got {study!r} and {image!r}"
        )
    films = sorted((folder / study).glob(f"*/{image}.dcm"))
    if not films:
        raise ValueError(f"{FILMS}/{study}/*/{image}.dcm is not there; unzip the archive again")
    return films[0]


def _read_boxes(text: str, width: int, height: int) -> tuple[Box, ...]:
    """Fractions of width and height, at most 0 to 1, from a Python list of dicts in pixels."""
    if text in ("", "nan"):
        return ()
    try:
        boxes = []
        for part in ast.literal_eval(text):
            x, y, wide, high = (float(part[key]) for key in ("x", "y", "width", "height"))
            sides = (x / width, y / height, (x + wide) / width, (y + high) / height)
            x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in sides)
            if not (x0 < x1 and y0 < y1):
                raise ValueError
            boxes.append((x0, y0, x1, y1))
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(
            "expected a list of {'x', 'y', 'width', 'height'} in pixels inside the film"
        ) from error
    return tuple(boxes)


def _read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [column for column in columns if column not in (reader.fieldnames or ())]
            if absent:
                raise DataError(f"{path.name} has no column {', '.join(absent)}; download it again.")
            for number, row in enumerate(reader, start=2):
                yield number, {column: (row[column] or "").strip() for column in columns}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name} can't be read as a CSV file in UTF-8; download it again.") from error
