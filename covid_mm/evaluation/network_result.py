"""What the trained networks of the reproduction came to: a row of results.json each, and the whole of it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, Modality, SplitProtocol, TrainingConfig
from covid_mm.evaluation.heads import (
    THRESHOLD,
    HeadOutputs,
    compute_pooled,
    fit_temperatures,
    measure_possibilities,
    predict_heads,
    report_heads,
)
from covid_mm.evaluation.metrics import roc_curve
from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import (
    HISTOGRAM_BINS,
    PROTOCOL_TITLES,
    RESULTS_NAME,
    Costs,
    DataSummary,
    NetworkResult,
    Results,
    RocPoints,
    StartingWeights,
    Step,
    read_results,
)
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.data import TrainingData
from covid_mm.training.fit import FitResult
from covid_mm.training.initial_weights import InitialWeights, initial_weights_to_dict
from covid_mm.training.plan import TrainingPlan

ROC_POINTS = 200  # kept of a curve, its ends included


@dataclasses.dataclass(frozen=True)
class External:
    """Images of other sources, never trained on: their names and samples, a modality."""

    names: dict[Modality, str]
    samples: dict[Modality, ModalitySamples]


def measure_network(
    plan: TrainingPlan,
    network: Network,
    training_data: TrainingData,
    external: tuple[External, ...],
    initial: dict[Modality, InitialWeights],
    fits: dict[str, FitResult],
    cache: Path,
) -> NetworkResult:
    """Measure a fitted network on its validation images and the external ones.

    cache: the folder where pooled features are kept, so that frozen backbones need not run again.
    """
    seed = plan.training.seed
    features = compute_pooled(network, training_data.validation, cache)
    outputs = predict_heads(network, training_data.validation, seed=seed, features=features)
    temperature = fit_temperatures(outputs)
    threshold = dict.fromkeys(outputs, THRESHOLD)
    reports = report_heads(outputs, temperature, threshold)
    config = network.config
    main = FUSED if config.is_concatenated else config.modalities[0]
    labels = {m: training_data.validation[m].labels for m in config.modalities}
    return NetworkResult(
        name=config.name,
        branches=config.branches,
        protocol=plan.data.split,
        initial_weights={m: describe_weights(weights) for m, weights in initial.items()},
        trained=describe_training(plan.training),
        training=dataclasses.asdict(plan.training),
        history=tuple(fits[FUSED].history),
        best_epoch=fits[FUSED].restored_epoch,
        report=reports[main],
        roc=draw_roc(outputs[main], temperature[main]),
        branch_reports={m: reports[m] for m in config.modalities} if config.is_concatenated else {},
        possibilities=measure_possibilities(network, features, labels, temperature, threshold, seed=seed)
        if config.is_concatenated
        else (),
        parameters=int(network.model.count_params()),
        seconds=round(fits[FUSED].seconds, 1),
        external={
            name: report
            for source in external
            for name, report in measure_external(network, source, temperature, seed, cache).items()
        },
    )


def describe_weights(weights: InitialWeights) -> StartingWeights:
    """Kind, origin and commands of a branch's initial weights."""
    known = initial_weights_to_dict(weights)
    return {"kind": known["kind"], "origin": known["origin"], "commands": list(known["commands"])}


def describe_training(training: TrainingConfig) -> str:
    """One phrase: which layers were trained, and how long."""
    layers = {
        "frozen": "the head, backbones frozen",
        "last-block": "the last block of each backbone and the head",
        "full": "all layers",
    }[training.fine_tune]
    return f"{layers}; {training.epochs} epochs of {training.steps_per_epoch} steps of {training.batch_size}"


def draw_roc(outputs: HeadOutputs, temperature: float) -> RocPoints:
    """The ROC curve, thinned to at most ROC_POINTS points."""
    curve = roc_curve(outputs.positive_probability(temperature), outputs.labels)
    count = len(curve.false_positive_rate)
    rows = np.unique(np.linspace(0, count - 1, min(count, ROC_POINTS)).round().astype(int))
    return RocPoints(
        tuple(float(curve.false_positive_rate[row]) for row in rows),
        tuple(float(curve.true_positive_rate[row]) for row in rows),
    )


def measure_external(
    network: Network, external: External, temperature: dict[str, float], seed: int, cache: Path
) -> dict[str, BinaryReport]:
    """Reports on images of other sources: a single network's, or a pair's on pairs of one class."""
    modalities = [m for m in network.config.modalities if m in external.samples]
    if len(modalities) < len(network.config.modalities):
        return {}
    samples = {m: external.samples[m] for m in modalities}
    outputs = predict_heads(network, samples, seed=seed, features=compute_pooled(network, samples, cache))
    reports = report_heads(outputs, temperature, dict.fromkeys(outputs, THRESHOLD))
    name = " with ".join(external.names[m] for m in modalities)
    return {name: reports[FUSED if network.config.is_concatenated else modalities[0]]}


def summarise_histograms(samples: ModalitySamples) -> dict[str, list[float]]:
    """Mean share of pixels in equal grey bins over 0..255, a class, over the images given."""
    histograms: dict[str, list[float]] = {}
    for label, name in enumerate(CLASSES):
        images = samples.images[samples.labels == label]
        if len(images):
            counts, _ = np.histogram(images, bins=HISTOGRAM_BINS, range=(0.0, 255.0))
            histograms[name] = [round(float(share), 6) for share in counts / counts.sum()]
    return histograms


@dataclass(frozen=True)
class NetworkOutcome:
    """What is kept of a finished network."""

    result: NetworkResult
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def collect_results(
    outcomes: Sequence[NetworkOutcome],
    plan: TrainingPlan,
    command: str,
    training_data: TrainingData,
    steps: Sequence[Step],
    costs: Costs,
) -> Results:
    """One split's results. plan: any of the nine."""
    protocol = plan.data.split
    every_step = (*steps, *(step for outcome in outcomes for step in outcome.steps))
    return Results(
        command=command,
        created=time.strftime("%Y-%m-%d", time.gmtime()),
        seed=plan.training.seed,
        data=tuple(summarise_data(training_data, m, protocol) for m in training_data.datasets),
        networks=tuple(outcome.result for outcome in outcomes),
        steps=tuple(dataclasses.replace(step, protocol=protocol) for step in every_step),
        costs=costs,
        machine=describe_machine(),
        synthetic=plan.synthetic,
        notes=tuple(f"{PROTOCOL_TITLES[protocol]}: {note}" for part in outcomes for note in part.notes),
    )


def summarise_data(training_data: TrainingData, modality: Modality, protocol: SplitProtocol) -> DataSummary:
    """Table I as realised, for one modality."""
    split = training_data.splits[modality]
    counts = split.to_dict()["counts"]
    return DataSummary(
        modality=modality,
        name=training_data.datasets[modality].name,
        protocol=protocol,
        split_hash=split.hash,
        train=(counts["train"][CLASSES[0]], counts["train"][CLASSES[1]]),
        validation=(counts["validation"][CLASSES[0]], counts["validation"][CLASSES[1]]),
        mean_histograms=summarise_histograms(training_data.training[modality]),
    )


def describe_machine() -> str:
    """Processors and accelerators, for what is said of time."""
    gpus = keras.distribution.list_devices("gpu")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores, {f'{len(gpus)} GPU' if gpus else 'no GPU'}"


def merge_results(results: Results, folder: Path) -> Results:
    """The same with what the folder holds of the other split, where it is of the same kind of data."""
    if not (folder / RESULTS_NAME).exists():
        return results
    earlier = read_results(folder)
    if (earlier.synthetic, earlier.seed) != (results.synthetic, results.seed):
        return results
    earlier_protocols = tuple(protocol for protocol in earlier.protocols if protocol not in results.protocols)
    if not earlier_protocols:
        return results
    both = [(results, results.protocols), (earlier, earlier_protocols)]
    both.sort(key=lambda part: "paper" not in part[1])  # the paper's split first
    return dataclasses.replace(
        results,
        command="\n".join(line for whole, kinds in both for line in choose_commands(whole, kinds)),
        data=tuple(part for whole, kinds in both for part in whole.data if part.protocol in kinds),
        networks=tuple(part for whole, kinds in both for part in whole.networks if part.protocol in kinds),
        steps=tuple(part for whole, kinds in both for part in whole.steps if part.protocol in kinds),
        costs=both[0][0].costs or both[1][0].costs,
        notes=tuple(note for whole, kinds in both for note in choose_notes(whole, kinds)),
    )


def choose_commands(results: Results, protocols: Sequence[SplitProtocol]) -> list[str]:
    """The command lines of these splits."""
    lines = zip(results.protocols, results.command.splitlines(), strict=False)
    return [line for protocol, line in lines if protocol in protocols]


def choose_notes(results: Results, protocols: Sequence[SplitProtocol]) -> list[str]:
    """The notes of these splits, told by the split's title in front, and those of none."""
    others = tuple(f"{title}: " for kind, title in PROTOCOL_TITLES.items() if kind not in protocols)
    return [note for note in results.notes if not note.startswith(others)]


def choose_examples(training_data: TrainingData) -> dict[tuple[str, str], NDArray[np.float32]]:
    """The first training image of each modality and class, grey 0..255, by (modality, class name)."""
    examples: dict[tuple[str, str], NDArray[np.float32]] = {}
    for modality, samples in training_data.training.items():
        for label, name in enumerate(CLASSES):
            rows = np.flatnonzero(samples.labels == label)
            if len(rows):
                examples[modality, name] = samples.images[rows[0]]
    return examples
