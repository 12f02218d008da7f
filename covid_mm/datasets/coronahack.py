"""CoronaHack chest X-ray data set, as Kaggle unzips it: a CSV file and `train/`, `test/`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from covid_mm.config import DataConfig
from covid_mm.datasets.index import (
    Dataset,
    ImageRecord,
    child_folder,
    choose_balanced,
    require_both_classes,
)
from covid_mm.errors import DataError, UsageError

METADATA = "Chest_xray_Corona_Metadata.csv"
IMAGES_FOLDER = "Coronahack-Chest-XRay-Dataset"
SUBSETS = {"TRAIN": "train", "TEST": "test"}  # `Dataset_type` -> folder
LABELS = {"Normal": 0, "Pnemonia": 1, "Pneumonia": 1}  # the data set spells it the first way
COVID19 = "COVID-19"  # in `Label_2_Virus_category`
_COLUMNS = ("X_ray_image_name", "Label", "Dataset_type")
_NAMED_AT_MOST = 10
_KERMANY_NAME = re.compile(r"(person\d+(?=_)|(?:NORMAL\d*-)?IM-\d+(?=-))")
_ARTICLE_NAME = re.compile(r"(1-s2\.0-S\w+|SARS-10\.\d+rg\.\d+|(?:kjr|jkms)-\d+-e\d+|\d+_\d+_\d+(?=_Fig))")
_SERIES_NAME = re.compile(r"(.+?)(?:-day\d+|-[a-d]\d?)\.\w+$")  # days of one patient, panels of one figure

CAVEATS = (
    "The positives are what the paper calls COVID-19 pneumonia, yet most of them are bacterial and viral"
    " pneumonia from before COVID-19; only some fifty films are COVID-19.",
    "Most films, normal and pneumonia alike, are of children of one to five years.",
    "The COVID-19 films come from other hospitals than the normal films: a network can learn the source"
    " instead of the disease.",
    "Patients have several films; a random split puts films of one patient on both sides.",
    "CT and X-ray are paired by class, not by patient, which flatters the fused answer.",
)


@dataclass(frozen=True)
class _Row:
    file: str
    label: int
    subset: str
    is_covid19: bool


def find_coronahack(folders: Iterable[Path], config: DataConfig) -> list[Dataset]:
    """A data set for each of `folders` that holds the metadata file and, in or below it, the films.

    Films that the CSV lists in TRAIN and TEST are both used; where the whole folder of a subset is
    missing, its rows are left out and a caveat says how many.

    Raises:
        DataError: where the CSV file is malformed, or films of a subset that is there are missing.
    """
    return [_read_dataset(folder, config) for folder in folders if (folder / METADATA).is_file()]


def read_patient(file: str) -> str | None:
    """The patient, study or article that a film's name carries, None where it carries none.

    `person1000_bacteria_2931.jpeg` is `person1000`. Half of the numbers occur with `_bacteria_` and
    `_virus_`; such films are no more alike than strangers' (median correlation 0.70 and 0.69), so
    they are probably two numberings, but they are kept together to be safe. `IM-0115-0001.jpeg` is
    study `IM-0115`; `NORMAL2-IM-0115-0001.jpeg` is another one, of other films by the same measure.
    Of the films from publications, those of one article or one series are kept together.
    """
    match = _KERMANY_NAME.match(file) or _ARTICLE_NAME.match(file) or _SERIES_NAME.match(file)
    return match[1] if match else None


def read_source(file: str) -> str:
    """Whether a film's name is one of Kermany et al. (one hospital) or of the collected ones."""
    return "Kermany et al., Guangzhou" if _KERMANY_NAME.match(file) else "publications and web pages"


def _read_dataset(folder: Path, config: DataConfig) -> Dataset:
    rows = _read_rows(folder / METADATA)
    subsets = _find_subsets(folder)
    if not subsets:
        raise DataError(
            f"{METADATA} is there, but not the films: expected the folder {IMAGES_FOLDER} with train/ or"
            " test/ beside it; unzip the whole archive."
        )
    caveats = list(CAVEATS)
    for subset in SUBSETS.values():
        absent = sum(row.subset == subset for row in rows)
        if subset not in subsets and absent:
            caveats.append(f"{absent} films of the folder {subset}/ are listed but the folder is not there.")
    rows = [row for row in rows if row.subset in subsets]
    missing = [f"{row.subset}/{row.file}" for row in rows if not (subsets[row.subset] / row.file).is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
        raise DataError(
            f"{len(missing)} films that {METADATA} lists are missing: {', '.join(missing[:_NAMED_AT_MOST])}"
            f"{more}; unzip the archive again."
        )
    if config.positives not in ("pneumonia", "covid-19"):
        raise UsageError(f"Expected positives pneumonia or covid-19, but got {config.positives!r}.")
    if config.positives == "covid-19":
        rows = [row for row in rows if row.label == 0 or row.is_covid19]
    records = tuple(
        ImageRecord(
            path=subsets[row.subset] / row.file,
            modality="xray",
            label=row.label,
            name=f"{row.subset}/{row.file}",
            group=read_patient(row.file),
            source=read_source(row.file),
        )
        for row in rows
    )
    require_both_classes(records, "CoronaHack")
    if config.balance:
        records = choose_balanced(records, config.seed, proportional=True)
    return Dataset(
        name="CoronaHack chest X-ray",
        modality="xray",
        records=records,
        licence="CC BY 4.0 (Kermany et al. films)",
        caveats=tuple(caveats),
        source="https://www.kaggle.com/datasets/praveengovi/coronahack-chest-xraydataset",
    )


def _find_subsets(folder: Path) -> dict[str, Path]:
    """Subset folders by name, at whatever depth Kaggle's doubled folder puts them."""
    path: Path | None = folder
    while path is not None:
        folders = {name: child_folder(path, name) for name in SUBSETS.values()}
        present = {name: path for name, path in folders.items() if path is not None and any(path.iterdir())}
        if present:
            return present
        path = child_folder(path, IMAGES_FOLDER)
    return {}


def _read_rows(path: Path) -> list[_Row]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if absent:
                raise DataError(f"{METADATA} has no column {', '.join(absent)}; download it again.")
            rows: dict[tuple[str, str], _Row] = {}
            for number, row in enumerate(reader, start=2):
                parsed = _parse_row(row, number)
                if rows.setdefault((parsed.subset, parsed.file), parsed) != parsed:
                    raise DataError(f"{METADATA} lists {parsed.file} twice with different labels.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{METADATA} can't be read as a CSV file in UTF-8; download it again.") from error
    return list(rows.values())


def _parse_row(row: dict[str, str | None], number: int) -> _Row:
    file, label, subset = ((row[column] or "").strip() for column in _COLUMNS)
    if label not in LABELS or subset not in SUBSETS:
        raise DataError(
            f"{METADATA}, line {number}: expected a Label of {', '.join(LABELS)} and a Dataset_type of"
            f" {', '.join(SUBSETS)}, got {label!r} and {subset!r}."
        )
    if not file or file.startswith(".") or "/" in file or "\\" in file:
        raise DataError(f"{METADATA}, line {number}: {file!r} is not a file name.")
    virus = (row.get("Label_2_Virus_category") or "").strip()
    return _Row(file, LABELS[label], SUBSETS[subset], virus == COVID19)
