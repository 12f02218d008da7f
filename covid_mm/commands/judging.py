"""The judge of image content: its images gathered, fitted, and measured on images it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import IMAGE_SIZE, MODALITIES, MODALITY_TITLES, Modality
from covid_mm.datasets.negatives import Part, make_negatives
from covid_mm.datasets.phantoms import make_study
from covid_mm.models.judge import NEITHER, Content, Judge, compute_contents
from covid_mm.models.network import Network
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.judge import JudgeImages, fit_judge

MOST_IMAGES = 800  # of each modality that a judge is trained on
NEGATIVES: dict[Part, int] = {"train": 1200, "validation": 500, "test": 400}
PHANTOMS = 200  # of a modality that the training has no images of
NEGATIVE_TITLES: dict[Part, str] = {
    "train": "pictures and drawings it was trained on",
    "validation": "other pictures and drawings (its threshold was chosen on them)",
    "test": "pictures and drawings kept for this",
}
ANSWERED, WRONG, FOREIGN, UNLIKE = "answered", "other_modality", "not_a_chest_image", "unlike_training"

GreyImages = NDArray[np.float32]


@dataclass(frozen=True)
class JudgedImages:
    """Images that a judge is measured on. kind: what they truly are. title: which they are."""

    title: str
    kind: str
    images: GreyImages


def make_judge(
    network: Network,
    training: dict[Modality, ModalitySamples],
    validation: dict[Modality, ModalitySamples],
    names: dict[Modality, str],
    *,
    seed: int,
) -> tuple[Judge, dict[str, Any]]:
    """Fit a judge for a network and measure it; also what meta.json says of it.

    training, validation: the network's own images. names: of their data sets.
    """
    known = sum(len(part.labels) for part in training.values())
    # a small training gets a small judge, so that trying it out stays quick
    share = min(1.0, known / MOST_IMAGES)
    negatives = {
        part: stack_negatives(max(int(count * share), 40), part, seed) for part, count in NEGATIVES.items()
    }
    chest: dict[str, dict[str, GreyImages]] = {
        side: {m: choose_images(part.images, seed) for m, part in samples.items()}
        for side, samples in (("train", training), ("validation", validation))
    }
    for modality in MODALITIES:
        if modality not in training:
            count = max(int(PHANTOMS * share), 20)
            chest["train"][modality] = draw_phantoms(modality, range(count))
            chest["validation"][modality] = draw_phantoms(modality, range(count, count + count // 2))
    images = JudgeImages(
        training={**chest["train"], NEITHER: negatives["train"]},
        validation={**chest["validation"], NEITHER: negatives["validation"]},
    )
    judge = fit_judge(network, images, seed=seed)
    sets = [
        *(JudgedImages(f"validation images of {names[m]}", m, validation[m].images) for m in validation),
        *(JudgedImages(NEGATIVE_TITLES[p], NEITHER, negatives[p]) for p in ("validation", "test")),  # type: ignore[index]
    ]
    described = {
        "branch": judge.branch,
        "backbone": dict(network.config.branches)[judge.branch],
        "layer": network.backbone(judge.branch).last_block_input,
        "refusal": judge.refusal,
        "distance_limit": {m: usual.limit for m, usual in judge.usual.items()},
        "trained_on": {kind: len(part) for kind, part in images.training.items()},
        "measured": [row for part in sets for row in measure_judge(network, judge, part)],
    }
    return judge, described


def choose_images(images: GreyImages, seed: int) -> GreyImages:
    """At most MOST_IMAGES of them, evenly at random."""
    if len(images) <= MOST_IMAGES:
        return images
    rows = np.sort(np.random.default_rng([seed, 41]).choice(len(images), MOST_IMAGES, replace=False))
    return images[rows]


def stack_negatives(count: int, part: Part, seed: int) -> GreyImages:
    """Negatives of a part as one array (count, side, side)."""
    return np.stack([negative.image for negative in make_negatives(count, seed=seed, part=part)])


def draw_phantoms(modality: Modality, numbers: range) -> GreyImages:
    """Phantom images of one modality, of both classes."""
    studies = [make_study(number % 2, number, size=IMAGE_SIZE) for number in numbers]
    return np.stack([getattr(study, modality).astype(np.float32) for study in studies])


def measure_judge(network: Network, judge: Judge, part: JudgedImages) -> list[dict[str, Any]]:
    """What becomes of images in each slot of the network: counts of each outcome, a row a slot."""
    features = compute_contents(network, judge.branch, part.images)
    rows = []
    for slot in network.config.modalities:
        outcomes = [name_outcome(slot, content) for content in judge.judge(slot, features)]
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


def title_kind(kind: str) -> str:
    """What images of a kind are, for people."""
    return "neither" if kind == NEITHER else MODALITY_TITLES[kind]
