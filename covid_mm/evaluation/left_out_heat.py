"""Where the heat lies, measured on the networks of a run: every method and layer, on lesions somebody marked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from covid_mm.config import MODALITIES, POSITIVE, Modality
from covid_mm.datasets.phantoms import make_study
from covid_mm.evaluation.heat_faithfulness import (
    compare_with_random,
    deletion_curve,
    insertion_curve,
    mean_area,
)
from covid_mm.evaluation.heat_location import HeatMeasure, HeatRow, measure_heat, summarise_heat
from covid_mm.explain.cells import weigh_by_lungs
from covid_mm.explain.grad_cam import GradCam
from covid_mm.explain.method_table import (
    ATTENTION,
    ATTENTION_LAYER,
    FIXED_SCALE_METHODS,
    LAYERS,
    FixedScaleMethod,
    LayerChoice,
    MethodName,
    list_methods,
)
from covid_mm.explain.methods import BranchExplainer
from covid_mm.imaging import read_grey, to_network_input
from covid_mm.imaging.lungs import cut_lungs, place_in_image, read_lungs
from covid_mm.models.heads import find_margins
from covid_mm.models.network import Network, build_network
from covid_mm.training.crops import lesion_mask, round_pixels
from covid_mm.training.served_run import ServedRun, TrainedBranch, load_branches

FRAME = 256  # pixels per side of the whole image's frame in which heat is measured
HEAT_IMAGES = 250  # positive images per fold that the fast methods are measured on
SLOW_HEAT_IMAGES = 10  # and those that take a second per image
FAITHFULNESS_IMAGES = 40
PHANTOMS = 60
PHANTOM_NAME = "phantoms"
_BATCH = 32


@dataclass(frozen=True)
class HeatImage:
    """One positive image with a known lesion: its crop (size, size, 3), box, and masks in FRAME.

    crop_lungs: (size, size), 0..1, the lungs as they were found, in the crop's frame.
    """

    crop: NDArray[np.float32]
    crop_lungs: NDArray[np.float32]
    box: tuple[float, float, float, float]
    target: NDArray[np.bool_]
    lungs: NDArray[np.bool_]


def find_heat_images(run: ServedRun, branch: TrainedBranch, count: int) -> list[HeatImage]:
    """At most `count` positive left-out images with lesions marked, evenly over the collection."""
    assert branch.fold is not None
    heat_images: list[HeatImage] = []
    for name, rows in branch.fold.rows.items():
        crops, collection = run.crops[name], run.collection(branch.modality, name)
        marked = np.array([bool(i.boxes) or i.lesion_mask is not None for i in collection.images])
        positions = run.labelled_rows(collection, rows & (crops.labels == POSITIVE) & marked)
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
            crop = to_network_input(crops.exact[row : row + 1])[0]
            heat_images.append(HeatImage(crop, cut_lungs(region, len(crop)), region.box, mask >= 0.5, lungs))
    return heat_images


def measure_heatmaps(run: ServedRun, folds: Sequence[TrainedBranch]) -> list[HeatRow]:
    """Every method and layer on every fold with lesions marked, by the network that never saw it."""
    rows = []
    for branch in folds:
        assert branch.fold is not None
        images = find_heat_images(run, branch, HEAT_IMAGES)
        if not images:
            continue
        rows += measure_methods(run, branch, images, list_methods(run.network.pooling), branch.fold.name)
    return rows


def measure_phantom_heat(run: ServedRun, served: Mapping[Modality, TrainedBranch]) -> list[HeatRow]:
    """The served branches on phantoms, whose lesions are known to the pixel and which nothing was trained on."""
    studies = [make_study(POSITIVE, number, size=FRAME) for number in range(PHANTOMS)]
    rows = []
    for modality, branch in served.items():
        greys = [getattr(study, modality).astype(np.float32) for study in studies]
        images = []
        for study, grey, region in zip(studies, greys, run.segmenter.find(greys, modality), strict=True):
            target = getattr(study, f"{modality}_lesions")
            if region is None or not target.any():
                continue
            pixels = round_pixels(read_lungs(grey, region, modality, run.network.image_size))
            crop = to_network_input(pixels[None])[0]
            lungs = getattr(study, f"{modality}_lungs")
            images.append(HeatImage(crop, cut_lungs(region, len(crop)), region.box, target, lungs))
        if not images:
            continue
        title = f"{modality} {PHANTOM_NAME}"
        methods = [m for m in list_methods(run.network.pooling) if m in FIXED_SCALE_METHODS]
        rows += measure_methods(run, branch, images, methods, title)
    return rows


def measure_methods(
    run: ServedRun,
    branch: TrainedBranch,
    images: Sequence[HeatImage],
    methods: Iterable[MethodName],
    collection: str,
) -> list[HeatRow]:
    """A row for each method and layer, by one branch; the slow methods on SLOW_HEAT_IMAGES of the images."""
    network, rows = load_branches(run, (branch,)), []
    for method, layer in itertools.product(methods, LAYERS):
        if method == ATTENTION and layer != ATTENTION_LAYER:
            continue
        step = 1 if method in FIXED_SCALE_METHODS else max(1, len(images) // SLOW_HEAT_IMAGES)
        some = images[::step]
        maps = make_maps(network, branch.modality, some, method, layer)
        measures = [_measure(image, heat) for image, heat in zip(some, maps, strict=True)]
        rows.append(summarise_heat(measures, method=method, layer=layer, collection=collection))
    return rows


def make_maps(
    network: Network,
    modality: Modality,
    images: Sequence[HeatImage],
    method: MethodName,
    layer: LayerChoice,
    *,
    weighed: bool = True,
) -> list[NDArray[np.float32]]:
    """Evidence for the positive class, (size, size) per image, as serving shows it.

    weighed: an attention map by the lungs' share of its cells; without, as the network gave it.
    """
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
    if method == ATTENTION and weighed:
        _, rows, columns, _ = network.attention(modality).shape
        return [
            weigh_by_lungs(part, image.crop_lungs, (rows, columns))
            for part, image in zip(maps, images, strict=True)
        ]
    return maps


def choose_heatmap(rows: Sequence[HeatRow]) -> tuple[FixedScaleMethod, LayerChoice]:
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
                "target": "opacity boxes" if MODALITIES[modality].kind == "film" else "lesion masks",
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
        # what both maps owe to the same lungs, and not to the weights, is left away
        trained, others = (
            make_maps(one, branch.modality, images, method, layer, weighed=False) for one in (network, random)
        )
        model = keras.Model(network.image_input(branch.modality), network.logits(branch.modality))

        def score(batch: NDArray[np.float32], model: keras.Model = model) -> NDArray[np.float64]:
            margins = find_margins(model.predict(batch, batch_size=_BATCH, verbose=0))
            return np.asarray(expit(margins), np.float64)

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
                "random_weights": compare_with_random(trained, others).to_dict(),
            }
        )
    return rows


def _measure(image: HeatImage, heat: NDArray[np.float32]) -> HeatMeasure:
    return measure_heat(place_in_image(heat, image.box, FRAME, FRAME), image.target, image.lungs)
