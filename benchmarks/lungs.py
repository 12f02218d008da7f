"""How well the lungs are found on images that the segmenter never saw, beside classical image processing.

    python benchmarks/lungs.py --data DIR [--steps N] [--limit N] [--seed N]

CT: trained on the lung masks of every collection but one (and on phantoms), measured on that one,
each in turn, on whole slices, tight crops and pages made from them. Films: trained on the lung boxes of
half of the patients (and on phantoms), measured on the other half, both ways. Phantoms: others than
those learned from. An image where no lungs are found counts as 0. About six minutes a training on
two cores; a collection or half of the films is one training.

The classical way, on slices only, is `covid_mm.imaging.lungs.find_dark_regions`. By it slices of the collections
without masks are marked, which the segmenter learns from too.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import MODALITIES, Modality
from covid_mm.datasets import find_collections
from covid_mm.datasets.phantoms import make_study
from covid_mm.errors import DataError
from covid_mm.imaging.lungs import LungRegion, find_dark_regions

if TYPE_CHECKING:
    from covid_mm.training.lungs import LungSample

Finder = Callable[[NDArray[np.float32]], "LungRegion | None"]

TIMED = 50  # images, one at a time as in serving
TIGHT = 0.03  # of the image's sides: what a tight crop leaves around the lungs
PAGE = 0.12  # of the image's longer side: what a page shows beyond each of its edges
PHANTOM_SEED = 9000  # the first of those that are measured on
PHANTOM_SIZE = 224
LOW = 0.8
HEADER = "| images | found by | figure | count | mean | median | under 0.8 | not found | ms per image |"


@dataclass(frozen=True)
class Scores:
    """values: (n,) 0..1, 0 where no lungs were found. missed: how many those are."""

    values: NDArray[np.float64]
    missed: int
    milliseconds: float

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Of several folds."""
        return cls(
            np.concatenate([part.values for part in parts]),
            sum(part.missed for part in parts),
            float(np.mean([part.milliseconds for part in parts])),
        )


def measure(options: argparse.Namespace) -> int:
    """Train, measure and print the table."""
    load_tensorflow()
    root = Path(options.data)
    rows = [
        HEADER,
        "|---|---|---|" + "---:|" * 6,
        *measure_slices(root, options),
        *measure_films(root, options),
    ]
    print("\n".join(rows))
    return 0


def measure_slices(root: Path, options: argparse.Namespace) -> list[str]:
    """Rows of each CT collection with lung masks, left out in turn, and of phantoms."""
    from covid_mm.training.lung_samples import find_lung_samples, mark_dark_samples, thin

    every = [
        replace(collection, images=thin(collection.images, options.limit))
        for collection in find_collections(root)["ct"]
    ]
    collections = [c for c in every if any(image.lung_mask for image in c.images)]
    if not collections:
        raise DataError(
            f"No CT collection in {root} has lung masks; expected a lung_mask column in a manifest."
        )
    dark = mark_dark_samples(every, "ct")
    rows = []
    find_classically = partial(find_dark_regions, modality="ct")
    for collection in collections:
        others = [other for other in collections if other is not collection]
        learned = [*find_lung_samples(root, others, "ct"), *dark]
        finder = train("ct", learned, options, f"without {collection.name}")
        samples = find_lung_samples(root, [collection], "ct")
        kinds = {
            "whole": samples,
            "tight crops": [crop_tightly(s) for s in samples],
            "on a white page": [put_on_page(s) for s in samples],
        }
        for what, part in kinds.items():
            for name, find in (("segmenter", finder), ("classical", find_classically)):
                rows.append(format_row(f"{collection.name}, {what}", name, "Dice", score(part, find)))
    phantoms = make_phantoms("ct", options.limit)
    for name, find in (("segmenter", finder), ("classical", find_classically)):
        rows.append(format_row("CT phantoms", name, "Dice", score(phantoms, find)))
    return rows


def measure_films(root: Path, options: argparse.Namespace) -> list[str]:
    """Rows of films with lung boxes, by halves of the patients, and of phantoms."""
    from covid_mm.training.lung_samples import LUNG_BOXES

    paths = sorted([*root.glob(LUNG_BOXES), *root.glob(f"*/{LUNG_BOXES}")])
    samples, patients = [], []
    for path in paths:
        more = read_boxes(path, options.limit)
        samples += [sample for sample, _ in more]
        patients += [patient for _, patient in more]
    names = sorted(set(patients))
    order = np.random.default_rng(options.seed).permutation(len(names))
    half_of = {name: int(order[number] % 2) for number, name in enumerate(names)}
    parts, phantom_parts = [], []
    for half in (0, 1) if samples else ():
        learned = [s for s, patient in zip(samples, patients, strict=True) if half_of[patient] != half]
        measured = [s for s, patient in zip(samples, patients, strict=True) if half_of[patient] == half]
        finder = train("xray", learned, options, f"half {half + 1} of the patients")
        parts.append(score(measured, finder))
        phantom_parts.append(score(make_phantoms("xray", options.limit), finder))
    if not parts:
        return []
    return [
        format_row("films, box of the lungs", "segmenter", "IoU", Scores.join(parts)),
        format_row("X-ray phantoms", "segmenter", "Dice", Scores.join(phantom_parts)),
    ]


def train(
    modality: Modality, samples: Sequence[LungSample], options: argparse.Namespace, title: str
) -> Finder:
    """A trained segmenter as a function of one image; it says on standard error how far it is."""
    from covid_mm.models.lung_segmenter import LungSegmenter
    from covid_mm.training.lung_samples import PHANTOMS, make_phantom_samples
    from covid_mm.training.lungs import SegmenterConfig, fit_segmenter

    def show(step: int, loss: float) -> None:
        print(f"{MODALITIES[modality].title} {title}: step {step}, loss {loss:.3f}", file=sys.stderr)

    phantoms = make_phantom_samples(modality, min(PHANTOMS, options.limit or PHANTOMS))
    config = SegmenterConfig(steps=options.steps, seed=options.seed)
    segmenter = LungSegmenter({modality: fit_segmenter([*samples, *phantoms], modality, config, show)})
    return lambda grey: segmenter.find([grey], modality)[0]


def score(samples: Sequence[LungSample], find: Finder) -> Scores:
    """Dice with each mask, or the intersection over union with the box round each film's lungs."""
    values, missed = [], 0
    greys = [np.asarray(sample.image, np.float32) for sample in samples]
    find(greys[0])  # traces
    began = time.perf_counter()
    for grey in greys[:TIMED]:
        find(grey)
    milliseconds = 1000 * (time.perf_counter() - began) / len(greys[:TIMED])
    for sample, grey in zip(samples, greys, strict=True):
        region = find(grey)
        missed += region is None
        if region is None:
            values.append(0.0)
        elif sample.mask is not None:
            values.append(dice(region, sample.mask))
        else:
            values.append(overlap_boxes(region, sample.boxes))
    return Scores(np.array(values, np.float64), missed, milliseconds)


def dice(region: LungRegion, mask: NDArray[np.bool_]) -> float:
    """Dice's coefficient of a region and a mask of the whole image."""
    lungs = region.lungs.astype(np.uint8)
    predicted = cv2.resize(lungs, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return float(2 * (predicted & mask).sum() / max(int(predicted.sum() + mask.sum()), 1))


def overlap_boxes(region: LungRegion, boxes: Sequence[tuple[float, float, float, float]]) -> float:
    """Intersection over union of the box round the region, without margin, and that round all boxes."""
    edges = np.array(boxes)
    truth = np.array([*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0)])
    rows, columns = np.flatnonzero(region.lungs.any(axis=1)), np.flatnonzero(region.lungs.any(axis=0))
    predicted = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(region.lungs)
    shared = np.maximum(np.minimum(truth[2:], predicted[2:]) - np.maximum(truth[:2], predicted[:2]), 0).prod()
    both = (truth[2:] - truth[:2]).prod() + (predicted[2:] - predicted[:2]).prod()
    return float(shared / (both - shared))


def crop_tightly(sample: LungSample) -> LungSample:
    """The image cut to its lungs and a rim: what figures in papers and screenshots show."""
    assert sample.mask is not None
    height, width = sample.mask.shape
    rows, columns = np.flatnonzero(sample.mask.any(axis=1)), np.flatnonzero(sample.mask.any(axis=0))
    if not len(rows):
        return sample
    down, across = round(TIGHT * height), round(TIGHT * width)
    part = np.s_[
        max(rows[0] - down, 0) : rows[-1] + 1 + down, max(columns[0] - across, 0) : columns[-1] + 1 + across
    ]
    return replace(sample, image=sample.image[part], mask=sample.mask[part])


def put_on_page(sample: LungSample) -> LungSample:
    """The image with white round it, as screenshots and documents show it."""
    assert sample.mask is not None
    edge = round(PAGE * max(sample.mask.shape))
    image = np.pad(sample.image, edge, constant_values=255)
    return replace(sample, image=image, mask=np.pad(sample.mask, edge))


def make_phantoms(modality: Modality, limit: int | None) -> list[LungSample]:
    """Phantoms that no training draws, with their masks."""
    from covid_mm.training.lungs import LungSample

    studies = [
        make_study(number % 2, PHANTOM_SEED + number, size=PHANTOM_SIZE)
        for number in range(min(100, limit or 100))
    ]
    return [LungSample(getattr(study, modality), getattr(study, f"{modality}_lungs")) for study in studies]


def read_boxes(path: Path, limit: int | None) -> list[tuple[LungSample, str]]:
    """Films with lung boxes and their patients; each its own where the manifest does not say."""
    from covid_mm.training.lung_samples import read_lung_boxes, thin

    samples = read_lung_boxes(path)
    manifest, patients = path.with_name("manifest.csv"), {}
    if manifest.exists():
        with manifest.open(newline="", encoding="utf-8") as file:
            patients = {row["file"]: row.get("patient") or row["file"] for row in csv.DictReader(file)}
    names = [name for name, lungs in json.loads(path.read_text("utf-8")).items() if any(lungs.values())]
    pairs = [
        (sample, f"{path.parent.name}/{patients.get(name, name)}")
        for name, sample in zip(names, samples, strict=True)
    ]
    return list(thin(pairs, limit))


def format_row(images: str, method: str, figure: str, scores: Scores) -> str:
    """One row of the table."""
    values = scores.values
    cells = [f"{values.mean():.3f}", f"{np.median(values):.3f}", f"{100 * (values < LOW).mean():.1f} %"]
    cells += [f"{100 * scores.missed / len(values):.1f} %", f"{scores.milliseconds:.1f}"]
    return f"| {images} | {method} | {figure} | {len(values)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", required=True, help="collections as for train.py")
    parser.add_argument("--steps", type=int, default=2000, help="of each training; default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="images per collection (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    sys.exit(exit_with(lambda: measure(parser.parse_args())))
