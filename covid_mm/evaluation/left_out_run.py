"""What the served recipe is worth somewhere new: left-out branches measured, tables made, nothing trained.

`evaluate --leave-out source` and the last stages of `train.py --recipe served`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import DataError
from covid_mm.evaluation.fusion import FusionComparison, StudyPairs, compare_fusion, draw_pairs
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out import LeftOutTable, tabulate_left_out
from covid_mm.evaluation.left_out_heat import (
    choose_heatmap,
    measure_faithfulness,
    measure_heatmaps,
    measure_phantom_heat,
)
from covid_mm.evaluation.left_out_images import (
    fit_left_out_head,
    gather_left_out,
    gather_predictions,
    make_predictions,
)
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.platt import Calibration, leave_one_calibration
from covid_mm.evaluation.scans import ScansMeasured, measure_scans
from covid_mm.evaluation.shortcuts import (
    ShortcutRow,
    SourceRow,
    blank_hull,
    blank_lungs,
    border_only,
    lungs_only,
    measure_shortcut,
    shuffle_outside,
    source_auc,
)
from covid_mm.files import hash_file
from covid_mm.imaging import read_grey
from covid_mm.imaging.lungs import LungRegion, read_lungs
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.training.branch_predictions import predict_crops
from covid_mm.training.crops import LungCrops, round_pixels
from covid_mm.training.recipe import has_both_classes
from covid_mm.training.served_run import ServedRun, TrainedBranch, load_branches, train_branches

SHORTCUT_IMAGES = 400  # per fold
PAIRS = 250  # of each of the four combinations of labels


@dataclass(frozen=True)
class LeftOutMeasured:
    """Everything that left-out branches gave. tables: by head. faithfulness: of the chosen heatmap.

    scans: None where no collection has CT scans of both classes.
    """

    tables: Mapping[str, LeftOutTable]
    fusion: FusionComparison
    heat: tuple[HeatRow, ...]
    shortcuts: tuple[ShortcutRow, ...]
    sources: tuple[SourceRow, ...]
    faithfulness: tuple[dict[str, Any], ...]
    scans: ScansMeasured | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `left_out_page.render_left_out` takes it."""
        return {
            "heads": [table.to_dict() for table in self.tables.values()],
            "fusion": self.fusion.to_dict(),
            "heatmaps": [row.to_dict() for row in self.heat],
            "shortcuts": [row.to_dict() for row in self.shortcuts],
            "sources": [row.to_dict() for row in self.sources],
            "faithfulness": list(self.faithfulness),
        } | ({} if self.scans is None else {"scans": self.scans.to_dict()})


def measure_branches(
    run: ServedRun, folds: Sequence[TrainedBranch], served: Mapping[Modality, TrainedBranch]
) -> dict[Modality, LeftOutTable]:
    """The table of each modality: every fold by its own network, one-class collections by the served one."""
    return {m: tabulate_left_out(gather_predictions(run, m, folds, served)) for m in run.network.modalities}


def measure_fusion(run: ServedRun, folds: Sequence[TrainedBranch]) -> tuple[LeftOutTable, FusionComparison]:
    """The fused head on pairs of left-out images, a head trained anew for every combination of folds.

    Its odds are the sum of its parts' calibrated odds, so they are not calibrated again: on pairs that would be by the
    offset of the few CT collections that they are formed of.
    """
    fits = {m: leave_one_calibration(gather_predictions(run, m, folds, {})) for m in run.network.modalities}
    by_modality = {m: [b for b in folds if b.modality == m] for m in run.network.modalities}
    rows: list[LeftOutPredictions] = []
    everything: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (FUSED, *by_modality, "truth")}
    for number, branches in enumerate(itertools.product(*by_modality.values())):
        head, calibrations = fit_left_out_head(run, branches, fits)
        left = {b.modality: gather_left_out(run, b) for b in branches}
        labels = {m: part.predictions.labels for m, part in left.items()}
        pairs = draw_pairs(labels, per_kind=PAIRS, seed=run.seed + number)
        paired = [part.features[pairs.rows[m]] for m, part in left.items()]
        fused = find_margins(head.predict(paired, batch_size=256, verbose=0)).astype(np.float64)
        agreeing = pairs.agreeing
        last = branches[-1].modality
        rows.append(
            LeftOutPredictions(
                collection=" with ".join(b.fold.name for b in branches if b.fold is not None),
                head=FUSED,
                margins=fused[agreeing],
                labels=pairs.labels[agreeing],
                patients=left[last].predictions.patients[pairs.rows[last][agreeing]],
                left_out=tuple(b.fold.name for b in branches if b.fold is not None),
            )
        )
        everything[FUSED].append(fused)
        for modality, part in left.items():
            logits = calibrations[modality].logits(part.predictions.margins)
            everything[modality].append(logits[pairs.rows[modality]])
        everything["truth"].append(np.stack([pairs.labels, agreeing.astype(np.int64)]).astype(np.float64))
    joined = {name: np.concatenate(parts, axis=-1) for name, parts in everything.items()}
    order = np.arange(len(joined[FUSED]), dtype=np.int64)
    truth, agreeing = joined["truth"].astype(np.int64)
    comparison = compare_fusion(
        StudyPairs(dict.fromkeys(by_modality, order), truth, agreeing.astype(np.bool_)),
        fused_logits=joined[FUSED],
        branch_logits={m: joined[m] for m in by_modality},
    )
    return tabulate_left_out(rows, calibration=Calibration(1.0, 0.0, ())), comparison


def measure_shortcuts(run: ServedRun, folds: Sequence[TrainedBranch]) -> list[ShortcutRow]:
    """Left-out images altered so that only a shortcut is left, or only the lungs; AUC of each."""
    rows = []
    for branch in folds:
        assert branch.fold is not None
        model = load_branches(run, (branch,))
        for name, left in branch.fold.rows.items():
            collection = run.collection(branch.modality, name)
            if not has_both_classes(collection):
                continue
            positions = run.labelled_rows(collection, left)
            positions = np.random.default_rng(run.seed).permutation(positions)[:SHORTCUT_IMAGES]
            greys = [read_grey(collection.images[row].path) for row in positions]
            regions = run.segmenter.find(greys, branch.modality)
            altered: dict[str, list[NDArray[np.uint8]]] = {}
            for number, (grey, region) in enumerate(zip(greys, regions, strict=True)):
                if region is None:
                    continue
                for test, image in _alter(grey, region, np.random.default_rng([run.seed, number])).items():
                    crop = read_lungs(image, region, branch.modality, run.network.image_size)
                    altered.setdefault(test, []).append(round_pixels(crop))
            with_lungs = positions[[region is not None for region in regions]]
            for test, images in altered.items():
                margins = predict_crops(model, branch.modality, np.stack(images)).margins
                predictions = make_predictions(run, collection, with_lungs, branch.fold.name, margins)
                rows.append(measure_shortcut(test, predictions))
    return rows


def _alter(
    grey: NDArray[np.float32], region: LungRegion, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """One image in every variant, in the order of the table."""
    height, width = grey.shape
    lungs = cv2.resize(region.lungs.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    without_hull = blank_hull(grey, lungs)
    return {
        "whole": grey,
        "blank_lungs": blank_lungs(grey, lungs),
        "blank_hull": without_hull,
        "border_only": border_only(grey),
        "border_beyond_lungs": border_only(without_hull),
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
            positions = np.flatnonzero(crops.has_lungs & (crops.labels == 0))[:SHORTCUT_IMAGES]
            features.append(branch.answers[collection.name].features[positions].astype(np.float32))
            names += [collection.name] * len(positions)
        if len(set(names)) > 1:
            rows.append(
                source_auc(np.concatenate(features), np.array(names), name=f"{modality} normal images")
            )
    return rows


def measure_run(run: ServedRun) -> tuple[LeftOutMeasured, dict[Modality, TrainedBranch]]:
    """Train what is not trained yet, then measure the left-out branches; kept in the run folder.

    Raises:
        DataError: a modality has fewer than two collections or scanner groups to leave out.
    """
    for modality, parts in run.folds.items():
        if len(parts) < 2:
            raise DataError(
                f"Only {len(parts)} collection or group of scanners of {MODALITIES[modality].title} images can be left"
                " out; at least two are needed to say what the network is worth somewhere new. Add a collection,"
                " or train with --recipe paper."
            )
    served, folds = train_branches(run)
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
    scans = stages.keep(
        "scans", lambda: None if (part := measure_scans(run, folds)) is None else part.to_dict()
    )
    faithful = stages.keep("faithfulness", lambda: measure_faithfulness(run, folds, method, layer))
    measured = LeftOutMeasured(
        tables={FUSED: LeftOutTable.from_dict(fusion["table"]), **tables},
        fusion=FusionComparison.from_dict(fusion["comparison"]),
        heat=heat,
        shortcuts=tuple(ShortcutRow.from_dict(row) for row in shortcuts),
        sources=tuple(SourceRow.from_dict(row) for row in sources),
        faithfulness=tuple(faithful),
        scans=None if scans is None else ScansMeasured.from_dict(scans),
    )
    return measured, served


class _Stages:
    """What was measured of these very branches and crops, kept as JSON in the run folder."""

    def __init__(self, run: ServedRun, branches: Sequence[TrainedBranch]) -> None:
        digest = hashlib.sha256()
        for branch in branches:
            digest.update(hash_file(branch.folder.path / "last.npz").encode())
        for name, crops in run.crops.items():
            digest.update(name.encode() + crops.digest)
        self._key, self._folder = digest.hexdigest(), run.folder

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """The kept values of a stage, or those measured now."""
        file = f"measured-{name}.json"
        if (self._folder.path / file).exists():
            cached = self._folder.read_json(file)
            if cached.get("measured_of") == self._key:
                return cached["values"]
        print(f"  {name}", flush=True)
        values = measure()
        self._folder.write_json(file, {"measured_of": self._key, "values": values})
        return values
