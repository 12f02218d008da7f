"""The network with its initial weights, and the fit of each of its heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from covid_mm.config import DEFAULT_CHECKPOINT, MODALITIES, Modality, TrainingConfig
from covid_mm.errors import TrainingError
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import load_weights, save_weights
from covid_mm.training.batches import BottleneckSamples, ModalitySamples, prepare_bottleneck
from covid_mm.training.data import TrainingData
from covid_mm.training.fit import FitResult, fit_network
from covid_mm.training.initial_weights import InitialWeights, initialise_network
from covid_mm.training.plan import TrainingPlan
from covid_mm.training.progress import LazyBar, ProgressBar
from covid_mm.training.run import RunFolder


def prepare_network(
    plan: TrainingPlan, folder: RunFolder, training_data: TrainingData
) -> tuple[Network, dict[Modality, InitialWeights]]:
    """Build the network with its initial weights; a resumed run takes those it started from."""
    network = build_network(plan.network, plan.training.seed)
    start = folder.path / "initial.weights.h5"
    if start.exists() and (folder.path / "config.json").exists():
        saved = folder.read_json("config.json")
        try:
            hashes = {m: saved["split"]["hashes"][m] for m in plan.network.modalities}
            initial = {m: restore_initial(saved["initial_weights"][m]) for m in plan.network.modalities}
        except (KeyError, TypeError) as error:
            raise TrainingError(
                f"The config.json of {folder.path.name} is not of this version of the project ({error}); start"
                " a new run."
            ) from error
        if hashes != {m: split.hash for m, split in training_data.splits.items()}:
            raise TrainingError(
                f"The images are not those that {folder.path.name} was started with, so training and validation"
                " images would be mixed up; put back the same images, or start a new run."
            )
        load_weights(network, start)
        return network, initial
    initial = initialise_network(network, plan.weights, DEFAULT_CHECKPOINT)
    save_weights(network, start)
    folder.write_json(
        "config.json",
        {
            "plan": plan.to_dict(),
            "network": dataclasses.asdict(plan.network),
            "split": {
                "protocol": plan.data.split,
                "hashes": {m: split.hash for m, split in training_data.splits.items()},
            },
            "initial_weights": {m: dataclasses.asdict(weights) for m, weights in initial.items()},
        },
    )
    return network, initial


def restore_initial(values: dict[str, Any]) -> InitialWeights:
    """Initial weights as config.json keeps them."""
    return InitialWeights(values["kind"], values["origin"], tuple(values["seen"]), tuple(values["commands"]))


def fit_heads(
    plan: TrainingPlan,
    folder: RunFolder,
    network: Network,
    training_data: TrainingData,
    cache: Path,
) -> dict[str, FitResult]:
    """Fit the network, then each branch's own head on the features that came of it.

    cache: where features are kept; networks that share a backbone share them there.
    """
    fits = {FUSED: fit_part(plan, folder, network, training_data, cache, head=FUSED)}
    if network.config.is_concatenated:
        for modality in network.config.modalities:
            fits[modality] = fit_part(plan, folder, network, training_data, cache, head=modality)
    return fits


def fit_part(
    plan: TrainingPlan,
    folder: RunFolder,
    network: Network,
    training_data: TrainingData,
    cache: Path,
    *,
    head: str,
) -> FitResult:
    """Fit one head: the concatenated (or only) one as planned, a branch's own on frozen features."""
    own = head != FUSED
    training = dataclasses.replace(plan.training, fine_tune="frozen") if own else plan.training
    part = RunFolder(folder.path / f"head-{head}") if own else folder
    modalities = [m for m in MODALITIES if m in network.config.modalities and head in (FUSED, m)]
    boundary: dict[str, dict[Modality, BottleneckSamples]] = {"train": {}, "validation": {}}
    for modality in modalities:
        for side, samples in (("train", training_data.training), ("validation", training_data.validation)):
            boundary[side][modality] = extract_features(
                network,
                modality,
                samples[modality],
                training,
                cache,
                copies=training.augmented_copies if side == "train" else 1,
            )
    title = network.config.name if not own else f"{MODALITIES[head].title} head"
    return fit_network(
        network,
        boundary["train"],
        boundary["validation"],
        training,
        part,
        head=head,
        callbacks=(ProgressBar(title, training.epochs, training.steps_per_epoch),),
    )


def extract_features(
    network: Network,
    modality: Modality,
    samples: ModalitySamples,
    training: TrainingConfig,
    cache: Path,
    *,
    copies: int,
) -> BottleneckSamples:
    """A branch's values at its boundary, computed once with a progress bar, then read from the cache."""
    total = copies * len(samples.images)
    with LazyBar(f"{MODALITIES[modality].title} features", total, unit="image") as show:
        return prepare_bottleneck(
            network,
            modality,
            samples,
            fine_tune=training.fine_tune,
            copies=copies,
            seed=training.seed,
            strength=training.augmentation,
            cache=cache,
            progress=show,
        )
