"""The last stages of `train.py --recipe served`: calibrate, fuse, measure, publish."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm import __version__
from covid_mm.commands import shorten_command
from covid_mm.commands.left_out import (
    LeftOutMeasured,
    measure_branches,
    measure_fusion,
    measure_shortcuts,
    measure_sources,
    training_features,
)
from covid_mm.commands.left_out_heat import (
    choose_heatmap,
    locate_heat,
    measure_faithfulness,
    measure_heatmaps,
    measure_phantom_heat,
)
from covid_mm.commands.measurement import (
    SCALE_PERCENTILE,
    SCALE_STUDIES,
    answer_heads,
    compare_outputs,
    measure_heatmap_scale,
    report_heads,
)
from covid_mm.commands.publish import PACKAGES, describe_initial, store_and_read_back
from covid_mm.commands.served import (
    PAPER_SPLIT,
    ServedRun,
    TrainedBranch,
    load_branches,
    start_network,
    train_branch,
)
from covid_mm.commands.served_content import count_refusals, find_learned_images, fit_content_judge
from covid_mm.config import CLASSES, MODALITY_TITLES, Modality
from covid_mm.datasets import find_class_folders
from covid_mm.datasets.index import Collection
from covid_mm.errors import DataError
from covid_mm.evaluation.fusion import FusionComparison
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out import LeftOutTable
from covid_mm.evaluation.left_out_page import render_left_out
from covid_mm.evaluation.operating_points import count_operating_points
from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
from covid_mm.evaluation.platt import Calibration
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.models.network import FUSED, Network
from covid_mm.models.weights_file import hash_file
from covid_mm.reporting.model_card import render_card
from covid_mm.reporting.served_facts import describe_limits
from covid_mm.serving.checkpoint import publish_checkpoint
from covid_mm.serving.metadata import FORMAT_VERSION
from covid_mm.training.answers import answer_crops
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.crops import read_records
from covid_mm.training.fusion import fit_fused_head
from covid_mm.training.run import write_atomically

LEFT_OUT_JSON = "left-out.json"
LEFT_OUT_PAGE = "left-out.md"
SCALE_IMAGES = 1500  # training images per collection that the heatmap scale is drawn from


def measure_run(run: ServedRun) -> tuple[LeftOutMeasured, dict[Modality, TrainedBranch]]:
    """Train what is not trained yet, then measure the left-out branches; kept in the run folder.

    Raises:
        DataError: a modality has fewer than two collections or scanner groups to leave out.
    """
    for modality, parts in run.folds.items():
        if len(parts) < 2:
            raise DataError(
                f"Only {len(parts)} collection or group of scanners of {MODALITY_TITLES[modality]} images can be left"
                " out; at least two are needed to say what the network is worth somewhere new. Add a collection,"
                " or train with --recipe paper."
            )
    served = {m: train_branch(run, m, None) for m in run.network.modalities}
    folds = [train_branch(run, m, fold) for m in run.network.modalities for fold in run.folds[m]]
    print("measuring the left-out networks", flush=True)
    stages = _Stages(run, [*served.values(), *folds])
    tables = {str(m): table for m, table in measure_branches(run, folds, served).items()}

    def fuse() -> dict[str, Any]:
        table, comparison = measure_fusion(run, folds)
        return {"table": table.to_dict(), "comparison": comparison.to_dict()}

    fusion = stages.keep("fusion", fuse)
    heat = tuple(
        HeatRow.from_dict(row)
        for row in stages.keep(
            "heat",
            lambda: [
                r.to_dict() for r in (*measure_heatmaps(run, folds), *measure_phantom_heat(run, served))
            ],
        )
    )
    method, layer = choose_heatmap(heat)
    shortcuts = stages.keep("shortcuts", lambda: [row.to_dict() for row in measure_shortcuts(run, folds)])
    sources = stages.keep("sources", lambda: [row.to_dict() for row in measure_sources(run, served)])
    faithful = stages.keep("faithfulness", lambda: measure_faithfulness(run, folds, method, layer))
    measured = LeftOutMeasured(
        tables={FUSED: LeftOutTable.from_dict(fusion["table"]), **tables},
        fusion=FusionComparison.from_dict(fusion["comparison"]),
        heat=heat,
        shortcuts=tuple(ShortcutRow.from_dict(row) for row in shortcuts),
        sources=tuple(SourceRow.from_dict(row) for row in sources),
        faithfulness=tuple(faithful),
    )
    return measured, served


class _Stages:
    """What was measured of these very branches, kept as JSON in the run folder."""

    def __init__(self, run: ServedRun, branches: Sequence[TrainedBranch]) -> None:
        digest = hashlib.sha256()
        for branch in branches:
            digest.update(hash_file(branch.folder.path / "last.npz").encode())
        self._key, self._folder = digest.hexdigest(), run.folder

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """The kept values of a stage, or those measured now."""
        file = f"measured-{name}.json"
        if (self._folder.path / file).exists():
            kept = self._folder.read_json(file)
            if kept.get("branches") == self._key:
                return kept["values"]
        print(f"  {name}", flush=True)
        values = measure()
        self._folder.write_json(file, {"branches": self._key, "values": values})
        return values


def publish_served(run: ServedRun, command: str, place: Path, results: Path | None) -> None:
    """Measure, fuse, and publish the checkpoint; results: the folder where the left-out page goes."""
    measured, served = measure_run(run)
    _, initial = start_network(run)
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
        {head: part.shifted(offset[head]) for head, part in answer_heads(n, held, seed=run.seed).items()}
        for n in (network, stored)
    )
    judge, described = fit_content_judge(stored, find_learned_images(run), seed=run.seed)
    reports = report_heads(after, temperature, threshold)
    split = describe_split(run)
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
        "supported_probability": {head: t.supported_probability for head, t in measured.tables.items()},
        "evidence": {head: table.evidence() for head, table in measured.tables.items()},
        "heat_location": locate_heat(measured.heat, run, method, layer),
        "heatmap_method": method,
        "heatmap_layer": layer,
        "heatmap_scale": measure_heatmap_scale(stored, own, seed=run.seed, method=method, layer=layer),
        "heatmap_scale_is": f"{SCALE_PERCENTILE:g}th percentile of positive evidence over all pixels of up to"
        f" {SCALE_STUDIES} training studies, in logits",
        "synthetic": False,
        "trained_on": describe_training(run),
        "trained_at": time.strftime("%Y-%m-%d", time.gmtime()),
        "data": [
            describe_collection(run, m, c, split["hashes"].get(m))
            for m in run.network.modalities
            for c in run.collections[m]
        ],
        "split": split,
        "seed": run.seed,
        "initial_weights": {m: describe_initial(weights) for m, weights in initial.items()},
        "training": {
            m: dataclasses.asdict(run.recipe.branch_config(m, backbone, run.seed, run.training_count(m)))
            for m, backbone in run.network.branches
        },
        "metrics": {"validation": {head: report.to_dict() for head, report in reports.items()}},
        "operating_points": {
            head: count_operating_points(part.positive_probability(temperature[head]), part.labels).to_dict()
            for head, part in after.items()
        },
        "external": measure_external(run, stored, calibrations),
        "refusals": count_refusals(run, stored, judge),
        "left_out": left_out,
        "float16_changes": compare_outputs(before, after, temperature),
        "judge": described,
        "command": shorten_command(command),
        "packages": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "comparisons": [],
    }
    meta["limits"] = describe_limits(meta)
    publish_checkpoint(
        place, network, meta, render_card(meta, place.name), judge=judge, segmenter=run.segmenter
    )
    write_left_out(run.folder.path, left_out)
    if results is not None:
        write_left_out(results, left_out)
    print(render_left_out(left_out))
    print(f"\npublished {place}: {meta['trained_on']}")


def write_left_out(folder: Path, left_out: dict[str, Any]) -> None:
    """The left-out figures as JSON, as a page, and drawn."""
    from covid_mm.evaluation.figures.canvas import save_figure
    from covid_mm.evaluation.figures.left_out import draw_left_out_aucs, draw_reliability

    tables = [LeftOutTable.from_dict(part) for part in left_out["heads"]]
    figures = {"left-out-auc": draw_left_out_aucs(tables)}
    figures |= {f"reliability-{table.head}": draw_reliability(table) for table in tables}
    titles = {"left-out-auc": "AUC on collections never seen"}
    named = {titles.get(name, f"Calibration, {name.split('-')[-1]}"): f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_figure(figure, folder, name)
    page = left_out | {"figures": named}
    write_atomically(folder / LEFT_OUT_JSON, (json.dumps(page, indent=1) + "\n").encode())
    write_atomically(folder / LEFT_OUT_PAGE, render_left_out(page).encode())


def describe_split(run: ServedRun) -> dict[str, Any]:
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
                rows = np.array([image.path in run.held_out for image in collection.images])
                positions = run.labelled_rows(collection, rows)
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
        read, found = read_records(records, modality, run.segmenter, run.network.image_size)
        margins = answer_crops(network, modality, read[found]).margins
        labels = np.array([record.label for record in records], np.int64)[found]
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


def describe_training(run: ServedRun) -> str:
    """One line: what the network was trained on."""
    parts = []
    for modality in run.network.modalities:
        rows = run.training_rows(modality)
        names = ", ".join(rows)
        parts.append(
            f"{sum(int(v.sum()) for v in rows.values())} {MODALITY_TITLES[modality]} images ({names})"
        )
    return " and ".join(parts)


def describe_collection(
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


def describe_measuring(run: ServedRun, distance: float) -> list[str]:
    """What a reader of the left-out page must know of how it came about."""
    return [
        "Normal CT collections without patients are trained on with opacities drawn on half of their images, and left"
        " out together with another collection; films of one class are never trained on, and their rows are the served"
        " branch's own answers.",
        "The lung segmenter learned from lung masks and lung boxes of all collections that have them, also of those"
        " left out; it never sees a label.",
        f"The served concatenated head differs from the sum of the calibrated branch logits by {distance:.2f} in the"
        " mean.",
        "The recipe was settled with the figures of some of these rows in view (CT without one collection, films"
        " without one group of scanners); the other rows were looked at once.",
        "Pairs are drawn from images of different patients, so CT and X-ray are independent given the label.",
    ]
