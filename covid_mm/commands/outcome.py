"""What one trained network of the reproduction came to, as its row in results.json."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from covid_mm.commands.materials import Materials
from covid_mm.commands.measurement import (
    THRESHOLD,
    HeadOutputs,
    answer_heads,
    compute_pooled,
    fit_temperatures,
    measure_possibilities,
    report_heads,
)
from covid_mm.commands.plan import TrainingPlan
from covid_mm.commands.publish import describe_initial
from covid_mm.config import CLASSES, Modality, TrainingConfig
from covid_mm.evaluation.metrics import roc_curve
from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import HISTOGRAM_BINS, NetworkResult, RocPoints, StartingWeights
from covid_mm.models.network import FUSED, Network
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.fit import FitResult
from covid_mm.training.initial_weights import InitialWeights

ROC_POINTS = 200  # kept of a curve, its ends included


@dataclasses.dataclass(frozen=True)
class External:
    """Images of other sources, never trained on: their names and samples, a modality."""

    names: dict[Modality, str]
    samples: dict[Modality, ModalitySamples]


def measure_network(
    plan: TrainingPlan,
    network: Network,
    materials: Materials,
    external: tuple[External, ...],
    initial: dict[Modality, InitialWeights],
    fits: dict[str, FitResult],
    cache: Path,
) -> NetworkResult:
    """Measure a fitted network on its validation images and the external ones.

    cache: the folder where pooled features are kept, so that frozen backbones need not run again.
    """
    seed = plan.training.seed
    features = compute_pooled(network, materials.validation, cache)
    outputs = answer_heads(network, materials.validation, seed=seed, features=features)
    temperature = fit_temperatures(outputs)
    threshold = dict.fromkeys(outputs, THRESHOLD)
    reports = report_heads(outputs, temperature, threshold)
    config = network.config
    main = FUSED if config.is_concatenated else config.modalities[0]
    labels = {m: materials.validation[m].labels for m in config.modalities}
    return NetworkResult(
        name=config.name,
        branches=config.branches,
        protocol=plan.data.split,
        initial_weights={m: describe_weights(weights) for m, weights in initial.items()},
        trained=describe_training(plan.training),
        training=dataclasses.asdict(plan.training),
        history=tuple(fits[FUSED].history),
        best_epoch=fits[FUSED].best_epoch,
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
    known = describe_initial(weights)
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
    outputs = answer_heads(network, samples, seed=seed, features=compute_pooled(network, samples, cache))
    reports = report_heads(outputs, temperature, dict.fromkeys(outputs, THRESHOLD))
    name = " with ".join(external.names[m] for m in modalities)
    return {name: reports[FUSED if network.config.is_concatenated else modalities[0]]}


def summarise_histograms(samples: ModalitySamples) -> dict[str, list[float]]:
    """Mean share of pixels in equal grey bins over 0..255, a class, over the images given."""
    found: dict[str, list[float]] = {}
    for label, name in enumerate(CLASSES):
        images = samples.images[samples.labels == label]
        if len(images):
            counts, _ = np.histogram(images, bins=HISTOGRAM_BINS, range=(0.0, 255.0))
            found[name] = [round(float(share), 6) for share in counts / counts.sum()]
    return found
