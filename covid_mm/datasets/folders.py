"""Plain folders: `ct/{normal,covid19_pneumonia}` and `xray/{normal,covid19_pneumonia}`; class folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from covid_mm.config import CLASSES, MODALITIES, DataConfig, Modality
from covid_mm.datasets.index import (
    Dataset,
    ImageRecord,
    child_folder,
    list_images,
    require_both_classes,
)
from covid_mm.datasets.sarscov2 import find_sarscov2
from covid_mm.errors import DataError

# What `find_class_folders` takes, the first of each class that is there, in the order of CLASSES.
CLASS_FOLDERS = (("normal", "non-covid", "non-COVID"), ("covid19_pneumonia", "covid-19", "COVID"))

CAVEATS = (
    "Nothing is known about patients: in a grouped split each image is its own group.",
    "CT and X-ray are paired by class, not by patient, which flatters the fused answer.",
)


def find_plain_folders(folders: Iterable[Path]) -> list[Dataset]:
    """A data set for each modality folder in `folders` that holds a class folder with images.

    Raises:
        DataError: where only one of the two classes has images.
    """
    datasets = []
    for folder in folders:
        for modality in MODALITIES:
            modality_folder = child_folder(folder, modality)
            if modality_folder is None:
                continue
            records = _read_classes(modality_folder, modality, CLASSES)
            if not records:
                continue
            require_both_classes(records, f"The folder {modality}/")
            datasets.append(_make_dataset(_plain_name(modality), modality, records, f"{modality}/", CLASSES))
    return datasets


def find_class_folders(folder: Path, modality: Modality) -> Dataset:
    """The images of one modality whose class folders lie right in `folder`, for measuring on them.

    Taken are the folders of CLASS_FOLDERS: `normal/`, `non-covid/` or `non-COVID/`, and
    `covid19_pneumonia/`, `covid-19/` or `COVID/`. The SARS-CoV-2 CT-scan data set and the plain
    folders go under the same name as in `find_datasets`, so that images a network was trained on
    are known as such; any other set goes under its folder's name.

    Raises:
        DataError: where a class folder is missing or holds no image.
    """
    folder = Path(folder).resolve()
    known = find_sarscov2([folder], DataConfig())
    if known and known[0].modality == modality:
        return known[0]
    names = [
        next((name for name in choices if child_folder(folder, name) is not None), None)
        for choices in CLASS_FOLDERS
    ]
    normal, positive = names
    if normal is None or positive is None:
        expected = " and ".join(
            f"{', '.join(f'{name}/' for name in choices[:-1])} or {choices[-1]}/" for choices in CLASS_FOLDERS
        )
        raise DataError(f"{folder.name} does not hold a folder for each class: expected {expected}.")
    records = _read_classes(folder, modality, (normal, positive))
    require_both_classes(records, f"The folder {folder.name}")
    name = _plain_name(modality) if (normal, positive) == CLASSES else folder.name
    return _make_dataset(name, modality, records, f"{folder.name}/", (normal, positive))


def _plain_name(modality: Modality) -> str:
    return f"{MODALITIES[modality].title} folders"


def _read_classes(folder: Path, modality: Modality, names: tuple[str, ...]) -> tuple[ImageRecord, ...]:
    return tuple(
        ImageRecord(path, modality, label, f"{name}/{path.name}")
        for label, name in enumerate(names)
        if (class_folder := child_folder(folder, name)) is not None
        for path in list_images(class_folder)
    )


def _make_dataset(
    name: str, modality: Modality, records: tuple[ImageRecord, ...], path: str, classes: tuple[str, ...]
) -> Dataset:
    return Dataset(
        name=name,
        modality=modality,
        records=records,
        licence="not known",
        caveats=CAVEATS,
        source=f"plain folders {path}{{{','.join(classes)}}}",
    )
