"""What networks said of images from a collection that they never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError
from covid_mm.evaluation.metrics import check_labels


@dataclass(frozen=True, eq=False)
class LeftOutPredictions:
    """One left-out collection (or scanner group), scored by a network trained on the others.

    collection: its name. head: `fused`, `ct` or `xray`. margins: (n,) float64,
    logit_positive - logit_normal, uncalibrated. labels: (n,) int64, 0 or 1; one class alone is
    allowed. patients: (n,) str; "" = a patient of its own. names: of the images, for error analysis;
    empty, or n of them. left_out: what was left out for it, a pair's two parts; itself without any.
    population: whose patients these are, the collection of a group of scanners; itself without any.

    Raises:
        DataError: no image, lengths that differ, NaN or infinite margins, other labels.
    """

    collection: str
    head: str
    margins: NDArray[np.float64]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    population: str = ""

    def __post_init__(self) -> None:
        margins = np.asarray(self.margins, dtype=np.float64)
        patients = np.asarray(self.patients, dtype=np.str_)
        if margins.ndim != 1 or patients.shape != margins.shape or len(self.names) not in (0, margins.size):
            raise DataError(
                f"Expected as many margins as patients and names of {self.collection}, but got margins of"
                f" shape {margins.shape}, patients of shape {patients.shape} and {len(self.names)} names."
            )
        if not np.isfinite(margins).all():
            raise DataError(
                f"Expected finite margins of {self.collection}, but {int(np.sum(~np.isfinite(margins)))} of"
                f" {margins.size} are NaN or infinite; the network or its images are damaged."
            )
        object.__setattr__(self, "margins", margins)
        object.__setattr__(self, "labels", check_labels(self.labels, margins.size))
        object.__setattr__(self, "patients", patients)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "left_out", tuple(self.left_out) or (self.collection,))
        object.__setattr__(self, "population", self.population or self.collection)

    @property
    def images(self) -> int:
        """All images."""
        return int(self.labels.size)

    @property
    def positive(self) -> int:
        """Images whose label is positive."""
        return int(self.labels.sum())

    @property
    def normal(self) -> int:
        """Images whose label is normal."""
        return self.images - self.positive

    @property
    def is_two_class(self) -> bool:
        """Whether both classes are present: only then an AUC and a calibration exist."""
        return 0 < self.positive < self.images

    @property
    def patient_count(self) -> int:
        """Patients; each image without a patient's name counts as one."""
        return int(number_patients(self.patients, self.images).max()) + 1

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "collection": self.collection,
            "head": self.head,
            "margins": self.margins.tolist(),
            "labels": self.labels.tolist(),
            "patients": self.patients.tolist(),
            "names": list(self.names),
            "left_out": list(self.left_out),
            "population": self.population,
        }

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> LeftOutPredictions:
        """What `to_dict` wrote."""
        return cls(**values)  # type: ignore[arg-type]


def number_patients(patients: ArrayLike | None, images: int) -> NDArray[np.int64]:
    """Each image's patient as a number from 0 on, int64 (images,), none left out.

    patients: (images,) names; "" is a patient of its own; None: every image is.

    Raises:
        DataError: another number of names than images.
    """
    if patients is None:
        return np.arange(images, dtype=np.int64)
    names = np.asarray(patients, dtype=np.str_)
    if names.shape != (images,):
        raise DataError(f"Expected a patient for each of {images} images, but got shape {names.shape}.")
    known, numbers = np.unique(names, return_inverse=True)
    alone = names == ""
    numbers = numbers.astype(np.int64)
    numbers[alone] = known.size + np.arange(int(alone.sum()))
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)


def choose_two_class(predictions: Sequence[LeftOutPredictions]) -> list[LeftOutPredictions]:
    """Those with both classes, in their order.

    Raises:
        DataError: a collection given twice, different heads, or no collection with both classes.
    """
    names = [part.collection for part in predictions]
    if len(set(names)) < len(names):
        raise DataError(f"Expected each left-out collection once, but got {', '.join(sorted(names))}.")
    if len({part.head for part in predictions}) > 1:
        raise DataError(
            "Expected left-out predictions of one head, but got "
            f"{', '.join(sorted({part.head for part in predictions}))}; call once for each."
        )
    chosen = [part for part in predictions if part.is_two_class]
    if not chosen:
        raise DataError(
            "Expected a left-out collection with images of both classes, but got"
            f" {', '.join(names) or 'no collection'}; leave one out that has both."
        )
    return chosen


def find_others(part: LeftOutPredictions, chosen: Sequence[LeftOutPredictions]) -> list[LeftOutPredictions]:
    """Those of the chosen that share no image with a collection; itself where there is none."""
    return [other for other in chosen if not set(other.left_out) & set(part.left_out)] or [part]


def balanced_weights(labels: ArrayLike, collections: ArrayLike) -> NDArray[np.float64]:
    """Weights (n,) of sum 1: each collection counts the same, and each class within it the same.

    With two-class collections alone the weighted prevalence is 1/2.
    """
    truth = np.asarray(labels)
    weights = np.zeros(truth.size)
    sources = np.asarray(collections, dtype=np.str_)
    names = np.unique(sources)
    for name in names:
        classes = np.unique(truth[sources == name])
        for label in classes:
            cell = (sources == name) & (truth == label)
            weights[cell] = 1.0 / (names.size * classes.size * int(cell.sum()))
    return weights
