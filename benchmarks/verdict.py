"""How often an answer is inconclusive or its heat doubtful, on images that the networks never saw.

    python benchmarks/verdict.py --data DIR --run runs/RUN

RUN: of `train.py --recipe served`; nothing is trained. Prints two tables: pairs of left-out images whose CT and X-ray
disagree beyond their abstain zones, and the checks of heatmaps with the levels that `explain/heat_checks.py` keeps.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import load_tensorflow

PAIRS_HEAD = (
    "left-out pairs of one label",
    "pairs",
    "disagree",
    "combined right on these",
    "CT right",
    "X-ray right",
    "combined right where both name one class",
    "disagree where the labels differ",
)
HEAT_HEAD = (
    "positive images with lesions marked",
    "images",
    "heat outside the lungs, median",
    "95th percentile",
    "hottest point on a lesion above it",
    "below it",
    "methods apart, 95th percentile",
    "hottest point on a lesion beyond it",
    "within it",
)
IMAGES = 250  # per fold, for heat
BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--run", required=True, metavar="RUN")
    options = parser.parse_args()
    load_tensorflow()

    from covid_mm.reporting.tables import format_table
    from covid_mm.training.served_run import reopen_run, train_branch

    with reopen_run(Path(options.run), options.data) as run:
        folds = [train_branch(run, m, fold) for m in run.network.modalities for fold in run.folds[m]]
        print(format_table(list(PAIRS_HEAD), list(list_pairs(run, folds))), flush=True)
        heat: dict[str, list[Any]] = {}
        for branch in folds:
            heat.setdefault(branch.modality, []).append(measure_heat(run, branch))
        rows = [
            describe_heat(modality, np.concatenate([p for p in parts if len(p)]))
            for modality, parts in heat.items()
            if any(len(part) for part in parts)
        ]
        print(format_table(list(HEAT_HEAD), rows))


def list_pairs(run: Any, folds: Any) -> Iterator[list[str]]:
    """A row for each combination of folds, and one for all: networks, calibration and zone never saw the images."""
    from covid_mm.evaluation.fusion import draw_pairs
    from covid_mm.evaluation.left_out_images import gather_left_out, gather_predictions
    from covid_mm.evaluation.left_out_run import PAIRS, measure_branches
    from covid_mm.evaluation.platt import leave_one_calibration

    tables = measure_branches(run, folds, {})
    fits = {m: leave_one_calibration(gather_predictions(run, m, folds, {})) for m in run.network.modalities}
    by_modality = {m: [b for b in folds if b.modality == m] for m in run.network.modalities}
    everything = []
    for number, pair in enumerate(itertools.product(by_modality["ct"], by_modality["xray"])):
        left = {b.modality: gather_left_out(run, b) for b in pair}
        labels = {m: part.predictions.labels for m, part in left.items()}
        pairs = draw_pairs(labels, per_kind=PAIRS, seed=run.seed + number)
        logits, calls = {}, {}
        for branch in pair:
            name, modality = branch.fold.name, branch.modality
            chosen = pairs.rows[modality]
            row = next(r for r in tables[modality].rows if r.collection == name)
            logits[modality] = fits[modality][name].logits(left[modality].predictions.margins)[chosen]
            calls[modality] = call(1 / (1 + np.exp(-logits[modality])), row.threshold, row.zone)
        # the fused head differs from this sum by 0.001 in the mean (results/left-out.md)
        combined = (logits["ct"] + logits["xray"] >= 0).astype(int)
        agreeing = pairs.agreeing.astype(int)
        everything.append(np.stack([calls["ct"], calls["xray"], combined, pairs.labels, agreeing]))
        yield describe_pairs(" with ".join(b.fold.name for b in pair), everything[-1])
    yield describe_pairs("all", np.concatenate(everything, axis=1))


def call(probabilities: Any, threshold: float, zone: tuple[float, float]) -> Any:
    """0 or 1 as serving calls them, -1 inside the abstain zone."""
    from covid_mm.evaluation.abstention import is_inside

    calls = (probabilities >= threshold).astype(int)
    calls[is_inside(probabilities, *zone)] = -1
    return calls


def describe_pairs(title: str, columns: Any) -> list[str]:
    """columns: CT's call, X-ray's call, combined call, label, whether both have this label; each (pairs,)."""
    one_label = columns[4] == 1
    differing = columns[:, ~one_label]
    ct, xray, combined, truth, _ = columns[:, one_label]
    apart = (ct >= 0) & (xray >= 0) & (ct != xray)
    alike = (ct >= 0) & (ct == xray)
    flagged = (differing[0] >= 0) & (differing[1] >= 0) & (differing[0] != differing[1])
    shares = [np.mean(part[apart] == truth[apart]) for part in (combined, ct, xray)]
    shares += [np.mean(combined[alike] == truth[alike]), flagged.mean()]
    count = f"{apart.sum()} ({apart.mean():.1%})"
    return [title, str(len(truth)), count, *(f"{share:.1%}" for share in shares)]


def measure_heat(run: Any, branch: Any) -> Any:
    """(images, 3) of a fold's positive images that its network calls positive: heat outside the lungs, whether the
    hottest point lies on a lesion, how far the two methods' maps are apart."""
    from covid_mm.config import POSITIVE
    from covid_mm.evaluation.heat_location import find_hottest
    from covid_mm.evaluation.left_out_heat import FRAME
    from covid_mm.explain.cells import weigh_by_lungs
    from covid_mm.explain.explained import PREDICTED
    from covid_mm.explain.grad_cam import GradCam
    from covid_mm.explain.heat_checks import MEASURED, find_disagreement, find_share_outside
    from covid_mm.explain.method_table import ATTENTION
    from covid_mm.imaging import read_grey, to_network_input
    from covid_mm.imaging.lungs import cut_lungs, place_in_image
    from covid_mm.training.crops import lesion_mask
    from covid_mm.training.served_run import load_branches

    modality = branch.modality
    network = load_branches(run, (branch,))
    function = GradCam(network, (modality,), method=MEASURED[0], layer=MEASURED[1])
    grid = network.evidence(modality).shape[1:3]
    measured = []
    for name, rows in branch.fold.rows.items():
        crops, collection = run.crops[name], run.collection(modality, name)
        marked = np.array([bool(i.boxes) or i.lesion_mask is not None for i in collection.images])
        positions = run.labelled_rows(collection, rows & (crops.labels == POSITIVE) & marked)
        positions = positions[:: max(1, len(positions) // IMAGES)][:IMAGES]
        for start in range(0, len(positions), BATCH):
            chosen = positions[start : start + BATCH]
            regions = run.segmenter.find([read_grey(collection.images[r].path) for r in chosen], modality)
            images = {modality: to_network_input(crops.exact[chosen])}
            classes = np.full(len(chosen), PREDICTED, np.int32)
            first = function.explain(images, classes)
            for row, region in enumerate(regions):
                mask = lesion_mask(collection.images[chosen[row]], FRAME, FRAME)
                if first.classes[row] != POSITIVE or region is None or mask is None or mask.max() < 0.5:
                    continue
                heat = first.evidence[modality][row]
                placed = place_in_image(heat, region.box, FRAME, FRAME)
                shown = placed
                if MEASURED[0] == ATTENTION:  # drawn in the lungs only
                    weighed = weigh_by_lungs(heat, cut_lungs(region, len(heat)), grid)
                    shown = place_in_image(weighed, region.box, FRAME, FRAME)
                point = find_hottest(shown)
                if point is None:
                    continue
                outside = find_share_outside(placed, region.outline)
                apart = find_disagreement(heat, first.second[modality][row], modality)
                measured.append([outside, mask[point] >= 0.5, -np.inf if apart is None else apart])
    return np.array(measured, dtype=float)


def describe_heat(modality: str, measured: Any) -> list[str]:
    """measured: as `measure_heat` gives it."""
    outside, hit, apart = measured.T
    columns = []
    for values in (outside, apart):
        level = np.percentile(values, 95)
        shares = (hit[part] for part in (values > level, values <= level))
        columns += [f"{level:.3f}", *(f"{part.mean():.1%}" if len(part) else "n/a" for part in shares)]
    return [modality, str(len(hit)), f"{np.median(outside):.3f}", *columns]


if __name__ == "__main__":
    main()
