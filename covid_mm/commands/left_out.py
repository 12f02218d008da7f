"""What the served recipe is worth somewhere new: left-out branches measured, tables made, nothing trained.

`evaluate --leave-out source` and the last stages of `train.py --recipe served`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.commands.served import ServedRun, TrainedBranch, load_branches
from covid_mm.config import POSITIVE, Modality
from covid_mm.datasets.index import Collection
from covid_mm.datasets.phantoms import make_study
from covid_mm.evaluation.fusion import FusionComparison, StudyPairs, compare_fusion, draw_pairs
from covid_mm.evaluation.heat_faithfulness import (
    compare_with_random,
    deletion_curve,
    insertion_curve,
    mean_area,
)
from covid_mm.evaluation.heat_location import HeatMeasure, HeatRow, measure_heat, summarise_heat
from covid_mm.evaluation.left_out import (
    LeftOutPredictions,
    LeftOutTable,
    leave_one_calibration,
    tabulate_left_out,
)
from covid_mm.evaluation.shortcuts import (
    ShortcutRow,
    SourceRow,
    blank_lungs,
    border_only,
    lungs_only,
    measure_shortcut,
    shuffle_outside,
    source_auc,
)
from covid_mm.explain.grad_cam import GradCam
from covid_mm.explain.method_table import FIXED_SCALE_METHODS, LAYERS, METHODS, LayerChoice, MethodName
from covid_mm.explain.methods import BranchExplainer
from covid_mm.imaging import read_grey
from covid_mm.imaging.lungs import LungRegion, place_in_image, read_lungs
from covid_mm.models.network import FUSED, Network, build_network
from covid_mm.training.answers import answer_crops
from covid_mm.training.crops import OTHER, LungCrops, lesion_mask, to_network_input
from covid_mm.training.fusion import BranchScale, fit_fused_head
from covid_mm.training.recipe import has_both_classes, trainable

FRAME = 256  # pixels a side of the whole image's frame in which heat is measured
HEAT_IMAGES = 250  # positive images per fold that the fast methods are measured on
SLOW_HEAT_IMAGES = 30  # and those that take a second per image
SHORTCUT_IMAGES = 400  # per fold
FAITHFULNESS_IMAGES = 40
PHANTOMS = 60
PHANTOM_NAME = "phantoms"
PAIRS = 250  # of each of the four combinations of labels
_BATCH = 32


@dataclass(frozen=True)
class LeftOutMeasured:
    """Everything that left-out branches gave. tables: by head. faithfulness: of the chosen heatmap."""

    tables: Mapping[str, LeftOutTable]
    fusion: FusionComparison
    heat: tuple[HeatRow, ...]
    shortcuts: tuple[ShortcutRow, ...]
    sources: tuple[SourceRow, ...]
    faithfulness: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """As `left_out_page.render_left_out` takes it."""
        return {
            "heads": [table.to_dict() for table in self.tables.values()],
            "fusion": self.fusion.to_dict(),
            "heatmaps": [row.to_dict() for row in self.heat],
            "shortcuts": [row.to_dict() for row in self.shortcuts],
            "sources": [row.to_dict() for row in self.sources],
            "faithfulness": list(self.faithfulness),
        }


def measure_branches(
    run: ServedRun, folds: Sequence[TrainedBranch], served: Mapping[Modality, TrainedBranch]
) -> dict[Modality, LeftOutTable]:
    """The table of each modality: every fold by its own network, one-class collections by the served one."""
    return {m: tabulate_left_out(gather_predictions(run, m, folds, served)) for m in run.network.modalities}


def gather_predictions(
    run: ServedRun,
    modality: Modality,
    folds: Sequence[TrainedBranch],
    served: Mapping[Modality, TrainedBranch],
) -> list[LeftOutPredictions]:
    """Left-out predictions of one modality; images whose lungs were not found have none."""
    predictions = []
    for branch in folds:
        if branch.modality != modality or branch.fold is None:
            continue
        for name, rows in branch.fold.rows.items():
            collection = _named(run, modality, name)
            title = branch.fold.name if has_both_classes(collection) else name
            predictions.append(_predict(run, collection, branch, rows, title))
    for collection in run.collections[modality]:
        if collection not in trainable(run.collections[modality]) and modality in served:
            rows = np.ones(len(collection.images), np.bool_)
            predictions.append(_predict(run, collection, served[modality], rows, collection.name))
    return predictions


def _predict(
    run: ServedRun, collection: Collection, branch: TrainedBranch, rows: NDArray[np.bool_], name: str
) -> LeftOutPredictions:
    part = run.crops[collection.name]
    keep = rows & part.found & (part.labels != OTHER)
    images = [image for image, chosen in zip(collection.images, keep, strict=True) if chosen]
    return LeftOutPredictions(
        collection=name,
        head=branch.modality,
        margins=branch.answers[collection.name].margins[keep].astype(np.float64),
        labels=part.labels[keep],
        patients=np.array([image.patient for image in images], dtype=np.str_),
        names=tuple(image.name for image in images),
    )


def _named(run: ServedRun, modality: Modality, name: str) -> Collection:
    return next(c for c in run.collections[modality] if c.name == name)


def training_features(run: ServedRun, branch: TrainedBranch) -> NDArray[np.float32]:
    """Pooled features (n, channels) of the images that a branch was trained on."""
    chosen = run.training_rows(branch.modality, branch.fold)
    return np.concatenate(
        [branch.answers[name].features[rows].astype(np.float32) for name, rows in chosen.items()]
    )


def measure_fusion(run: ServedRun, folds: Sequence[TrainedBranch]) -> tuple[LeftOutTable, FusionComparison]:
    """The fused head on pairs of left-out images, a head trained anew for every combination of folds."""
    fits = {m: leave_one_calibration(gather_predictions(run, m, folds, {})) for m in run.network.modalities}
    by_modality = {m: [b for b in folds if b.modality == m] for m in run.network.modalities}
    rows: list[LeftOutPredictions] = []
    everything: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("fused", "ct", "xray", "truth")}
    for number, (ct, xray) in enumerate(itertools.product(by_modality["ct"], by_modality["xray"])):
        assert ct.fold is not None
        assert xray.fold is not None
        network = load_branches(run, (ct, xray))
        scales = {
            b.modality: BranchScale(
                fits[b.modality][b.fold.name].temperature, fits[b.modality][b.fold.name].offset
            )
            for b in (ct, xray)
            if b.fold is not None
        }
        fit_fused_head(
            network, {b.modality: training_features(run, b) for b in (ct, xray)}, scales, seed=run.seed
        )
        left = {b.modality: _left_out_rows(run, b) for b in (ct, xray)}
        pairs = draw_pairs(left["ct"].labels, left["xray"].labels, per_kind=PAIRS, seed=run.seed + number)
        head = keras.Model([network.features("ct"), network.features("xray")], network.logits(FUSED))
        logits = head.predict(
            [left["ct"].features[pairs.ct], left["xray"].features[pairs.xray]], batch_size=256, verbose=0
        )
        fused = (logits[:, POSITIVE] - logits[:, 1 - POSITIVE]).astype(np.float64)
        agreeing = pairs.agreeing
        rows.append(
            LeftOutPredictions(
                collection=f"{ct.fold.name} with {xray.fold.name}",
                head=FUSED,
                margins=fused[agreeing],
                labels=pairs.labels[agreeing],
                patients=left["xray"].patients[pairs.xray[agreeing]],
            )
        )
        everything["fused"].append(fused)
        everything["ct"].append(scales["ct"].logit(left["ct"].margins)[pairs.ct].astype(np.float64))
        everything["xray"].append(scales["xray"].logit(left["xray"].margins)[pairs.xray].astype(np.float64))
        everything["truth"].append(np.stack([pairs.labels, agreeing.astype(np.int64)]).astype(np.float64))
    joined = {name: np.concatenate(parts, axis=-1) for name, parts in everything.items()}
    order = np.arange(len(joined["fused"]), dtype=np.int64)
    labels, agreeing = joined["truth"].astype(np.int64)
    comparison = compare_fusion(
        StudyPairs(order, order, labels, agreeing.astype(np.bool_)),
        fused_logits=joined["fused"],
        ct_logits=joined["ct"],
        xray_logits=joined["xray"],
    )
    return tabulate_left_out(rows), comparison


@dataclass(frozen=True)
class _LeftOutRows:
    margins: NDArray[np.float32]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]


def _left_out_rows(run: ServedRun, branch: TrainedBranch) -> _LeftOutRows:
    assert branch.fold is not None
    parts = []
    for name, rows in branch.fold.rows.items():
        crops, answers = run.crops[name], branch.answers[name]
        keep = rows & crops.found & (crops.labels != OTHER)
        images = _named(run, branch.modality, name).images
        parts.append(
            (
                answers.margins[keep],
                answers.features[keep].astype(np.float32),
                crops.labels[keep],
                np.array(
                    [i.patient for i, chosen in zip(images, keep, strict=True) if chosen], dtype=np.str_
                ),
            )
        )
    return _LeftOutRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class HeatImage:
    """One positive image with a known lesion: its crop (size, size, 3), box, and masks in FRAME."""

    crop: NDArray[np.float32]
    box: tuple[float, float, float, float]
    target: NDArray[np.bool_]
    lungs: NDArray[np.bool_]


def find_heat_images(run: ServedRun, branch: TrainedBranch, count: int) -> list[HeatImage]:
    """At most `count` positive left-out images with lesions marked, evenly over the collection."""
    assert branch.fold is not None
    found: list[HeatImage] = []
    for name, rows in branch.fold.rows.items():
        crops, collection = run.crops[name], _named(run, branch.modality, name)
        marked = np.array([bool(i.boxes) or i.lesion_mask is not None for i in collection.images])
        positions = np.flatnonzero(rows & crops.found & (crops.labels == POSITIVE) & marked)
        step = max(1, len(positions) // count)
        chosen = positions[::step][:count]
        greys = [read_grey(collection.images[row].path) for row in chosen]
        regions = run.segmenter.find(greys, branch.modality)
        for row, region in zip(chosen, regions, strict=True):
            image = collection.images[row]
            mask = lesion_mask(image, FRAME, FRAME)
            if region is None or mask is None or not (mask >= 0.5).any():
                continue
            lungs = region.lungs
            if image.lung_mask is not None:
                lungs = (
                    cv2.resize(read_grey(image.lung_mask), (FRAME, FRAME), interpolation=cv2.INTER_AREA)
                    >= 127.5
                )
            found.append(
                HeatImage(to_network_input(crops.exact[row : row + 1])[0], region.box, mask >= 0.5, lungs)
            )
    return found


def measure_heatmaps(run: ServedRun, folds: Sequence[TrainedBranch]) -> list[HeatRow]:
    """Every method and layer on every fold with lesions marked, by the network that never saw it."""
    rows = []
    for branch in folds:
        assert branch.fold is not None
        images = find_heat_images(run, branch, HEAT_IMAGES)
        if not images:
            continue
        network = load_branches(run, (branch,))
        for method, layer in itertools.product(METHODS, LAYERS):
            some = (
                images
                if method in FIXED_SCALE_METHODS
                else images[:: max(1, len(images) // SLOW_HEAT_IMAGES)]
            )
            maps = make_maps(network, branch.modality, some, method, layer)  # type: ignore[arg-type]
            measures = [_measure(image, heat) for image, heat in zip(some, maps, strict=True)]
            rows.append(summarise_heat(measures, method=method, layer=layer, collection=branch.fold.name))
    return rows


def measure_phantom_heat(
    run: ServedRun, served: Mapping[Modality, TrainedBranch], count: int = PHANTOMS
) -> list[HeatRow]:
    """The served branches on phantoms, whose lesions are known to the pixel and which nothing was trained on."""
    studies = [make_study(POSITIVE, number, size=FRAME) for number in range(count)]
    rows = []
    for modality, branch in served.items():
        greys = [getattr(study, modality).astype(np.float32) for study in studies]
        images = []
        for study, grey, region in zip(studies, greys, run.segmenter.find(greys, modality), strict=True):
            target = getattr(study, f"{modality}_lesions")
            if region is None or not target.any():
                continue
            crop = np.clip(np.rint(read_lungs(grey, region, modality, run.network.image_size)), 0, 255)
            lungs = getattr(study, f"{modality}_lungs")
            images.append(
                HeatImage(to_network_input(crop[None].astype(np.uint8))[0], region.box, target, lungs)
            )
        if not images:
            continue
        network = load_branches(run, (branch,))
        for method, layer in itertools.product(FIXED_SCALE_METHODS, LAYERS):
            maps = make_maps(network, modality, images, method, layer)
            measures = [_measure(image, heat) for image, heat in zip(images, maps, strict=True)]
            rows.append(
                summarise_heat(measures, method=method, layer=layer, collection=f"{modality} {PHANTOM_NAME}")
            )
    return rows


def make_maps(
    network: Network, modality: Modality, images: Sequence[HeatImage], method: MethodName, layer: LayerChoice
) -> list[NDArray[np.float32]]:
    """Evidence for the positive class, (size, size) per image."""
    if method not in FIXED_SCALE_METHODS:
        explainer = BranchExplainer(network, (modality,))
        return [
            explainer.explain({modality: image.crop[None]}, POSITIVE, method=method, layer=layer)[modality]
            for image in images
        ]
    function = GradCam(network, (modality,), method=method, layer=layer)
    maps: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _BATCH):
        batch = np.stack([image.crop for image in images[start : start + _BATCH]])
        explained = function.explain({modality: batch}, np.full(len(batch), POSITIVE, np.int32))
        maps += list(explained.evidence[modality])
    return maps


def choose_heatmap(rows: Sequence[HeatRow]) -> tuple[str, LayerChoice]:
    """The method and layer that point best over all folds, each counting the same; among the fast ones."""
    means: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.method in FIXED_SCALE_METHODS and not row.collection.endswith(PHANTOM_NAME):
            means.setdefault((row.method, row.layer), []).append(row.hit)
    if not means:
        return "grad_cam", "coarse"
    method, layer = max(means, key=lambda key: float(np.mean(means[key])))
    return method, layer  # type: ignore[return-value]


def locate_heat(
    rows: Sequence[HeatRow], run: ServedRun, method: str, layer: str
) -> dict[Modality, dict[str, Any] | None]:
    """What meta.json says of how often the hottest point lies on a lesion, by modality."""
    located: dict[Modality, dict[str, Any] | None] = {}
    for modality in run.network.modalities:
        names = {fold.name for fold in run.folds[modality]}
        own = [r for r in rows if r.collection in names and (r.method, r.layer) == (method, layer)]
        total = sum(row.images for row in own)
        located[modality] = None
        if total:
            located[modality] = {
                "target": "opacity boxes" if modality == "xray" else "lesion masks",
                "hit": sum(row.hit * row.images for row in own) / total,
                "chance": sum(row.chance * row.images for row in own) / total,
                "images": total,
                "method": method,
                "layer": layer,
            }
    return located


def measure_faithfulness(
    run: ServedRun, folds: Sequence[TrainedBranch], method: MethodName, layer: LayerChoice
) -> list[dict[str, Any]]:
    """Deletion, insertion and the check with random weights, for one method on every fold with lesions marked."""
    rows = []
    for branch in folds:
        assert branch.fold is not None
        images = find_heat_images(run, branch, FAITHFULNESS_IMAGES)
        if not images:
            continue
        network = load_branches(run, (branch,))
        random = build_network(run.network, seed=run.seed + 1)
        maps = make_maps(network, branch.modality, images, method, layer)
        others = make_maps(random, branch.modality, images, method, layer)
        model = keras.Model(network.image_input(branch.modality), network.logits(branch.modality))

        def score(batch: NDArray[np.float32], model: keras.Model = model) -> NDArray[np.float64]:
            logits = model.predict(batch, batch_size=_BATCH, verbose=0)
            return np.asarray(1.0 / (1.0 + np.exp(logits[:, 1 - POSITIVE] - logits[:, POSITIVE])), np.float64)

        deletions, insertions = [], []
        for image, heat in zip(images, maps, strict=True):
            blurred = cv2.GaussianBlur(image.crop, (0, 0), 12)
            deletions.append(deletion_curve(score, image.crop, heat, steps=10, fill=blurred))
            insertions.append(insertion_curve(score, image.crop, heat, steps=10, fill=blurred))
        rows.append(
            {
                "collection": branch.fold.name,
                "method": method,
                "layer": layer,
                "images": len(images),
                "deletion": mean_area(deletions),
                "insertion": mean_area(insertions),
                "random_weights": compare_with_random(maps, others).to_dict(),
            }
        )
    return rows


def _measure(image: HeatImage, heat: NDArray[np.float32]) -> HeatMeasure:
    return measure_heat(place_in_image(heat, image.box, FRAME, FRAME), image.target, image.lungs)


def measure_shortcuts(run: ServedRun, folds: Sequence[TrainedBranch]) -> list[ShortcutRow]:
    """Left-out images altered so that only a shortcut is left, or only the lungs; AUC of each."""
    rows = []
    for branch in folds:
        assert branch.fold is not None
        model = load_branches(run, (branch,))
        for name, left in branch.fold.rows.items():
            crops, collection = run.crops[name], _named(run, branch.modality, name)
            if not has_both_classes(collection):
                continue
            positions = np.flatnonzero(left & crops.found & (crops.labels != OTHER))
            positions = np.random.default_rng(run.seed).permutation(positions)[:SHORTCUT_IMAGES]
            greys = [read_grey(collection.images[row].path) for row in positions]
            regions = run.segmenter.find(greys, branch.modality)
            altered: dict[str, list[NDArray[np.uint8]]] = {}
            for number, (grey, region) in enumerate(zip(greys, regions, strict=True)):
                if region is None:
                    continue
                for test, image in _alter(grey, region, np.random.default_rng([run.seed, number])).items():
                    crop = read_lungs(image, region, branch.modality, run.network.image_size)
                    altered.setdefault(test, []).append(np.clip(np.rint(crop), 0, 255).astype(np.uint8))
            kept = positions[[region is not None for region in regions]]
            for test, images in altered.items():
                margins = answer_crops(model, branch.modality, np.stack(images)).margins
                predictions = LeftOutPredictions(
                    collection=branch.fold.name,
                    head=branch.modality,
                    margins=margins.astype(np.float64),
                    labels=crops.labels[kept],
                    patients=np.array([collection.images[row].patient for row in kept], dtype=np.str_),
                )
                rows.append(measure_shortcut(test, predictions))
    return rows


def _alter(
    grey: NDArray[np.float32], region: LungRegion, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """One image in every variant, in the order of the table."""
    height, width = grey.shape
    lungs = cv2.resize(region.lungs.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return {
        "whole": grey,
        "blank_lungs": blank_lungs(grey, lungs),
        "border_only": border_only(grey),
        "lungs_only": lungs_only(grey, lungs),
        "shuffle_outside": shuffle_outside(grey, lungs, rng),
    }


def measure_sources(run: ServedRun, served: Mapping[Modality, TrainedBranch]) -> list[SourceRow]:
    """Whether the collection can be named from the served branch's features of normal images."""
    rows = []
    for modality, branch in served.items():
        features, names = [], []
        for collection in run.collections[modality]:
            crops: LungCrops = run.crops[collection.name]
            positions = np.flatnonzero(crops.found & (crops.labels == 0))[:SHORTCUT_IMAGES]
            features.append(branch.answers[collection.name].features[positions].astype(np.float32))
            names += [collection.name] * len(positions)
        if len(set(names)) > 1:
            rows.append(
                source_auc(np.concatenate(features), np.array(names), name=f"{modality} normal images")
            )
    return rows
