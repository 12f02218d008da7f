"""`train.py --recipe served`, stage by stage: lungs, crops, branches, left-out branches, fused head.

Each stage leaves its result in the run folder and is not done again:

    lungs.npz                  the lung segmenter
    crops/                     lung crops of every collection
    ct-served/ xray-served/    the branches that are served: state, answers.npz, teachers' folders, and in before/
                               the state from which they were refined
    ct-without-<fold>/ ...     the same branch trained without a collection or a group of scanners
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import DEFAULT_CHECKPOINT, MODALITIES, DataConfig, Modality, NetworkConfig
from covid_mm.datasets import Split, find_datasets, split_dataset
from covid_mm.datasets.collections import find_collections
from covid_mm.datasets.index import Collection
from covid_mm.errors import DataError, TrainingError, UsageError
from covid_mm.files import write_atomically
from covid_mm.models.backbones import find_backbone
from covid_mm.models.lung_segmenter import LungSegmenter, read_lung_segmenter
from covid_mm.models.meta_file import LUNGS_NAME
from covid_mm.models.network import Network, build_network
from covid_mm.training.branch import fit_branch, trained_model
from covid_mm.training.branch_batches import BranchConfig, BranchSamples
from covid_mm.training.branch_predictions import BranchPredictions, predict_collections
from covid_mm.training.crops import OTHER, LungCrops, make_crops
from covid_mm.training.initial_weights import InitialWeights, initialise_network
from covid_mm.training.lung_samples import find_lung_samples, make_phantom_samples, mark_dark_samples
from covid_mm.training.lungs import SegmenterConfig, fit_segmenter
from covid_mm.training.plan import TrainingPlan
from covid_mm.training.progress import LazyBar
from covid_mm.training.recipe import (
    BY_LENGTH,
    Fold,
    ServedRecipe,
    choose_training_rows,
    gather_samples,
    make_folds,
)
from covid_mm.training.run import RunFolder
from covid_mm.training.strategy import (
    FULL_PRECISION,
    count_preparers,
    find_hardware,
    find_processor_precision,
    use_hardware,
    use_precision,
)

NO_CHECKPOINT = Path("no-checkpoint")  # `auto` never falls back on a network that has seen the collections
PAPER_SPLIT = DataConfig(split="paper", seed=0)  # its validation images are held out of the served branches
SERVED = "served"  # the branches that are served, trained on all collections
BEFORE = "before"  # in the folder of a branch that is refined: the branch as it was


@contextmanager
def open_run(plan: TrainingPlan, folder: RunFolder, default_checkpoint: Path) -> Iterator[ServedRun]:
    """A run of the served recipe as its plan describes it, inside all the hardware there is.

    default_checkpoint: gives its lung segmenter where the data have neither masks nor boxes of lungs.
    """
    if plan.data_root is None:
        raise UsageError("The recipe served learns from several collections; name their folder with --data.")
    hardware = find_hardware("full")
    precision = hardware.precision if hardware.devices != ("CPU:0",) else find_processor_precision()
    print(f"training on {', '.join(hardware.devices)}, {precision}", flush=True)
    root, recipe = Path(plan.data_root), BY_LENGTH[plan.length]
    if plan.branch_steps is not None:
        recipe = recipe.shortened(plan.branch_steps)
    if plan.lung_steps is not None:
        recipe = replace(recipe, lung_steps=plan.lung_steps)
    with use_hardware(replace(hardware, precision=FULL_PRECISION)):
        yield prepare_run(
            folder,
            root,
            find_collections(root),
            served_network(plan.network, recipe),
            recipe,
            weights=plan.weights,
            seed=plan.training.seed,
            fallback_segmenter=default_checkpoint / LUNGS_NAME,
            paper_splits=find_paper_splits(root),
            precision=precision,
            processes=count_preparers(hardware),
        )


@contextmanager
def reopen_run(folder: Path, data_root: str | None = None) -> Iterator[ServedRun]:
    """A run that has been trained, as its folder describes it.

    data_root: where the data lie now, if not where the run found them. Raises what `open_run` does.
    """
    run = RunFolder(folder)
    plan = TrainingPlan.from_dict(run.read_json("config.json")["plan"])
    if data_root is not None:
        plan = replace(plan, data_root=data_root)
    with open_run(plan, run, DEFAULT_CHECKPOINT) as opened:
        yield opened


def find_paper_splits(root: Path) -> dict[Modality, Split]:
    """The paper's split of the two Kaggle sets, by modality; none where only other collections are."""
    try:
        datasets = find_datasets(root, PAPER_SPLIT)
    except DataError:
        return {}
    return {modality: split_dataset(dataset, PAPER_SPLIT) for modality, dataset in datasets.items()}


@dataclass(frozen=True)
class ServedRun:
    """What the stages share. collections and folds by modality, crops by collection.

    paper_splits: whose validation images the served branches never learn from.
    precision: Keras dtype policy of training; measuring is in full precision.
    processes: that prepare batches, 0 for threads.
    """

    folder: RunFolder
    root: Path
    network: NetworkConfig
    recipe: ServedRecipe
    weights: str
    seed: int
    segmenter: LungSegmenter
    collections: Mapping[Modality, tuple[Collection, ...]]
    crops: Mapping[str, LungCrops]
    folds: Mapping[Modality, tuple[Fold, ...]]
    paper_splits: Mapping[Modality, Split] = field(default_factory=dict)
    precision: str = FULL_PRECISION
    processes: int = 0

    @cached_property
    def held_out(self) -> frozenset[Path]:
        """Files that the served branches never learn from, so that they can say something of them."""
        return frozenset(r.path for split in self.paper_splits.values() for r in split.validation)

    def training_rows(self, modality: Modality, fold: Fold | None = None) -> dict[str, NDArray[np.bool_]]:
        """Which rows of each collection a branch learns from; without a fold the one that is served."""
        held_out = self.held_out if fold is None else frozenset()
        return choose_training_rows(self.collections[modality], self.crops, fold, held_out)

    def training_count(self, modality: Modality) -> int:
        """How many images the served branch learns from."""
        return sum(int(rows.sum()) for rows in self.training_rows(modality).values())

    def collection(self, modality: Modality, name: str) -> Collection:
        """The collection of this name."""
        return next(c for c in self.collections[modality] if c.name == name)

    def labelled_rows(self, collection: Collection, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Positions of the chosen images that have lungs and one of the two labels."""
        part = self.crops[collection.name]
        return np.flatnonzero(rows & part.has_lungs & (part.labels != OTHER))

    def validation_rows(self, collection: Collection) -> NDArray[np.int64]:
        """The same of the held-out images."""
        held_out = np.array([image.path in self.held_out for image in collection.images])
        return self.labelled_rows(collection, held_out)

    def crops_of(self, modality: Modality) -> dict[str, LungCrops]:
        """The crops of one modality's collections, by name."""
        return {c.name: self.crops[c.name] for c in self.collections[modality]}


@dataclass(frozen=True)
class TrainedBranch:
    """One branch of one network: its folder, its weights, and its answers to every collection."""

    modality: Modality
    fold: Fold | None
    folder: RunFolder
    answers: Mapping[str, BranchPredictions]


def served_network(network: NetworkConfig, recipe: ServedRecipe) -> NetworkConfig:
    """A pair as this recipe builds it: attention pooling, and a last map of 16 pixels per cell where backbones can."""
    fine = all(find_backbone(backbone).finer for _, backbone in network.branches)
    return replace(
        network, image_size=recipe.image_size, pooling=recipe.pooling, output_stride=16 if fine else 32
    )


def prepare_run(
    folder: RunFolder,
    root: Path,
    collections: Mapping[Modality, tuple[Collection, ...]],
    network: NetworkConfig,
    recipe: ServedRecipe,
    *,
    weights: str,
    seed: int,
    fallback_segmenter: Path | None = None,
    paper_splits: Mapping[Modality, Split] | None = None,
    precision: str = FULL_PRECISION,
    processes: int = 0,
) -> ServedRun:
    """Find or train the lung segmenter, and cut the lungs out of every image.

    fallback_segmenter: a checkpoint's `lungs.npz`, taken where the data have neither lung masks nor boxes.
    """
    for modality in network.modalities:
        if not any(min(c.counts[:2]) for c in collections.get(modality, ())):
            raise DataError(
                f"No collection of {MODALITIES[modality].title} images has both classes; one of them must, or the"
                " network would learn which hospital is which."
            )
    segmenter = provide_segmenter(
        folder, root, collections, SegmenterConfig(steps=recipe.lung_steps, seed=seed), fallback_segmenter
    )
    crops = {}
    for modality in network.modalities:
        for collection in collections[modality]:
            with LazyBar(f"lungs of {collection.name}", len(collection.images), "image") as show:
                crops[collection.name] = make_crops(
                    collection, segmenter, network.image_size, folder.path / "crops", show
                )
    return ServedRun(
        folder,
        root,
        network,
        recipe,
        weights,
        seed,
        segmenter,
        collections,
        crops,
        {m: make_folds(collections[m]) for m in network.modalities},
        paper_splits or {},
        precision,
        processes,
    )


def provide_segmenter(
    folder: RunFolder,
    root: Path,
    collections: Mapping[Modality, tuple[Collection, ...]],
    config: SegmenterConfig,
    fallback: Path | None,
) -> LungSegmenter:
    """The run's segmenter: read, or trained on masks, boxes and phantoms and written."""
    path = folder.path / LUNGS_NAME
    if not path.exists():
        samples = {m: find_lung_samples(root, collections.get(m, ()), m) for m in MODALITIES}
        if fallback is not None and fallback.exists() and not all(samples.values()):
            write_atomically(path, fallback.read_bytes())
        else:
            networks: dict[Modality, keras.Model] = {}
            for modality in MODALITIES:
                with LazyBar(f"{MODALITIES[modality].title} lungs", config.steps, "step") as show:
                    dark = mark_dark_samples(collections.get(modality, ()), modality)
                    networks[modality] = fit_segmenter(
                        [*samples[modality], *dark, *make_phantom_samples(modality)],
                        modality,
                        config,
                        partial(_show_step, show, config.steps),
                    )
            write_atomically(path, LungSegmenter(networks).to_bytes())
    return read_lung_segmenter(path)


def train_branch(run: ServedRun, modality: Modality, fold: Fold | None) -> TrainedBranch:
    """Train one branch, or go on with it; without a fold it is the one that is served."""
    folder = branch_folder(run, modality, fold)
    samples = gather_samples(run.collections[modality], run.crops, run.training_rows(modality, fold))
    backbone = dict(run.network.branches)[modality]
    config = run.recipe.branch_config(modality, backbone, run.seed, len(samples.labels))
    refined = run.recipe.refined_config(modality, backbone, run.seed, len(samples.labels))
    if not _is_trained(folder, refined or config):
        title = (
            f"{MODALITIES[modality].title}, {'all collections' if fold is None else f'without {fold.name}'}"
        )
        first = folder if refined is None else RunFolder(folder.path / BEFORE)
        teachers = [] if _is_trained(first, config) else train_teachers(run, modality, samples, folder, title)
        network = train_network(run, run.network, modality, samples, config, first, title, teachers)
        if refined is not None:
            before = trained_model(network, modality)
            title, start = f"{title}, refined", before.get_weights()
            train_network(run, run.network, modality, samples, refined, folder, title, [before], start)
    branch = TrainedBranch(modality, fold, folder, {})
    answers = predict_collections(
        lambda: load_branches(run, (branch,)), modality, run.crops_of(modality), folder.path / "answers.npz"
    )
    return TrainedBranch(modality, fold, folder, answers)


def _is_trained(folder: RunFolder, config: BranchConfig) -> bool:
    state = folder.load_state()
    return state is not None and state.epochs >= config.steps


def train_teachers(
    run: ServedRun, modality: Modality, samples: BranchSamples, folder: RunFolder, title: str
) -> list[keras.Model]:
    """The networks whose answers a branch learns, trained on its own images, each in a folder inside the branch's."""
    teachers = []
    configs = run.recipe.teacher_configs(modality, run.seed, len(samples.labels))
    for number, (backbone, config) in enumerate(configs, 1):
        branches = tuple((m, backbone if m == modality else other) for m, other in run.network.branches)
        own = RunFolder(folder.path / f"teacher-{number}-{backbone}")
        pair = replace(run.network, branches=branches)
        network = train_network(run, pair, modality, samples, config, own, f"{title}, teacher {number}")
        teachers.append(trained_model(network, modality))
    return teachers


def train_network(
    run: ServedRun,
    pair: NetworkConfig,
    modality: Modality,
    samples: BranchSamples,
    config: BranchConfig,
    folder: RunFolder,
    title: str,
    teachers: Sequence[keras.Model] = (),
    start: Sequence[NDArray[Any]] | None = None,
) -> Network:
    """A pair with one branch trained, as far as its folder does not hold that already; start: as for `fit_branch`."""
    with use_precision(run.precision), LazyBar(title, config.steps, "step") as show:
        network, _ = start_network(run, pair)
        fit_branch(
            network,
            modality,
            samples,
            config,
            folder,
            partial(_show_step, show, config.steps),
            processes=run.processes,
            teachers=teachers,
            start=start,
        )
    return network


def train_branches(run: ServedRun) -> tuple[dict[Modality, TrainedBranch], list[TrainedBranch]]:
    """All branches: by modality those that are served, and one without each fold."""
    served = {m: train_branch(run, m, None) for m in run.network.modalities}
    return served, [train_branch(run, m, fold) for m in run.network.modalities for fold in run.folds[m]]


def load_branches(run: ServedRun, branches: Sequence[TrainedBranch]) -> Network:
    """A network with the weights of one trained branch per modality given, in full precision."""
    with use_precision(FULL_PRECISION):
        network = build_network(run.network, seed=run.seed)
    for branch in branches:
        state = branch.folder.load_state()
        if state is None:
            raise TrainingError(
                f"{branch.folder.path} holds no trained branch; start the same command again."
            )
        trained_model(network, branch.modality).set_weights(state.weights)
    return network


def branch_folder(run: ServedRun, modality: Modality, fold: Fold | None) -> RunFolder:
    """Where a branch is kept."""
    return RunFolder(run.folder.path / f"{modality}-{SERVED if fold is None else f'without-{fold.name}'}")


def start_network(run: ServedRun, config: NetworkConfig) -> tuple[Network, dict[Modality, InitialWeights]]:
    """A network with its initial weights, for images of the size that is learned from."""
    network = build_network(config.resized(run.recipe.training_size), seed=run.seed)
    initial = initialise_network(network, run.weights, NO_CHECKPOINT)
    if any(weights.seen for weights in initial.values()):
        raise TrainingError(
            "The initial weights come from a network that has seen chest images, so nothing could be said to be left"
            " out; choose --weights imagenet, none, or files of keras.applications."
        )
    return network, initial


def _show_step(show: Callable[[int, int], None], total: int, step: int, loss: float) -> None:
    show(step, total)
