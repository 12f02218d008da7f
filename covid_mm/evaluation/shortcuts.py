"""Shortcut tests: what is left of the AUC when the lungs, or all but the lungs, are taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.config import SHORTCUT_TITLES
from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.patient_bootstrap import RESAMPLES, estimate_auc_by_patient
from covid_mm.imaging.lungs import fill_hull
from covid_mm.json_record import JsonRecord


@dataclass(frozen=True)
class ShortcutRow(JsonRecord):
    """A collection's AUC with altered images and its 95 % interval by patient.

    test: a key of SHORTCUT_TITLES. images: with which it was measured.
    """

    test: str
    collection: str
    auc: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class SourceRow(JsonRecord):
    """How well features name the source that an image comes from, cross-validated.

    accuracy: mean over sources of the share named rightly; chance: 1 / sources. auc: one source
    against the rest, mean over sources; chance is 1/2.
    """

    features: str
    sources: tuple[str, ...]
    accuracy: float
    chance: float
    auc: float
    images: int


def blank_lungs(grey: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """The image with its lungs filled by the mean of the rest of the body.

    The rest: what is not black and outside the mask; all outside it where everything there is black.

    Args:
        grey: (h, w) 0..255; not changed.
        mask: (h, w), true on the lungs.

    Raises:
        DataError: other shapes, or a mask that is empty or full.
    """
    image, region = _check_image(grey, mask)
    body = ~region & (image > 0)
    image[region] = image[body].mean() if body.any() else image[~region].mean()
    return image


def blank_hull(grey: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """The image with the convex hull of both lungs filled as in `blank_lungs`, so that no outline of them is left.

    How large the lungs are found tells of disease too: consolidated lung is no longer dark. Filled lungs
    still show that; a filled hull, heart included, does not. A hull that is the whole image is filled by
    the image's mean.

    Args and errors as for `blank_lungs`.
    """
    image, region = _check_image(grey, mask)
    hull = fill_hull(region)
    return np.full_like(image, image.mean()) if hull.all() else blank_lungs(image, hull)


def lungs_only(grey: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """The lungs alone, all else filled by its own mean; args and errors as for `blank_lungs`."""
    image, region = _check_image(grey, mask)
    image[~region] = image[~region].mean()
    return image


def border_only(grey: ArrayLike, fraction: float = 0.15) -> NDArray[np.float32]:
    """The rim alone, all within filled by the rim's mean.

    Args:
        grey: (h, w) 0..255; not changed.
        fraction: of height and width on each side, above 0 and below 0.5; at least one pixel.

    Raises:
        DataError: another shape, or an image too small to have a middle.
        UsageError: an impossible fraction.
    """
    if not 0.0 < fraction < 0.5:
        raise UsageError(f"A border's fraction must lie between 0 and 0.5, but is {fraction:g}.")
    image: NDArray[np.float32] = np.array(grey, dtype=np.float32)
    if image.ndim != 2:
        raise DataError(f"Expected a grey image (height, width), but its shape is {image.shape}.")
    rows, columns = (max(1, round(fraction * side)) for side in image.shape)
    middle = np.zeros(image.shape, dtype=np.bool_)
    middle[rows : image.shape[0] - rows, columns : image.shape[1] - columns] = True
    if not middle.any():
        raise DataError(f"Expected an image with a middle inside its border, but its shape is {image.shape}.")
    image[middle] = image[~middle].mean()
    return image


def shuffle_outside(
    grey: ArrayLike, mask: ArrayLike, rng: np.random.Generator, tile: int = 8
) -> NDArray[np.float32]:
    """The lungs where they are, the tiles outside them in random order.

    Tiles of tile x tile pixels from the upper left corner that do not touch the mask change places;
    what is left over at the right and lower edge, narrower than a tile, stays.

    Raises:
        DataError: as for `blank_lungs`. UsageError: a tile below 1 pixel.
    """
    if tile < 1:
        raise UsageError(f"A tile needs at least 1 pixel per side, but {tile} were asked for.")
    image, region = _check_image(grey, mask)
    tiles = [
        (slice(top, top + tile), slice(left, left + tile))
        for top in range(0, image.shape[0] - tile + 1, tile)
        for left in range(0, image.shape[1] - tile + 1, tile)
        if not region[top : top + tile, left : left + tile].any()
    ]
    pieces = [image[where].copy() for where in tiles]
    for where, number in zip(tiles, rng.permutation(len(tiles)), strict=True):
        image[where] = pieces[number]
    return image


def measure_shortcut(
    test: str, predictions: LeftOutPredictions, *, resamples: int = RESAMPLES, seed: int = 0
) -> ShortcutRow:
    """The row of one test, from margins of the altered images of a collection with both classes.

    Raises:
        UsageError: a test that is no key of SHORTCUT_TITLES. DataError: one class alone.
    """
    if test not in SHORTCUT_TITLES:
        raise UsageError(f"Expected one of {', '.join(SHORTCUT_TITLES)}, but got {test}.")
    auc = estimate_auc_by_patient(
        predictions.margins, predictions.labels, predictions.patients, resamples=resamples, seed=seed
    )
    return ShortcutRow(test, predictions.collection, auc.value, auc.low, auc.high, predictions.images)


def source_auc(
    features: ArrayLike,
    sources: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    name: str = "features",
    folds: int = 5,
    seed: int = 0,
) -> SourceRow:
    """Name the source from features by cross-validated logistic regression, patients kept together.

    Pass images of one label: where sources differ in their share of positives, knowing the disease
    would pass for knowing the source.

    Args:
        features: (n, d) finite. sources: (n,) names, at least two with `folds` images each.
        patients: (n,) names; "" or None = a patient of its own.
        name: of the features, for the row. folds: at least 2.

    Raises:
        DataError: other shapes, one source alone, too few images of one, or a fold without one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from covid_mm.evaluation.left_out_predictions import number_patients

    values: NDArray[np.float64] = np.asarray(features, dtype=np.float64)
    names = np.asarray(sources, dtype=np.str_)
    if values.ndim != 2 or names.shape != values.shape[:1] or not np.isfinite(values).all():
        raise DataError(
            f"Expected finite features (n, d) and a source for each, but got shapes {values.shape} and"
            f" {names.shape}."
        )
    known, counts = np.unique(names, return_counts=True)
    groups = number_patients(patients, names.size)
    fewest = min((np.unique(groups[names == source]).size for source in known), default=0)
    if known.size < 2 or fewest < folds:
        raise DataError(
            f"Expected at least two sources with {folds} patients each, but got {known.size} of which the"
            f" smallest has {fewest}."
        )
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    shares = np.zeros((names.size, known.size))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(values, names, groups):
        if np.unique(names[train]).size < known.size:
            raise DataError(
                "Expected every source in every training fold, but one is missing; use fewer folds."
            )
        shares[test] = model.fit(values[train], names[train]).predict_proba(values[test])
    areas = [roc_auc_score(names == source, shares[:, k]) for k, source in enumerate(known)]
    return SourceRow(
        features=name,
        sources=tuple(known.tolist()),
        accuracy=float(balanced_accuracy_score(names, known[shares.argmax(axis=1)])),
        chance=1.0 / known.size,
        auc=float(np.mean(areas)),
        images=int(counts.sum()),
    )


def _check_image(grey: ArrayLike, mask: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A copy of the image, and the mask."""
    image: NDArray[np.float32] = np.array(grey, dtype=np.float32)
    region: NDArray[np.bool_] = np.asarray(mask, dtype=np.bool_)
    if image.ndim != 2 or region.shape != image.shape:
        raise DataError(
            f"Expected a grey image (height, width) and a mask of its shape, but got {image.shape} and"
            f" {region.shape}."
        )
    if region.all() or not region.any():
        raise DataError(
            "Expected a mask that holds some of the image and leaves some, but it is all or nothing."
        )
    return image, region
