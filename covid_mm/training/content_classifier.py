"""Fitting the classifier of image content: a linear classifier and the surroundings of the training images.

Everything is chosen on validation images: which backbone's early layers read, how probable `neither` must be to
refuse, and how far from the training images is too far.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.models.content_classifier import (
    NEITHER,
    ContentClassifier,
    ContentReader,
    Features,
    PcaOutlierModel,
    compute_contents,
    content_kinds,
)
from covid_mm.models.network import Network
from covid_mm.training.augmentation import augment_images

GreyImages = NDArray[np.float32]

REDUCTION = 2  # of the image's sides before it is read: quicker, and no worse in measurements
TOLERATED = 0.01  # share of validation images that a quicker reader may name wrongly beside the best one's
TRIAL = 200  # images of each kind and side that a backbone is tried on
COMPONENTS = 64  # principal components at most of a modality's training images
REGULARISATION = 0.01  # scikit-learn's C of the logistic regression
WIDEST_VARIATION = 2.0  # of training's augmentation, so that other sources' images are not refused
# probabilities of `neither` to choose from; below 0.6 more slices of a collection never seen are refused than it gains
REFUSALS = tuple(round(0.6 + 0.05 * step, 2) for step in range(8))
WANTED_REFUSED = 0.98  # share of the validation negatives that the chosen probability must refuse
USUAL = 99.9  # percentile of the validation images' distances
MARGIN = 1.25  # times that percentile: other scanners are not strangers yet


@dataclass(frozen=True)
class ContentImages:
    """Grey images (n, side, side), 0..255, by kind (a modality, `neither`), of both sides."""

    training: dict[str, GreyImages]
    validation: dict[str, GreyImages]


def fit_content_classifier(network: Network, images: ContentImages, *, seed: int = 0) -> ContentClassifier:
    """Choose the reader on some of the images, then fit the classifier on all of them."""
    reader = choose_reader(network, images)
    training = vary_images(images.training, seed=seed)
    return fit_reader(
        reader,
        network.config.modalities,
        {kind: compute_contents(network, reader, part) for kind, part in training.items()},
        {kind: compute_contents(network, reader, part) for kind, part in images.validation.items()},
    )


def make_reader(network: Network, branch: Modality) -> ContentReader:
    """A branch's early layers, at half the resolution where its backbone reads images so small."""
    backbone = network.backbone(branch)
    halved = network.config.image_size // REDUCTION >= backbone.smallest
    return ContentReader(branch, backbone.early_layers, REDUCTION if halved else 1)


def choose_reader(network: Network, images: ContentImages) -> ContentReader:
    """Of the branches' readers the quickest whose classifier errs little more than the best on validation images."""
    modalities = network.config.modalities
    readers = sorted(
        (make_reader(network, branch) for branch in modalities),
        key=lambda reader: network.backbone(reader.branch).relative_cost,
    )
    if len(readers) == 1:
        return readers[0]
    sides = [
        {kind: part[:: max(1, len(part) // TRIAL)] for kind, part in side.items()}
        for side in (images.training, images.validation)
    ]
    errors = []
    for reader in readers:
        training, validation = (
            {kind: compute_contents(network, reader, part) for kind, part in side.items()} for side in sides
        )
        errors.append(count_errors(fit_reader(reader, modalities, training, validation), validation))
    enough = min(errors) + TOLERATED
    return next(reader for reader, share in zip(readers, errors, strict=True) if share <= enough)


def vary_images(images: dict[str, GreyImages], *, seed: int) -> dict[str, GreyImages]:
    """Chest images as they are and once more, widely varied; negatives as they are."""
    return {
        kind: part
        if kind == NEITHER or not len(part)
        else np.concatenate([part, augment_images(part, kind, seed=(seed, 97), strength=WIDEST_VARIATION)])
        for kind, part in images.items()
    }


def fit_reader(
    reader: ContentReader,
    modalities: tuple[Modality, ...],
    training: dict[str, Features],
    validation: dict[str, Features],
) -> ContentClassifier:
    """Fit a classifier on one reader's features (n, d) by kind. modalities: those the network answers."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    kinds = tuple(kind for kind in content_kinds() if kind in training)
    features = np.concatenate([training[kind] for kind in kinds])
    labels = np.repeat(np.arange(len(kinds)), [len(training[kind]) for kind in kinds])
    mean = features.mean(axis=0)
    scale = features.std(axis=0) + 1e-3 * float(features.std()) + 1e-6  # constant channels stay small
    classifier = LogisticRegression(C=REGULARISATION, max_iter=500, class_weight="balanced")
    classifier.fit((features - mean) / scale, labels)
    usual: dict[Modality, PcaOutlierModel] = {}
    for modality in modalities:
        own = (training[modality] - mean) / scale
        count = min(
            COMPONENTS, own.shape[1], max(1, len(own) // 4)
        )  # components of too few images fit nobody else
        pca = PCA(count, random_state=0).fit(own)
        components = pca.components_.T.astype(np.float16).astype(np.float32)  # as it is stored
        along = own @ components
        deviation = np.maximum(along.std(axis=0), 1e-6)
        inside = PcaOutlierModel(components, along.mean(axis=0), deviation, limit=1.0)
        distances = inside.measure_distance((validation[modality] - mean) / scale)
        limit = MARGIN * float(np.percentile(distances, USUAL))
        usual[modality] = PcaOutlierModel(components, inside.mean, deviation, limit)
    classifier = ContentClassifier(
        reader=reader,
        mean=mean.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=classifier.coef_.T.astype(np.float32),
        intercept=classifier.intercept_.astype(np.float32),
        refusal=REFUSALS[0],
        usual=usual,
        kinds=kinds,
    )
    return set_refusal(classifier, validation)


def set_refusal(classifier: ContentClassifier, validation: dict[str, Features]) -> ContentClassifier:
    """The classifier with the most lenient refusal that still refuses nearly all validation negatives."""
    shares = classifier.classify(classifier.standardise(validation[NEITHER]))[:, -1]
    enough = [value for value in REFUSALS if np.mean(shares >= value) >= WANTED_REFUSED]
    refusal = max(enough, default=REFUSALS[0])
    return dataclasses.replace(classifier, refusal=refusal)


def count_errors(classifier: ContentClassifier, validation: dict[str, Features]) -> float:
    """The mean share of validation images, over the kinds, whose kind is named wrongly."""
    wrong = [
        np.mean([classifier.name_kind(row) != kind for row in classifier.classify(standard)])
        for kind, part in validation.items()
        if len(standard := classifier.standardise(part))
    ]
    return float(np.mean(wrong))
