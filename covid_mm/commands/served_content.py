"""The content check of a served network: fitted on whole images of its collections, and how often it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covid_mm.commands.judging import draw_phantoms, make_judge, name_outcome
from covid_mm.commands.served import ServedRun, find_paper_splits
from covid_mm.config import Modality
from covid_mm.datasets.collections import find_collections
from covid_mm.datasets.index import CollectionImage
from covid_mm.datasets.store import load_images
from covid_mm.errors import DataError
from covid_mm.models.judge import Judge, compute_contents
from covid_mm.models.network import Network
from covid_mm.serving.metadata import Metadata
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.crops import LungCrops

CHECKED_IMAGES = 300  # images per collection that the content check is counted on
JUDGE_IMAGES = 1500  # whole images per modality that it is fitted on, and a third of them to choose on
JUDGE_PHANTOMS = 180  # the same of phantoms, which are the page's examples and answered like any chest image
_PHANTOM_NUMBERS = 20_000  # the first of them: no example, test or lung training uses these


ModalityImages = Mapping[Modality, Sequence[Sequence[CollectionImage]]]


def find_learned_images(run: ServedRun) -> ModalityImages:
    """The images that a run's served branches learn from, by modality, a list for each collection."""
    found: dict[Modality, list[list[CollectionImage]]] = {}
    for modality in run.network.modalities:
        rows = run.training_rows(modality)
        found[modality] = [
            [image for image, learned in zip(c.images, rows[c.name], strict=True) if learned]
            for c in run.collections[modality]
            if c.name in rows
        ]
    return found


def find_published_images(meta: Metadata, root: Path) -> ModalityImages:
    """The images that a published network of the recipe served learned from, found again under `root`.

    Raises:
        DataError: a collection that it learned from is not there.
    """
    held_out = {r.path for split in find_paper_splits(root).values() for r in split.validation}
    found: dict[Modality, list[list[CollectionImage]]] = {}
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
        found[modality] = [
            [image for image in c.images if image.label is not None and image.path not in held_out]
            for c in collections
            if c.name in learned
        ]
    return found


def fit_content_judge(
    network: Network, learned: ModalityImages, *, seed: int
) -> tuple[Judge, dict[str, Any]]:
    """The content check, fitted on whole images that the network learned from and on phantoms.

    learned: as `find_learned_images` gives them; each collection counts the same.
    """
    sides: dict[str, dict[Modality, ModalitySamples]] = {"training": {}, "validation": {}}
    for modality, collections in learned.items():
        chosen: list[CollectionImage] = []
        for images in collections:
            positions = np.random.default_rng([seed, 3]).permutation(len(images))
            chosen += [images[row] for row in positions[: JUDGE_IMAGES // len(collections)]]
        numbers = range(_PHANTOM_NUMBERS, _PHANTOM_NUMBERS + JUDGE_PHANTOMS)
        whole = np.concatenate(
            [load_images(chosen, size=network.config.image_size), draw_phantoms(modality, numbers)]
        )
        labels = np.array([image.label for image in chosen] + [number % 2 for number in numbers], np.int64)
        third = np.arange(len(whole)) % 3 == 0
        sides["validation"][modality] = ModalitySamples(whole[third], labels[third])
        sides["training"][modality] = ModalitySamples(whole[~third], labels[~third])
    names = dict.fromkeys(learned, "the training collections, and phantoms")
    return make_judge(network, sides["training"], sides["validation"], names, seed=seed)


def count_refusals(run: ServedRun, network: Network, judge: Judge) -> list[dict[str, Any]]:
    """How many images of each collection get no answer, and why; at most CHECKED_IMAGES of each are looked at."""
    rows = []
    for modality in run.network.modalities:
        for collection in run.collections[modality]:
            part: LungCrops = run.crops[collection.name]
            step = max(1, len(collection.images) // CHECKED_IMAGES)
            some = collection.images[::step][:CHECKED_IMAGES]
            found = part.found[::step][:CHECKED_IMAGES]
            features = compute_contents(network, judge.branch, load_images(some, size=run.network.image_size))
            outcomes = [name_outcome(modality, content) for content in judge.judge(modality, features)]
            rows.append(
                {
                    "collection": collection.name,
                    "modality": modality,
                    "images": len(some),
                    "lungs_not_found": int((~found).sum()),
                    "unlike_training": outcomes.count("unlike_training"),
                    "taken_for_something_else": outcomes.count("other_modality")
                    + outcomes.count("not_a_chest_image"),
                }
            )
    return rows
