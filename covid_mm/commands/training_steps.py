"""The steps of one training, in order; each leaves its result in the run folder."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.commands.train import DEFAULT_CHECKPOINT, TrainingPlan
from covid_mm.config import CLASSES, MODALITIES, MODALITY_TITLES, DataConfig, Modality
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
from covid_mm.models.network import FUSED, Network, build_network
from covid_mm.models.weights_file import load_weights, save_weights
from covid_mm.training.batches import BoundarySamples, ModalitySamples, prepare_boundary
from covid_mm.training.fit import FitResult, fit_network
from covid_mm.training.initial_weights import InitialWeights, initialise_network
from covid_mm.training.progress import ProgressBar, open_bar
from covid_mm.training.run import RunFolder


@dataclass(frozen=True)
class Materials:
    """The images of a training: data sets, splits, and decoded samples of both sides, a modality."""

    datasets: dict[Modality, Dataset]
    splits: dict[Modality, Split]
    training: dict[Modality, ModalitySamples]
    validation: dict[Modality, ModalitySamples]


def train(plan: TrainingPlan, folder: RunFolder) -> None:
    """Do, or finish, the training that the plan describes, and publish what came of it."""
    materials = gather_materials(plan, folder)
    network, initial = prepare_network(plan, folder, materials)
    print(f"{network.config.name}, {plan.training.fine_tune}, run folder {folder.path}")
    for modality, weights in initial.items():
        print(f"  {MODALITY_TITLES[modality]} backbone starts from {weights.origin}")
    fits = fit_heads(plan, folder, network, materials)

    if network.config.is_concatenated or plan.output:
        from covid_mm.commands.publish import publish

        publish(plan, folder, network, materials, initial, fits)


def gather_materials(plan: TrainingPlan, folder: RunFolder) -> Materials:
    """Find, check, split and decode the images. Raises DataError naming all unreadable files at once."""
    cache = folder.path.parent / "cache"
    if plan.data_root is None:
        root = cache / f"phantoms-{plan.synthetic_per_class}-{plan.data.seed}"
        make_phantoms(root, plan)
    else:
        root = Path(plan.data_root)
    found = find_datasets(root, plan.data)
    missing = [m for m in plan.network.modalities if m not in found]
    if missing:
        raise DataError(
            f"{root} holds no {' and no '.join(MODALITY_TITLES[m] for m in missing)} images; the README's"
            " section on data shows the folders that are expected."
        )
    datasets = {m: found[m] for m in plan.network.modalities}
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
    return Materials(datasets, splits, sides["train"], sides["validation"])


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
    beside = Path(tempfile.mkdtemp(prefix=".phantoms-", dir=root.parent))
    print(f"drawing {2 * plan.synthetic_per_class} phantom studies", flush=True)
    write_phantoms(beside, per_class=plan.synthetic_per_class, seed=plan.data.seed)
    beside.rename(root)


def prepare_network(
    plan: TrainingPlan, folder: RunFolder, materials: Materials
) -> tuple[Network, dict[Modality, InitialWeights]]:
    """Build the network with its initial weights; a resumed run takes those it started from."""
    network = build_network(plan.network, plan.training.seed)
    start = folder.path / "initial.weights.h5"
    if start.exists() and (folder.path / "config.json").exists():
        load_weights(network, start)
        kept = folder.read_json("config.json")["initial_weights"]
        return network, {m: InitialWeights(**kept[m]) for m in plan.network.modalities}
    initial = initialise_network(network, plan.weights, DEFAULT_CHECKPOINT)
    save_weights(network, start)
    folder.write_json(
        "config.json",
        {
            "plan": plan.to_dict(),
            "network": dataclasses.asdict(plan.network),
            "split": {
                "protocol": plan.data.split,
                "hashes": {m: split.hash for m, split in materials.splits.items()},
            },
            "initial_weights": {m: dataclasses.asdict(weights) for m, weights in initial.items()},
        },
    )
    return network, initial


def fit_heads(
    plan: TrainingPlan, folder: RunFolder, network: Network, materials: Materials
) -> dict[str, FitResult]:
    """Fit the network, then each branch's own head on the features that came of it."""
    fits = {FUSED: fit_part(plan, folder, network, materials, head=FUSED)}
    if network.config.is_concatenated:
        for modality in network.config.modalities:
            fits[modality] = fit_part(plan, folder, network, materials, head=modality)
    return fits


def fit_part(
    plan: TrainingPlan, folder: RunFolder, network: Network, materials: Materials, *, head: str
) -> FitResult:
    """Fit one head: the concatenated (or only) one as planned, a branch's own on frozen features."""
    own = head != FUSED
    training = dataclasses.replace(plan.training, fine_tune="frozen") if own else plan.training
    part = RunFolder(folder.path / f"head-{head}") if own else folder
    modalities = [m for m in MODALITIES if m in network.config.modalities and head in (FUSED, m)]
    boundary: dict[str, dict[Modality, BoundarySamples]] = {"train": {}, "validation": {}}
    for modality in modalities:
        for side, samples in (("train", materials.training), ("validation", materials.validation)):
            boundary[side][modality] = cut_branch(
                network,
                modality,
                samples[modality],
                training,
                folder,
                views=training.views if side == "train" else 1,
            )
    title = network.config.name if not own else f"{MODALITY_TITLES[head]} head"
    return fit_network(
        network,
        boundary["train"],
        boundary["validation"],
        training,
        part,
        head=head,
        callbacks=(ProgressBar(title, training.epochs, training.steps_per_epoch),),
    )


def cut_branch(
    network: Network,
    modality: Modality,
    samples: ModalitySamples,
    training: Any,
    folder: RunFolder,
    *,
    views: int,
) -> BoundarySamples:
    """A branch's values at its boundary, computed once with a progress bar, then read from the cache."""
    total = views * len(samples.images)
    with open_bar(f"{MODALITY_TITLES[modality]} features", total) as bar:
        return prepare_boundary(
            network,
            modality,
            samples,
            fine_tune=training.fine_tune,
            views=views,
            seed=training.seed,
            cache=folder.path / "features",
            progress=lambda done, _: bar.update(done - bar.n),
        )
