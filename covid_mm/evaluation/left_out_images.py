"""What left-out branches say of the images they never saw, gathered from their kept answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.datasets.index import Collection
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.platt import Calibration
from covid_mm.models.heads import FUSED
from covid_mm.training.fusion import fit_fused_head
from covid_mm.training.recipe import has_both_classes, trainable
from covid_mm.training.served_run import ServedRun, TrainedBranch, load_branches


def gather_predictions(
    run: ServedRun,
    modality: Modality,
    folds: Sequence[TrainedBranch],
    served: Mapping[Modality, TrainedBranch],
) -> list[LeftOutPredictions]:
    """Left-out predictions of one modality; images whose lungs were not found have none."""
    predictions = []
    for branch in folds:
        if branch.modality != modality or branch.fold is None:
            continue
        for name, rows in branch.fold.rows.items():
            collection = run.collection(modality, name)
            title = branch.fold.name if has_both_classes(collection) else name
            predictions.append(_predict(run, collection, branch, rows, title))
    for collection in run.collections[modality]:
        if collection not in trainable(run.collections[modality]) and modality in served:
            rows = np.ones(len(collection.images), np.bool_)
            predictions.append(_predict(run, collection, served[modality], rows, collection.name))
    return predictions


def _predict(
    run: ServedRun, collection: Collection, branch: TrainedBranch, rows: NDArray[np.bool_], name: str
) -> LeftOutPredictions:
    positions = run.labelled_rows(collection, rows)
    answers = branch.answers[collection.name]
    return make_predictions(run, collection, positions, name, answers.margins[positions])


def make_predictions(
    run: ServedRun, collection: Collection, positions: NDArray[np.int64], name: str, margins: NDArray[Any]
) -> LeftOutPredictions:
    """Predictions for images of one collection, with the margins given."""
    images = [collection.images[row] for row in positions]
    return LeftOutPredictions(
        collection=name,
        head=collection.modality,
        margins=margins.astype(np.float64),
        labels=run.crops[collection.name].labels[positions],
        patients=np.array([image.patient for image in images], dtype=np.str_),
        names=tuple(image.name for image in images),
        population=collection.name,
    )


def training_features(run: ServedRun, branch: TrainedBranch) -> NDArray[np.float32]:
    """Pooled features (n, channels) of the images that a branch was trained on."""
    chosen = run.training_rows(branch.modality, branch.fold)
    return np.concatenate(
        [branch.answers[name].features[rows].astype(np.float32) for name, rows in chosen.items()]
    )


@dataclass(frozen=True)
class LeftOutImages:
    """Predictions of a fold's two-class collection, and the pooled features (n, channels) they come from."""

    predictions: LeftOutPredictions
    features: NDArray[np.float32]


def gather_left_out(run: ServedRun, branch: TrainedBranch) -> LeftOutImages:
    """The images of a fold that pairs are formed of; collections of one class that it holds too are left away."""
    assert branch.fold is not None
    (collection,) = (
        c for c in run.collections[branch.modality] if c.name in branch.fold.rows and has_both_classes(c)
    )
    positions = run.labelled_rows(collection, branch.fold.rows[collection.name])
    answers = branch.answers[collection.name]
    predictions = make_predictions(run, collection, positions, branch.fold.name, answers.margins[positions])
    return LeftOutImages(predictions, answers.features[positions].astype(np.float32))


def fit_left_out_head(
    run: ServedRun, branches: Sequence[TrainedBranch], fits: Mapping[Modality, Mapping[str, Calibration]]
) -> tuple[keras.Model, dict[Modality, Calibration]]:
    """A concatenated head trained anew on one fold's branch of each modality, and those branches' calibrations.

    branches: in the network's order. fits: by modality and fold, from `leave_one_calibration`. The model takes the
    pooled features (n, channels) of each and gives logits (n, 2).
    """
    network = load_branches(run, branches)
    calibrations = {b.modality: fits[b.modality][b.fold.name] for b in branches if b.fold is not None}
    features = {b.modality: training_features(run, b) for b in branches}
    fit_fused_head(network, features, {m: fit.logits for m, fit in calibrations.items()}, seed=run.seed)
    return keras.Model([network.features(b.modality) for b in branches], network.logits(FUSED)), calibrations
