"""Data folders in the layouts that Kaggle unzips, with small made-up images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from covid_mm.config import Modality
from covid_mm.datasets import Dataset, ImageRecord
from covid_mm.datasets.manifest import COLUMNS as MANIFEST_COLUMNS

COLUMNS = (
    "",
    "X_ray_image_name",
    "Label",
    "Dataset_type",
    "Label_2_Virus_category",
    "Label_1_Virus_category",
)


def write_image(path: Path, seed: int, size: int = 16) -> Path:
    """Noise, uint8 (size, size), different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write_sarscov2(folder: Path, normal: int = 12, positive: int = 11) -> None:
    """`COVID/` and `non-COVID/` in `folder`."""
    for number in range(1, normal + 1):
        write_image(folder / "non-COVID" / f"Non-Covid ({number}).png", number)
    for number in range(1, positive + 1):
        write_image(folder / "COVID" / f"Covid ({number}).png", 1000 + number)


def write_coronahack(
    folder: Path,
    rows: Sequence[tuple[str, str, str, str]],
    nested: str = "Coronahack-Chest-XRay-Dataset/Coronahack-Chest-XRay-Dataset",
    absent: Sequence[str] = (),
) -> None:
    """The CSV file with `rows` (name, label, subset, virus) and, but for `absent`, their films."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "Chest_xray_Corona_Metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, (name, label, subset, virus) in enumerate(rows):
            writer.writerow([number, name, label, subset, virus, ""])
            if name not in absent:
                write_image(folder / nested / subset.lower() / name, number)


def film_rows(normal: int = 8, positive: int = 8, subset: str = "TRAIN") -> list[tuple[str, str, str, str]]:
    """Rows of single-film patients, every fourth positive one COVID-19."""
    rows = [(f"IM-{number:04}-0001.jpeg", "Normal", subset, "") for number in range(normal)]
    return rows + [
        (f"person{number}_virus_{number}.jpeg", "Pnemonia", subset, "" if number % 4 else "COVID-19")
        for number in range(positive)
    ]


def make_dataset(
    counts: tuple[int, int], modality: Modality = "ct", groups: Sequence[str | None] | None = None
) -> Dataset:
    """A data set of records without files."""
    labels = [0] * counts[0] + [1] * counts[1]
    records = tuple(
        ImageRecord(
            Path(f"{number}.png"),
            modality,
            label,
            f"{label}/{number}.png",
            groups[number] if groups else None,
        )
        for number, label in enumerate(labels)
    )
    return Dataset("made-up", modality, records, "none", ("made up",), "a test")


def write_manifest(folder: Path, rows: Sequence[dict[str, str]], absent: Sequence[str] = ()) -> Path:
    """`manifest.csv` with `rows` and, but for `absent` and names that no image may have, their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, MANIFEST_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    for seed, row in enumerate(rows):
        for column in ("file", "lesion_mask", "lung_mask"):
            name = row.get(column, "")
            if name and name not in absent and not name.startswith(("..", "/")):
                write_image(folder / name, seed)
    return folder
