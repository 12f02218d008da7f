"""The last steps of a training: measure what will be served, write the card, publish, say so."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from covid_mm import __version__
from covid_mm.config import CLASSES, Modality
from covid_mm.evaluation.content_check import make_content_classifier
from covid_mm.evaluation.heads import (
    SCALE_PERCENTILE,
    SCALE_STUDIES,
    THRESHOLD,
    compare_outputs,
    compute_pooled,
    fit_temperatures,
    measure_heatmap_scale,
    predict_heads,
    report_heads,
    summarise_predictions,
)
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import load_weights, save_weights
from covid_mm.reporting.card_tables import metrics_table
from covid_mm.reporting.model_card import render_card, title_head
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.metadata import FORMAT_VERSION, describe_training
from covid_mm.training.data import TrainingData
from covid_mm.training.fit import FitResult
from covid_mm.training.initial_weights import InitialWeights, initial_weights_to_dict
from covid_mm.training.plan import TrainingPlan, shorten_command
from covid_mm.training.run import RunFolder
from covid_mm.training.strategy import FULL_PRECISION, use_precision

PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "opencv-python-headless", "h5py")


def publish(
    plan: TrainingPlan,
    folder: RunFolder,
    network: Network,
    training_data: TrainingData,
    initial: dict[Modality, InitialWeights],
    fits: dict[str, FitResult],
    path: Path,
    cache: Path,
) -> None:
    """Measure the network as it will be stored, and publish it at `path`.

    cache: where the fitting kept its features, so that the unrounded network need not run again.
    """
    print("measuring on the validation images", flush=True)
    seed = plan.training.seed
    unrounded = compute_pooled(network, training_data.validation, cache)
    before = predict_heads(network, training_data.validation, seed=seed, features=unrounded)
    served = store_and_read_back(network)
    features = compute_pooled(served, training_data.validation)
    outputs = predict_heads(served, training_data.validation, seed=seed, features=features)
    temperature = fit_temperatures(outputs)
    threshold = dict.fromkeys(outputs, THRESHOLD)
    reports = report_heads(outputs, temperature, threshold)
    meta = {
        "format_version": FORMAT_VERSION,
        "project_version": __version__,
        "pair": network.config.name,
        "network": dataclasses.asdict(network.config),
        "classes": list(CLASSES),
        "preprocessing": {
            "name": "paper",
            "pixels": "grey, 0..255, three equal channels, resized with antialiasing, aspect ratio not kept",
            "scaling_inside_the_network": {m: network.backbone(m).scaling for m in network.config.modalities},
        },
        "temperature": temperature,
        "decision_threshold": threshold,
        "heatmap_scale": measure_heatmap_scale(served, training_data.training, seed=seed),
        "heatmap_scale_is": f"{SCALE_PERCENTILE:g}th percentile of positive evidence over all pixels of up to"
        f" {SCALE_STUDIES} training studies, in logits",
        "synthetic": plan.synthetic,
        "trained_at": time.strftime("%Y-%m-%d", time.gmtime()),
        "data": [dataset_to_dict(training_data, m) for m in network.config.modalities],
        "split": {
            "protocol": plan.data.split,
            "seed": plan.data.seed,
            "positives": plan.data.positives,
            "hashes": {m: split.hash for m, split in training_data.splits.items()},
        },
        "seed": seed,
        "initial_weights": {m: initial_weights_to_dict(weights) for m, weights in initial.items()},
        "validation_seen_before": find_overlap(training_data, initial),
        "training": dataclasses.asdict(plan.training),
        "epochs_run": {
            head: {"best": fit.restored_epoch, "of": len(fit.history), "seconds": round(fit.seconds)}
            for head, fit in fits.items()
        },
        "metrics": {"validation": {head: report.to_dict() for head, report in reports.items()}},
        **summarise_predictions(
            served, training_data.validation, features, outputs, temperature, threshold, seed=seed
        ),
        "float16_changes": compare_outputs(before, outputs, temperature),
        "command": shorten_command(plan.command),
        "packages": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if _is_installed(name)},
        "comparisons": [],
    }
    meta["trained_on"] = (
        f"{2 * plan.synthetic_per_class} synthetic phantom studies, no patients"
        if plan.synthetic
        else describe_training(meta)
    )
    classifier, meta["content_check"] = make_content_classifier(
        served,
        training_data.training,
        training_data.validation,
        {m: dataset.name for m, dataset in training_data.datasets.items()},
        seed=seed,
    )
    folder.write_json("result.json", {"metrics": meta["metrics"], "epochs_run": meta["epochs_run"]})
    publish_checkpoint(path, network, meta, render_card(meta, path.name), classifier=classifier)
    print()
    print(metrics_table({title_head(head): report for head, report in reports.items()}))
    print(f"\npublished {path}: {meta['trained_on']}")
    if plan.synthetic:
        print("Trained on SYNTHETIC PHANTOMS, not on patients: it means nothing for a person.")
        print(f"Look at it with: python app.py --checkpoint {path}")


def store_and_read_back(network: Network) -> Network:
    """The network as it will be served: weights rounded as a checkpoint stores them, float32 arithmetic."""
    with use_precision(FULL_PRECISION):
        stored = build_network(network.config)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rounded.weights.h5"
        save_weights(network, file, half=True)
        load_weights(stored, file)
    return stored


def dataset_to_dict(training_data: TrainingData, modality: Modality) -> dict[str, Any]:
    """What meta.json says of one data set: source, licence, counts, caveats."""
    dataset, split = training_data.datasets[modality], training_data.splits[modality].to_dict()
    return {
        "modality": modality,
        "name": dataset.name,
        "source": dataset.source,
        "licence": dataset.licence,
        "counts": split["counts"],
        "split_hash": split["hash"],
        "caveats": list(dataset.caveats),
    }


def find_overlap(training_data: TrainingData, initial: dict[Modality, InitialWeights]) -> list[str]:
    """Modalities whose initial weights learned from another division of the same kind of image.

    Some of this split's validation images may then have been training images before, which
    flatters the validation figures.
    """
    return [
        modality
        for modality, weights in initial.items()
        if any(
            seen.startswith(f"{modality}:") and seen != f"{modality}:{training_data.splits[modality].hash}"
            for seen in weights.seen
        )
    ]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
