"""SARS-CoV-2 CT-scan data set (Soares et al. 2020), as Kaggle unzips it: `COVID/` and `non-COVID/`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from covid_mm.config import DataConfig
from covid_mm.datasets.index import Dataset, ImageRecord, child_folder, choose_balanced, list_images

FOLDERS = ("non-COVID", "COVID")  # in the order of CLASSES

CAVEATS = (
    "The data set has no patient table: neighbouring file numbers are often slices of one patient, so a"
    " random split shows the network patients in training that it is then validated on.",
    "Some slices are exact or near copies of others.",
    "The negatives are people without COVID-19, whose lungs are not necessarily healthy.",
    "CT and X-ray are paired by class, not by patient, which flatters the fused answer.",
)


def find_sarscov2(folders: Iterable[Path], config: DataConfig) -> list[Dataset]:
    """A data set for each of `folders` that holds both class folders with images in them."""
    datasets = []
    for folder in folders:
        classes = [child_folder(folder, name) for name in FOLDERS]
        records = tuple(
            ImageRecord(path, "ct", label, f"{FOLDERS[label]}/{path.name}")
            for label, class_folder in enumerate(classes)
            if class_folder is not None
            for path in list_images(class_folder)
        )
        if {record.label for record in records} != {0, 1}:
            continue
        if config.balance:
            records = choose_balanced(records, config.seed, proportional=False)
        datasets.append(
            Dataset(
                name="SARS-CoV-2 CT-scan",
                modality="ct",
                records=records,
                licence="CC BY-NC-SA 4.0",
                caveats=CAVEATS,
                source="https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
                in_order=True,
            )
        )
    return datasets
