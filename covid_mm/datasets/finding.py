"""Which data sets lie under a folder."""

from __future__ import annotations

from pathlib import Path

from covid_mm.config import MODALITIES, DataConfig, Modality
from covid_mm.datasets.coronahack import METADATA, find_coronahack
from covid_mm.datasets.folders import find_plain_folders
from covid_mm.datasets.index import Dataset, walk_folders
from covid_mm.datasets.sarscov2 import find_sarscov2
from covid_mm.errors import DataError


def find_datasets(root: Path, config: DataConfig) -> dict[Modality, Dataset]:
    """The data sets under `root`, at most one per modality; a modality without images is left out.

    Recognised are the SARS-CoV-2 CT-scan data set, CoronaHack, and plain folders, each where
    Kaggle's archives put them: at the root itself or up to three folders deeper.

    Raises:
        DataError: where `root` is no folder, holds none, or holds two for one modality.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"The data folder {root} does not exist; give the folder that holds the data sets.")
    folders = list(walk_folders(root))
    all_datasets = [
        *find_sarscov2(folders, config),
        *find_coronahack(folders, config),
        *find_plain_folders(folders),
    ]
    if not all_datasets:
        raise DataError(
            f"No data set was found in {root}: expected the folders COVID/ and non-COVID/ (SARS-CoV-2"
            f" CT-scan), {METADATA} with its films (CoronaHack), or ct/ and xray/ with normal/ and"
            " covid19_pneumonia/ in each."
        )
    datasets: dict[Modality, Dataset] = {}
    for modality in MODALITIES:
        candidates = [dataset for dataset in all_datasets if dataset.modality == modality]
        if len(candidates) > 1:
            names = " and ".join(dataset.name for dataset in candidates)
            raise DataError(
                f"More than one {MODALITIES[modality].title} data set lies in {root}: {names}; give a folder"
                " that holds one."
            )
        if candidates:
            datasets[modality] = candidates[0]
    return datasets
