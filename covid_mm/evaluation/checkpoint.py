"""A published checkpoint measured on images with known answers, found again under a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.config import MODALITIES, DataConfig, Modality
from covid_mm.datasets import (
    Dataset,
    ImageRecord,
    Split,
    find_class_folders,
    find_datasets,
    load_images,
    split_dataset,
)
from covid_mm.errors import CheckpointError, DataError
from covid_mm.evaluation.heads import compute_pooled, predict_heads, report_heads, summarise_predictions
from covid_mm.evaluation.report import BinaryReport
from covid_mm.models.lung_segmenter import LungSegmenter
from covid_mm.models.network import Network
from covid_mm.serving.metadata import Metadata
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.crops import read_records


@dataclass(frozen=True)
class Evaluation:
    """Reports by head, which images they are of, by modality, and what meta.json says of the answers."""

    reports: dict[str, BinaryReport]
    images: dict[str, str]
    answers: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"images": self.images, "metrics": {h: report.to_dict() for h, report in self.reports.items()}}


def find_images(folders: dict[str, Path], meta: Metadata) -> dict[Modality, Dataset]:
    """The data sets that the checkpoint can read; CoronaHack chosen as in its training.

    folders: `data`, the folder of several sets, or a folder of two classes per modality.
    """
    config = read_data_config(meta)
    if "data" in folders:
        datasets = find_datasets(folders["data"], config)
    else:
        datasets = {m: find_class_folders(folders[m], m) for m in MODALITIES if m in folders}
    readable = {m: dataset for m, dataset in datasets.items() if m in meta.network.modalities}
    if not readable:
        raise DataError(
            f"{' and '.join(folder.name for folder in folders.values())} holds no images of a modality that"
            f" checkpoint {meta.name} reads ({', '.join(meta.network.modalities)}); name another folder or checkpoint."
        )
    return readable


def read_data_config(meta: Metadata) -> DataConfig:
    """How the checkpoint's images were chosen and divided. Raises CheckpointError."""
    try:
        split = meta.raw["split"]
        return DataConfig(
            split=split["protocol"], seed=int(split["seed"]), positives=split.get("positives", "pneumonia")
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The meta.json of checkpoint {meta.name} does not say how its images were divided ({error}), so"
            " training images cannot be told apart; train again or put back the published one."
        ) from error


def evaluate_checkpoint(
    network: Network,
    meta: Metadata,
    datasets: dict[Modality, Dataset],
    segmenter: LungSegmenter | None = None,
) -> Evaluation:
    """Report every head that the images allow; images without lungs are left out and counted.

    Of a data set that the checkpoint was trained on, only the validation side of its split is
    used. segmenter: the checkpoint's, where it reads lungs. Raises DataError where the sides of the
    split cannot be told apart.
    """
    samples: dict[Modality, ModalitySamples] = {}
    images: dict[str, str] = {}
    for modality, dataset in datasets.items():
        records, images[modality] = choose_records(meta, dataset)
        labels = np.array([record.label for record in records], dtype=np.int64)
        read, has_lungs = read_records(records, modality, segmenter, network.config.image_size)
        if not has_lungs.all():
            images[modality] += f"; {int((~has_lungs).sum())} of them left out, no lungs were found"
        samples[modality] = ModalitySamples(read[has_lungs], labels[has_lungs])
    seed = int(meta.raw["seed"])
    features = compute_pooled(network, samples)
    outputs = predict_heads(network, samples, seed=seed, features=features)
    outputs = {head: part.shifted(meta.offset[head]) for head, part in outputs.items()}
    answers = summarise_predictions(
        network, samples, features, outputs, meta.temperature, meta.threshold, seed=seed
    )
    return Evaluation(report_heads(outputs, meta.temperature, meta.threshold), images, answers)


@dataclass(frozen=True)
class Sides:
    """A checkpoint's own images, by modality: of both sides of its split, and their data sets' names."""

    training: dict[Modality, ModalitySamples]
    validation: dict[Modality, ModalitySamples]
    names: dict[Modality, str]


def gather_sides(meta: Metadata, datasets: dict[Modality, Dataset]) -> Sides:
    """The images that a checkpoint was trained and measured on, decoded.

    Raises DataError for any other data set, or the same one with other images.
    """
    sides: tuple[dict[Modality, ModalitySamples], dict[Modality, ModalitySamples]] = ({}, {})
    for modality, dataset in datasets.items():
        split = find_split(meta, dataset)
        if split is None:
            raise DataError(
                f"Checkpoint {meta.name} was not trained on {dataset.name}; name the folder of its own data sets."
            )
        for side, records in zip(sides, (split.train, split.validation), strict=True):
            labels = np.array([record.label for record in records], dtype=np.int64)
            side[modality] = ModalitySamples(load_images(records), labels)
    return Sides(*sides, names={m: dataset.name for m, dataset in datasets.items()})


def choose_records(meta: Metadata, dataset: Dataset) -> tuple[tuple[ImageRecord, ...], str]:
    """The images to measure on: the validation side of a known data set, all of any other."""
    split = find_split(meta, dataset)
    if split is None:
        return dataset.records, f"all {len(dataset.records)} images of {dataset.name}, never trained on"
    return split.validation, f"the {len(split.validation)} validation images of {dataset.name}"


def find_split(meta: Metadata, dataset: Dataset) -> Split | None:
    """How the checkpoint's training divided a data set; None for one it was not trained on.

    Raises DataError where the set's images are not those of the training.
    """
    known = [
        part
        for part in meta.raw["data"]
        if dataset.name in (part["name"], part.get("title")) and part.get("split_hash")
    ]
    if not known:
        return None
    config = read_data_config(meta)
    needed = load_images(dataset.records) if config.split == "grouped" else None
    split = split_dataset(dataset, config, needed)
    if split.hash != known[0]["split_hash"]:
        raise DataError(
            f"{dataset.name} is here with other images than checkpoint {meta.name} was trained on, so training"
            " and validation images cannot be told apart; use the whole data set as Kaggle unzips it."
        )
    return split
