"""Fitting the judge of image content: a linear classifier and the surroundings of the training images.

Everything is chosen on validation images: which backbone reads, how probable `neither` must be to
refuse, and how far from the training images is too far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.models.judge import KINDS, NEITHER, Features, Judge, Surroundings, compute_contents, name_kind
from covid_mm.models.network import Network
from covid_mm.training.augmentation import augment_images

GreyImages = NDArray[np.float32]

TRIAL = 200  # images of each kind and side that a backbone is tried on
AXES = 64  # principal axes at most of a modality's training images
REGULARISATION = 0.01  # scikit-learn's C of the logistic regression
WIDEST_VARIATION = 2.0  # of training's augmentation, so that other sources' images are not refused
REFUSALS = tuple(
    round(0.5 + 0.05 * step, 2) for step in range(10)
)  # probabilities of `neither` to choose from
WANTED_REFUSED = 0.98  # share of the validation negatives that the chosen probability must refuse
USUAL = 99.9  # percentile of the validation images' distances
MARGIN = 1.25  # times that percentile: other scanners are not strangers yet


@dataclass(frozen=True)
class JudgeImages:
    """Grey images (n, side, side), 0..255, by kind (`ct`, `xray`, `neither`), of both sides."""

    training: dict[str, GreyImages]
    validation: dict[str, GreyImages]


def fit_judge(network: Network, images: JudgeImages, *, seed: int = 0) -> Judge:
    """Choose the backbone on some of the images, then fit the judge on all of them."""
    branch = choose_branch(network, images, seed=seed)
    training = vary_images(images.training, seed=seed)
    return fit_branch(
        branch,
        network.config.modalities,
        {kind: compute_contents(network, branch, part) for kind, part in training.items()},
        {kind: compute_contents(network, branch, part) for kind, part in images.validation.items()},
    )


def choose_branch(network: Network, images: JudgeImages, *, seed: int) -> Modality:
    """The modality whose backbone makes the judge that errs least on validation images."""
    modalities = network.config.modalities
    if len(modalities) == 1:
        return modalities[0]
    sides = [
        {kind: part[:: max(1, len(part) // TRIAL)] for kind, part in side.items()}
        for side in (images.training, images.validation)
    ]
    errors: dict[Modality, float] = {}
    for branch in reversed(modalities):  # of equals the film's backbone, the lighter one of each pair but one
        training, validation = (
            {kind: compute_contents(network, branch, part) for kind, part in side.items()} for side in sides
        )
        errors[branch] = count_errors(fit_branch(branch, modalities, training, validation), validation)
    return min(errors, key=lambda branch: errors[branch])


def vary_images(images: dict[str, GreyImages], *, seed: int) -> dict[str, GreyImages]:
    """Chest images as they are and once more, widely varied; negatives as they are."""
    return {
        kind: part
        if kind == NEITHER or not len(part)
        else np.concatenate(
            [part, augment_images(part, kind, seed=(seed, 97), strength=WIDEST_VARIATION)]  # type: ignore[arg-type]
        )
        for kind, part in images.items()
    }


def fit_branch(
    branch: Modality,
    modalities: tuple[Modality, ...],
    training: dict[str, Features],
    validation: dict[str, Features],
) -> Judge:
    """Fit a judge on one backbone's features (n, d) by kind. modalities: those the network answers."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([training[kind] for kind in KINDS])
    labels = np.repeat(np.arange(len(KINDS)), [len(training[kind]) for kind in KINDS])
    centre = features.mean(axis=0)
    spread = features.std(axis=0) + 1e-3 * float(features.std()) + 1e-6  # constant channels stay small
    classifier = LogisticRegression(C=REGULARISATION, max_iter=500, class_weight="balanced")
    classifier.fit((features - centre) / spread, labels)
    usual: dict[Modality, Surroundings] = {}
    for modality in modalities:
        own = (training[modality] - centre) / spread
        count = min(AXES, own.shape[1], max(1, len(own) // 4))  # axes of too few images fit nobody else
        pca = PCA(count, random_state=0).fit(own)
        axes = pca.components_.T.astype(np.float16).astype(np.float32)  # as it is stored
        along = own @ axes
        deviation = np.maximum(along.std(axis=0), 1e-6)
        inside = Surroundings(axes, along.mean(axis=0), deviation, limit=1.0)
        distances = inside.measure_distance((validation[modality] - centre) / spread)
        limit = MARGIN * float(np.percentile(distances, USUAL))
        usual[modality] = Surroundings(axes, inside.origin, deviation, limit)
    judge = Judge(
        branch=branch,
        centre=centre.astype(np.float32),
        spread=spread.astype(np.float32),
        weights=classifier.coef_.T.astype(np.float32),
        bias=classifier.intercept_.astype(np.float32),
        refusal=REFUSALS[0],
        usual=usual,
    )
    return set_refusal(judge, validation)


def set_refusal(judge: Judge, validation: dict[str, Features]) -> Judge:
    """The judge with the most lenient refusal that still refuses nearly all validation negatives."""
    shares = judge.classify(judge.standardise(validation[NEITHER]))[:, KINDS.index(NEITHER)]
    enough = [value for value in REFUSALS if np.mean(shares >= value) >= WANTED_REFUSED]
    refusal = max(enough, default=REFUSALS[0])
    return Judge(judge.branch, judge.centre, judge.spread, judge.weights, judge.bias, refusal, judge.usual)


def count_errors(judge: Judge, validation: dict[str, Features]) -> float:
    """The mean share of validation images, over the kinds, whose kind is named wrongly."""
    wrong = [
        np.mean([name_kind(row, judge.refusal) != kind for row in judge.classify(judge.standardise(part))])
        for kind, part in validation.items()
        if len(part)
    ]
    return float(np.mean(wrong))
