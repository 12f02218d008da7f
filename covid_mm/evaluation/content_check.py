"""The classifier of image content: its images gathered, fitted, and measured on images it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, VALIDATION_IMAGES, Modality
from covid_mm.datasets.collections import find_collections
from covid_mm.datasets.index import CollectionImage
from covid_mm.datasets.negatives import Part, make_negatives
from covid_mm.datasets.phantoms import PHANTOM_MODALITIES, make_image
from covid_mm.datasets.store import load_images
from covid_mm.errors import DataError
from covid_mm.models.content_classifier import NEITHER, Content, ContentClassifier, compute_contents
from covid_mm.models.network import Network
from covid_mm.serving.metadata import Metadata
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.content_classifier import ContentImages, fit_content_classifier
from covid_mm.training.crops import LungCrops
from covid_mm.training.served_run import ServedRun, find_paper_splits

MOST_IMAGES = 800  # of each modality that a classifier is trained on
NEGATIVES: dict[Part, int] = {"train": 1200, "validation": 500, "test": 400}
PHANTOMS = 200  # of a modality that the training has no images of
NEGATIVE_TITLES: dict[Part, str] = {
    "train": "pictures and drawings it was trained on",
    "validation": "other pictures and drawings (its threshold was chosen on them)",
    "test": "pictures and drawings kept for this",
}
ANSWERED, WRONG, FOREIGN, UNLIKE = "answered", "other_modality", "not_a_chest_image", "unlike_training"

GreyImages = NDArray[np.float32]

CHECKED_IMAGES = 300  # images per collection that the content check is counted on
CLASSIFIER_IMAGES = 1500  # whole images per modality that it is fitted on, and a third of them to choose on
CLASSIFIER_PHANTOMS = (
    180  # the same of phantoms, which are the page's examples and answered like any chest image
)
_PHANTOM_NUMBERS = 20_000  # the first of them: no example, test or lung training uses these


ModalityImages = Mapping[Modality, Sequence[Sequence[CollectionImage]]]


@dataclass(frozen=True)
class MeasuredImages:
    """Images that a classifier is measured on. kind: what they truly are. title: which they are."""

    title: str
    kind: str
    images: GreyImages


def make_content_classifier(
    network: Network,
    training: dict[Modality, ModalitySamples],
    validation: dict[Modality, ModalitySamples],
    names: dict[Modality, str],
    *,
    seed: int,
) -> tuple[ContentClassifier, dict[str, Any]]:
    """Fit a classifier for a network and measure it; also what meta.json says of it.

    training, validation: the network's own images. names: of their data sets.
    """
    known = sum(len(part.labels) for part in training.values())
    # a small training gets a small classifier, so that trying it out stays quick
    share, size = min(1.0, known / MOST_IMAGES), network.config.image_size
    negatives = {
        part: stack_negatives(max(int(count * share), 40), part, seed, size)
        for part, count in NEGATIVES.items()
    }
    chest: dict[str, dict[str, GreyImages]] = {
        side: {m: choose_images(part.images, seed) for m, part in samples.items()}
        for side, samples in (("train", training), ("validation", validation))
    }
    for modality in MODALITIES:
        if modality not in training and modality in PHANTOM_MODALITIES:
            count = max(int(PHANTOMS * share), 20)
            chest["train"][modality] = draw_phantoms(modality, range(count), size)
            chest["validation"][modality] = draw_phantoms(modality, range(count, count + count // 2), size)
    images = ContentImages(
        training={**chest["train"], NEITHER: negatives["train"]},
        validation={**chest["validation"], NEITHER: negatives["validation"]},
    )
    classifier = fit_content_classifier(network, images, seed=seed)
    sets = [
        *(
            MeasuredImages(VALIDATION_IMAGES.format(name=names[m]), m, validation[m].images)
            for m in validation
        ),
        *(MeasuredImages(NEGATIVE_TITLES[p], NEITHER, negatives[p]) for p in ("validation", "test")),
    ]
    reader = classifier.reader
    described = {
        "branch": reader.branch,
        "backbone": dict(network.config.branches)[reader.branch],
        "layer": ", ".join(reader.layers),
        "reduction": reader.reduction,
        "refusal": classifier.refusal,
        "distance_limit": {m: usual.limit for m, usual in classifier.usual.items()},
        "trained_on": {kind: len(part) for kind, part in images.training.items()},
        "measured": [row for part in sets for row in measure_content_check(network, classifier, part)],
    }
    return classifier, described


def choose_images(images: GreyImages, seed: int) -> GreyImages:
    """At most MOST_IMAGES of them, evenly at random."""
    if len(images) <= MOST_IMAGES:
        return images
    rows = np.sort(np.random.default_rng([seed, 41]).choice(len(images), MOST_IMAGES, replace=False))
    return images[rows]


def stack_negatives(count: int, part: Part, seed: int, size: int) -> GreyImages:
    """Negatives of a part as one array (count, side, side)."""
    return np.stack([negative.image for negative in make_negatives(count, seed=seed, part=part, size=size)])


def draw_phantoms(modality: Modality, numbers: range, size: int) -> GreyImages:
    """Phantom images of one modality, of both classes."""
    images = [make_image(number % 2, number, modality, size=size) for number in numbers]
    return np.stack(images).astype(np.float32)


def measure_content_check(
    network: Network, classifier: ContentClassifier, part: MeasuredImages
) -> list[dict[str, Any]]:
    """What becomes of images in each slot of the network: counts of each outcome, a row per slot."""
    features = compute_contents(network, classifier.reader, part.images)
    rows = []
    for slot in network.config.modalities:
        outcomes = [name_outcome(slot, content) for content in classifier.check(slot, features)]
        counts = {name: outcomes.count(name) for name in (ANSWERED, WRONG, FOREIGN, UNLIKE)}
        rows.append(
            {
                "images": part.title,
                "kind": part.kind,
                "slot": slot,
                "total": len(outcomes),
                "outcomes": counts,
            }
        )
    return rows


def name_outcome(slot: Modality, content: Content) -> str:
    """What becomes of an image in a slot: answered, or why not."""
    if content.kind == NEITHER:
        return FOREIGN
    if content.kind != slot:
        return WRONG
    return UNLIKE if content.unusual else ANSWERED


def find_learned_images(run: ServedRun) -> ModalityImages:
    """The images that a run's served branches learn from, by modality, a list for each collection."""
    images_by_modality: dict[Modality, list[list[CollectionImage]]] = {}
    for modality in run.network.modalities:
        rows = run.training_rows(modality)
        images_by_modality[modality] = [
            [image for image, learned in zip(c.images, rows[c.name], strict=True) if learned]
            for c in run.collections[modality]
            if c.name in rows
        ]
    return images_by_modality


def find_published_images(meta: Metadata, root: Path) -> ModalityImages:
    """The images that a published network of the recipe served learned from, found again under `root`.

    Raises:
        DataError: a collection that it learned from is not there.
    """
    held_out = {r.path for split in find_paper_splits(root).values() for r in split.validation}
    images_by_modality: dict[Modality, list[list[CollectionImage]]] = {}
    for modality, collections in find_collections(root).items():
        learned = {
            part["name"]
            for part in meta.raw["data"]
            if (part["modality"], part["use"]) == (modality, "training")
        }
        if lacking := learned - {c.name for c in collections}:
            raise DataError(
                f"Checkpoint {meta.name} learned from {', '.join(sorted(lacking))} too, which {root} does not hold;"
                " name the folder of all its collections."
            )
        images_by_modality[modality] = [
            [image for image in c.images if image.label is not None and image.path not in held_out]
            for c in collections
            if c.name in learned
        ]
    return images_by_modality


def fit_served_classifier(
    network: Network, learned: ModalityImages, *, seed: int
) -> tuple[ContentClassifier, dict[str, Any]]:
    """The content check, fitted on whole images that the network learned from and on phantoms.

    learned: as `find_learned_images` gives them; each collection counts the same.
    """
    sides: dict[str, dict[Modality, ModalitySamples]] = {"training": {}, "validation": {}}
    size = network.config.image_size
    for modality, collections in learned.items():
        chosen: list[CollectionImage] = []
        for images in collections:
            positions = np.random.default_rng([seed, 3]).permutation(len(images))
            chosen += [images[row] for row in positions[: CLASSIFIER_IMAGES // len(collections)]]
        numbers = range(_PHANTOM_NUMBERS, _PHANTOM_NUMBERS + CLASSIFIER_PHANTOMS)
        whole = np.concatenate([load_images(chosen, size=size), draw_phantoms(modality, numbers, size)])
        labels = np.array([image.label for image in chosen] + [number % 2 for number in numbers], np.int64)
        third = np.arange(len(whole)) % 3 == 0
        sides["validation"][modality] = ModalitySamples(whole[third], labels[third])
        sides["training"][modality] = ModalitySamples(whole[~third], labels[~third])
    names = dict.fromkeys(learned, "the training collections, and phantoms")
    return make_content_classifier(network, sides["training"], sides["validation"], names, seed=seed)


def count_refusals(run: ServedRun, network: Network, classifier: ContentClassifier) -> list[dict[str, Any]]:
    """How many images of each collection get no answer, and why; at most CHECKED_IMAGES of each are looked at."""
    rows = []
    for modality in run.network.modalities:
        for collection in run.collections[modality]:
            part: LungCrops = run.crops[collection.name]
            has_lungs = choose_checked(part.has_lungs)
            rows.append(
                {
                    "collection": collection.name,
                    "modality": modality,
                    "images": len(has_lungs),
                    "lungs_not_found": int((~has_lungs).sum()),
                }
                | count_refused(network, classifier, modality, choose_checked(collection.images))
            )
    return rows


def count_refusals_again(
    meta: Metadata, root: Path, network: Network, classifier: ContentClassifier
) -> list[dict[str, Any]]:
    """The published rows of `count_refusals` with what another classifier refuses of the collections under `root`."""
    collections = {c.name: c for some in find_collections(root).values() for c in some}
    return [
        row
        | count_refused(
            network, classifier, row["modality"], choose_checked(collections[row["collection"]].images)
        )
        for row in meta.raw.get("refusals", [])
        if row["collection"] in collections
    ]


def choose_checked(images: Any) -> Any:
    """At most CHECKED_IMAGES of a sequence, evenly spread."""
    return images[:: max(1, len(images) // CHECKED_IMAGES)][:CHECKED_IMAGES]


def count_refused(
    network: Network, classifier: ContentClassifier, modality: Modality, images: Sequence[CollectionImage]
) -> dict[str, int]:
    """How many images of a modality a classifier refuses, by reason."""
    whole = load_images(images, size=network.config.image_size)
    contents = classifier.check(modality, compute_contents(network, classifier.reader, whole))
    outcomes = [name_outcome(modality, content) for content in contents]
    return {
        "unlike_training": outcomes.count(UNLIKE),
        "taken_for_something_else": outcomes.count(WRONG) + outcomes.count(FOREIGN),
    }
