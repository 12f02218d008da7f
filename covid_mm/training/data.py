"""The images of a training: found, checked, split and decoded."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covid_mm.config import CLASSES, MODALITIES, DataConfig, Modality
from covid_mm.datasets import (
    Dataset,
    Split,
    check_readable,
    find_datasets,
    load_images,
    save_split,
    split_dataset,
)
from covid_mm.datasets.phantoms import write_phantoms
from covid_mm.errors import DataError
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.plan import TrainingPlan
from covid_mm.training.run import RunFolder


@dataclass(frozen=True)
class TrainingData:
    """The images of a training: data sets, splits, and decoded samples of both sides, a modality."""

    datasets: dict[Modality, Dataset]
    splits: dict[Modality, Split]
    training: dict[Modality, ModalitySamples]
    validation: dict[Modality, ModalitySamples]

    def choose(self, modalities: tuple[Modality, ...]) -> TrainingData:
        """The same images of these modalities only."""
        return TrainingData(
            *({m: part[m] for m in modalities} for part in (self.datasets, self.splits)),  # type: ignore[arg-type]
            *({m: side[m] for m in modalities} for side in (self.training, self.validation)),  # type: ignore[arg-type]
        )


def gather_training_data(plan: TrainingPlan, folder: RunFolder) -> TrainingData:
    """Find, check, split and decode the images. Raises DataError naming all unreadable files at once."""
    cache = folder.path.parent / "cache"
    if plan.data_root is None:
        root = cache / f"phantoms-{plan.synthetic_per_class}-{plan.data.seed}"
        make_phantoms(root, plan)
    else:
        root = Path(plan.data_root)
    available = find_datasets(root, plan.data)
    missing = [m for m in plan.network.modalities if m not in available]
    if missing:
        raise DataError(
            f"{root} holds no {' and no '.join(MODALITIES[m].title for m in missing)} images;"
            " docs/data.md shows the folders that are expected."
        )
    datasets = {m: available[m] for m in plan.network.modalities}
    check_readable([record for dataset in datasets.values() for record in dataset.records])
    size = plan.network.image_size
    splits: dict[Modality, Split] = {}
    sides: dict[str, dict[Modality, ModalitySamples]] = {"train": {}, "validation": {}}
    for modality, dataset in datasets.items():
        images = load_images(dataset.records, size=size, cache=cache, progress=True)
        split = split_dataset(dataset, plan.data, images)
        splits[modality] = split
        row_of = {record.name: row for row, record in enumerate(dataset.records)}
        for side, records in (("train", split.train), ("validation", split.validation)):
            rows = [row_of[record.name] for record in records]
            labels = np.array([record.label for record in records], dtype=np.int64)
            sides[side][modality] = ModalitySamples(np.ascontiguousarray(images[rows]), labels)
        print(describe_division(dataset, split, plan.data))
    folder.path.mkdir(parents=True, exist_ok=True)
    save_split(folder.path / "split.json", splits)
    return TrainingData(datasets, splits, sides["train"], sides["validation"])


def describe_division(dataset: Dataset, split: Split, data: DataConfig) -> str:
    """One line: how many images of each class train and validate."""
    counts = [
        [sum(record.label == label for record in side) for label in range(len(CLASSES))]
        for side in (split.train, split.validation)
    ]
    (train_normal, train_positive), (normal, positive) = counts
    return (
        f"{dataset.name}: {len(dataset.records)} images; training {train_normal} normal + {train_positive}"
        f" positive, validation {normal} + {positive} ({data.split} split, seed {data.seed})"
    )


def make_phantoms(root: Path, plan: TrainingPlan) -> None:
    """Draw the phantom studies once; a half-written folder never takes the final name."""
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".phantoms-", dir=root.parent))
    print(f"drawing {2 * plan.synthetic_per_class} phantom studies", flush=True)
    write_phantoms(temporary, per_class=plan.synthetic_per_class, seed=plan.data.seed)
    temporary.rename(root)
