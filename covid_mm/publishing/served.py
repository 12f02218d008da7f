"""The last stages of `train.py --recipe served`: calibrate, fuse, measure, publish."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm import __version__
from covid_mm.config import CLASSES, Modality
from covid_mm.datasets import find_class_folders
from covid_mm.datasets.index import Collection
from covid_mm.evaluation.content_check import count_refusals, find_learned_images, fit_served_classifier
from covid_mm.evaluation.heads import (
    SCALE_PERCENTILE,
    SCALE_STUDIES,
    compare_outputs,
    measure_heatmap_scale,
    predict_heads,
    report_heads,
)
from covid_mm.evaluation.left_out_heat import (
    choose_heatmap,
    locate_heat,
)
from covid_mm.evaluation.left_out_images import training_features
from covid_mm.evaluation.left_out_run import measure_run
from covid_mm.evaluation.operating_points import count_operating_points
from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
from covid_mm.evaluation.platt import Calibration
from covid_mm.explain.method_table import ATTENTION
from covid_mm.models.network import Network
from covid_mm.publishing.paper import PACKAGES, store_and_read_back
from covid_mm.reporting.left_out_page import render_left_out, write_left_out
from covid_mm.reporting.model_card import render_card
from covid_mm.reporting.served_facts import describe_limits
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.metadata import FORMAT_VERSION, describe_training
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.branch_predictions import predict_crops
from covid_mm.training.crops import read_records
from covid_mm.training.fusion import fit_fused_head
from covid_mm.training.initial_weights import initial_weights_to_dict
from covid_mm.training.plan import shorten_command
from covid_mm.training.served_run import (
    PAPER_SPLIT,
    ServedRun,
    load_branches,
    start_network,
)

SCALE_IMAGES = 1500  # training images per collection that the heatmap scale is drawn from


def publish_served(run: ServedRun, command: str, path: Path, results: Path | None) -> None:
    """Measure, fuse, and publish the checkpoint; results: the folder where the left-out page goes."""
    measured, served = measure_run(run)
    _, initial = start_network(run, run.network)
    network = load_branches(run, tuple(served.values()))
    calibrations = {head: table.calibration for head, table in measured.tables.items()}
    logits_of = {m: calibrations[m].logits for m in run.network.modalities}
    distance = fit_fused_head(
        network, {m: training_features(run, b) for m, b in served.items()}, logits_of, seed=run.seed
    )
    stored = store_and_read_back(network)
    method, layer = choose_heatmap(measured.heat)
    own = gather_own(run, validation=False)
    held = gather_own(run, validation=True)
    offset = {head: fit.offset for head, fit in calibrations.items()}
    temperature = {head: fit.temperature for head, fit in calibrations.items()}
    threshold = {head: table.threshold for head, table in measured.tables.items()}
    before, after = (
        {head: part.shifted(offset[head]) for head, part in predict_heads(n, held, seed=run.seed).items()}
        for n in (network, stored)
    )
    classifier, described = fit_served_classifier(stored, find_learned_images(run), seed=run.seed)
    reports = report_heads(after, temperature, threshold)
    split = split_to_dict(run)
    left_out = measured.to_dict() | {
        "command": shorten_command(command),
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "notes": describe_measuring(run, distance),
    }
    meta: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "project_version": __version__,
        "recipe": "served",
        "pair": run.network.name,
        "network": dataclasses.asdict(run.network),
        "classes": list(CLASSES),
        "preprocessing": {
            "name": "lungs",
            "pixels": "grey, 0..255, three equal channels; lungs found, cropped to with a margin, grey levels set by"
            " lung and soft tissue, aspect ratio not kept",
            "scaling_inside_the_network": {m: network.backbone(m).scaling for m in run.network.modalities},
        },
        "temperature": temperature,
        "offset": offset,
        "decision_threshold": threshold,
        "abstain_zone": {head: list(table.zone) for head, table in measured.tables.items()},
        **({} if measured.scans is None else {"scan": measured.scans.to_meta()}),
        "supported_probability": {head: t.supported_probability for head, t in measured.tables.items()},
        "evidence": {head: table.evidence() for head, table in measured.tables.items()},
        "heat_location": locate_heat(measured.heat, run, method, layer),
        "heatmap_method": method,
        "heatmap_layer": layer,
        "heatmap_scale": measure_heatmap_scale(stored, own, seed=run.seed, method=method, layer=layer),
        "heatmap_scale_is": "the probability of a lesion that the branch gives a cell"
        if method == ATTENTION
        else f"{SCALE_PERCENTILE:g}th percentile of positive evidence over all pixels of up to"
        f" {SCALE_STUDIES} training studies, in logits",
        "synthetic": False,
        "trained_at": time.strftime("%Y-%m-%d", time.gmtime()),
        "data": [
            collection_to_dict(run, m, c, split["hashes"].get(m))
            for m in run.network.modalities
            for c in run.collections[m]
        ],
        "split": split,
        "seed": run.seed,
        "initial_weights": {m: initial_weights_to_dict(weights) for m, weights in initial.items()},
        "training": {m: branch_to_dict(run, m, backbone) for m, backbone in run.network.branches},
        "metrics": {"validation": {head: report.to_dict() for head, report in reports.items()}},
        "operating_points": {
            head: count_operating_points(part.positive_probability(temperature[head]), part.labels).to_dict()
            for head, part in after.items()
        },
        "external": measure_external(run, stored, calibrations),
        "refusals": count_refusals(run, stored, classifier),
        "left_out": left_out,
        "float16_changes": compare_outputs(before, after, temperature),
        "content_check": described,
        "command": shorten_command(command),
        "packages": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "comparisons": [],
    }
    meta["trained_on"] = describe_training(meta)
    meta["limits"] = describe_limits(meta)
    publish_checkpoint(
        path, network, meta, render_card(meta, path.name), classifier=classifier, segmenter=run.segmenter
    )
    write_left_out(run.folder.path, left_out)
    if results is not None:
        write_left_out(results, left_out)
    print(render_left_out(left_out))
    print(f"\npublished {path}: {meta['trained_on']}")


def split_to_dict(run: ServedRun) -> dict[str, Any]:
    """The split whose validation images were held out, as `evaluate` finds it again."""
    return {
        "protocol": PAPER_SPLIT.split,
        "seed": PAPER_SPLIT.seed,
        "positives": PAPER_SPLIT.positives,
        "hashes": {m: split.hash for m, split in run.paper_splits.items() if m in run.network.modalities},
    }


def gather_own(run: ServedRun, *, validation: bool) -> dict[Modality, ModalitySamples]:
    """Crops as serving reads them: of the held-out images, or of a balanced draw of the training images."""
    samples: dict[Modality, ModalitySamples] = {}
    for modality in run.network.modalities:
        images, labels = [], []
        trained = run.training_rows(modality)
        for collection in run.collections[modality]:
            part = run.crops[collection.name]
            if validation:
                positions = run.validation_rows(collection)
            else:
                rows = trained.get(collection.name, np.zeros(len(part.labels), np.bool_))
                positions = run.labelled_rows(collection, rows)
                positions = np.random.default_rng(run.seed).permutation(positions)[:SCALE_IMAGES]
            images.append(part.exact[positions].astype(np.float32))
            labels.append(part.labels[positions])
        samples[modality] = ModalitySamples(np.concatenate(images), np.concatenate(labels))
    return {m: part for m, part in samples.items() if len(part.labels)}


def measure_external(
    run: ServedRun, network: Network, calibrations: Mapping[str, Calibration]
) -> list[dict[str, Any]]:
    """Folders `external-ct` and `external-xray` beside the collections: their classes come from different places."""
    rows: list[dict[str, Any]] = []
    for modality in run.network.modalities:
        folder = run.root / f"external-{modality}"
        if not folder.is_dir():
            continue
        records = find_class_folders(folder, modality).records
        read, has_lungs = read_records(records, modality, run.segmenter, run.network.image_size)
        margins = predict_crops(network, modality, read[has_lungs]).margins
        labels = np.array([record.label for record in records], np.int64)[has_lungs]
        auc = estimate_auc_by_patient(margins, labels)
        called = calibrations[modality].logits(margins) >= 0
        rows.append(
            {
                "collection": folder.name,
                "modality": modality,
                "auc": auc.value,
                "auc_low": auc.low,
                "auc_high": auc.high,
                "sensitivity": float(np.mean(called[labels == 1])),
                "specificity": float(np.mean(~called[labels == 0])),
                "images": len(labels),
            }
        )
    return rows


def collection_to_dict(
    run: ServedRun, modality: Modality, collection: Collection, split_hash: str | None
) -> dict[str, Any]:
    """What meta.json says of one collection. split_hash: of the modality's held-out split, if there is one."""
    normal, positive, other = collection.counts
    trained = run.training_rows(modality)
    held_out = any(image.path in run.held_out for image in collection.images)
    kinds = {
        "opacity boxes": any(image.boxes for image in collection.images),
        "lesion masks": any(image.lesion_mask for image in collection.images),
        "lung masks": any(image.lung_mask for image in collection.images),
    }
    return {
        "modality": modality,
        "name": collection.name,
        "title": collection.title,
        "source": collection.source,
        "licence": collection.licence,
        "counts": {CLASSES[0]: normal, CLASSES[1]: positive, "other": other},
        "use": "training" if collection.name in trained else "evaluation only",
        "trained": int(trained[collection.name].sum()) if collection.name in trained else 0,
        "sites": len({image.site for image in collection.images} - {""}),
        "patients": len({image.patient for image in collection.images} - {""}),
        "annotations": ", ".join(name for name, there in kinds.items() if there),
    } | ({"split_hash": split_hash} if held_out and split_hash else {})


def branch_to_dict(run: ServedRun, modality: Modality, backbone: str) -> dict[str, Any]:
    """How a served branch was trained, for meta.json."""
    recipe, images = run.recipe, run.training_count(modality)
    refined = recipe.refined_config(modality, backbone, run.seed, images)
    first = dataclasses.asdict(recipe.branch_config(modality, backbone, run.seed, images))
    described = {"image_size": recipe.training_size} | first
    described["teachers"] = [
        {"backbone": teacher, "steps": config.steps, "seed": config.seed}
        for teacher, config in recipe.teacher_configs(modality, run.seed, images)
    ]
    if refined is not None:
        described["refined"] = {k: v for k, v in dataclasses.asdict(refined).items() if v != first[k]}
    return described


def describe_measuring(run: ServedRun, distance: float) -> list[str]:
    """What a reader of the left-out page must know of how it came about."""
    return [
        "Normal CT collections without patients are trained on with opacities drawn on half of their images, and left"
        " out together with another collection; films of one class are never trained on, and their rows are the served"
        " branch's own answers.",
        "The lung segmenter learned from lung masks and lung boxes of all collections that have them, and from slices"
        " of the others marked by grey levels, also of those left out; it never sees a label.",
        f"The served concatenated head differs from the sum of the calibrated branch logits by {distance:.2f} in the"
        " mean.",
        "The recipe and its length were settled with the figures of these rows in view.",
        "Pairs are drawn from images of different patients, so CT and X-ray are independent given the label; the odds"
        " of a pair are the sum of its images' own, each calibrated on other collections, and not calibrated again.",
        *run.folder.read_notes(),
    ]
