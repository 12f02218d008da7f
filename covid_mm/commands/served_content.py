"""The content check of a served network: fitted on whole images of its collections, and how often it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from covid_mm.commands.judging import draw_phantoms, make_judge, name_outcome
from covid_mm.commands.served import ServedRun
from covid_mm.config import Modality
from covid_mm.datasets.index import CollectionImage
from covid_mm.datasets.store import load_images
from covid_mm.models.judge import Judge, compute_contents
from covid_mm.models.network import Network
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.crops import LungCrops

CHECKED_IMAGES = 300  # images per collection that the content check is counted on
JUDGE_IMAGES = 1500  # whole images per modality that it is fitted on, and a third of them to choose on
JUDGE_PHANTOMS = 180  # the same of phantoms, which are the page's examples and answered like any chest image
_PHANTOM_NUMBERS = 20_000  # the first of them: no example, test or lung training uses these


def fit_content_judge(run: ServedRun, network: Network) -> tuple[Judge, dict[str, Any]]:
    """The content check, fitted on whole images of the training collections and on phantoms."""
    sides: dict[str, dict[Modality, ModalitySamples]] = {"training": {}, "validation": {}}
    for modality in run.network.modalities:
        trained = run.training_rows(modality)
        chosen: list[CollectionImage] = []
        used = [c for c in run.collections[modality] if c.name in trained]
        for collection in used:
            positions = np.random.default_rng([run.seed, 3]).permutation(
                np.flatnonzero(trained[collection.name])
            )
            chosen += [collection.images[row] for row in positions[: JUDGE_IMAGES // len(used)]]
        numbers = range(_PHANTOM_NUMBERS, _PHANTOM_NUMBERS + JUDGE_PHANTOMS)
        whole = np.concatenate(
            [load_images(chosen, size=run.network.image_size), draw_phantoms(modality, numbers)]
        )
        labels = np.array([image.label for image in chosen] + [number % 2 for number in numbers], np.int64)
        third = np.arange(len(whole)) % 3 == 0
        sides["validation"][modality] = ModalitySamples(whole[third], labels[third])
        sides["training"][modality] = ModalitySamples(whole[~third], labels[~third])
    names = {m: "the training collections, and phantoms" for m in run.network.modalities}
    return make_judge(network, sides["training"], sides["validation"], names, seed=run.seed)


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
