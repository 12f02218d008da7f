"""Plain folders: `ct/{normal,covid19_pneumonia}` and `xray/{normal,covid19_pneumonia}`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from covid_mm.config import CLASSES, MODALITIES, MODALITY_TITLES
from covid_mm.datasets.index import (
    Dataset,
    ImageRecord,
    child_folder,
    list_images,
    require_both_classes,
)

CAVEATS = (
    "Nothing is known about patients: in a grouped split each image is its own group.",
    "CT and X-ray are paired by class, not by patient, which flatters the fused answer.",
)


def find_plain_folders(folders: Iterable[Path]) -> list[Dataset]:
    """A data set for each modality folder in `folders` that holds a class folder with images.

    Raises:
        DataError: where only one of the two classes has images.
    """
    found = []
    for folder in folders:
        for modality in MODALITIES:
            modality_folder = child_folder(folder, modality)
            if modality_folder is None:
                continue
            records = tuple(
                ImageRecord(path, modality, label, f"{name}/{path.name}")
                for label, name in enumerate(CLASSES)
                for path in list_images(modality_folder / name)
            )
            if not records:
                continue
            require_both_classes(records, f"The folder {modality}/")
            found.append(
                Dataset(
                    name=f"{MODALITY_TITLES[modality]} folders",
                    modality=modality,
                    records=records,
                    licence="not known",
                    caveats=CAVEATS,
                    source=f"plain folders {modality}/{{{','.join(CLASSES)}}}",
                )
            )
    return found
