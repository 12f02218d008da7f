"""Is the fused head right about disagreement? Against the sum of calibrated branch logits, left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError
from covid_mm.evaluation.calibration import expected_calibration_error
from covid_mm.evaluation.metrics import check_labels
from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
from covid_mm.json_record import WITH_DERIVED, JsonRecord

Method = Literal["fused", "sum", "ct", "xray"]
PairKind = Literal["agreeing", "disagreeing"]
METHOD_TITLES: dict[Method, str] = {
    "fused": "fused head",
    "sum": "sum of the branches' calibrated logits",
    "ct": "CT branch alone",
    "xray": "X-ray branch alone",
}
KINDS: tuple[PairKind, ...] = ("agreeing", "disagreeing")


@dataclass(frozen=True, eq=False)
class StudyPairs:
    """Pairs of left-out images as positions among the CT and the X-ray images, int64 (n,) each.

    labels: (n,) 1 where either image is positive. agreeing: (n,) whether both have the same label.
    """

    ct: NDArray[np.int64]
    xray: NDArray[np.int64]
    labels: NDArray[np.int64]
    agreeing: NDArray[np.bool_]


@dataclass(frozen=True)
class FusionRow(JsonRecord):
    """One way to combine, on one kind of pairs. log_loss in nats.

    A disagreeing pair has no one true label: it is held to "positive if either image is", so all are
    positive, auc is None, and ece rewards calling everything positive. The figure to read there is
    posterior_difference: the mean distance of the probability from that of two independent
    pieces of evidence (the sum of the calibrated logits, itself 0 by definition).
    """

    method: Method
    pairs: PairKind
    count: int
    log_loss: float
    ece: float
    auc: float | None
    posterior_difference: float


@dataclass(frozen=True)
class FusionComparison(JsonRecord):
    """All rows. better_branch: the one of greater AUC on these agreeing pairs, which flatters it a little."""

    __pydantic_config__ = WITH_DERIVED

    rows: tuple[FusionRow, ...]
    better_branch: Literal["ct", "xray"]

    def find(self, method: Method, pairs: PairKind) -> FusionRow:
        """The row of a method on a kind of pairs. Raises KeyError where there is none."""
        for row in self.rows:
            if (row.method, row.pairs) == (method, pairs):
                return row
        raise KeyError(f"no row of {method} on {pairs} pairs")

    @property
    def is_fused_as_calibrated(self) -> bool:
        """Whether on agreeing pairs the fused head's calibration error is at most that of the sum."""
        return self.find("fused", "agreeing").ece <= self.find("sum", "agreeing").ece

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, and whether the fused head is as well calibrated as the sum."""
        return super().to_dict() | {"is_fused_as_calibrated": self.is_fused_as_calibrated}


def draw_pairs(ct_labels: ArrayLike, xray_labels: ArrayLike, *, per_kind: int, seed: int = 0) -> StudyPairs:
    """Random pairs of left-out images, half of them agreeing, each label as often as the other.

    per_kind: pairs of each of the four combinations of labels (normal and normal, positive and
    positive, and the two that disagree), so 4 * per_kind in all. An image may be in several pairs.

    Raises:
        DataError: a modality without one of the classes, or no pair asked for.
    """
    if per_kind < 1:
        raise DataError(f"Expected at least 1 pair of each kind, but {per_kind} were asked for.")
    generator = np.random.default_rng(seed)
    truths = [check_labels(labels, np.size(labels)) for labels in (ct_labels, xray_labels)]
    chosen: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for kind in ((0, 0), (1, 1), (1, 0), (0, 1)):
        for truth, label, parts in zip(truths, kind, chosen, strict=True):
            places = np.flatnonzero(truth == label)
            if places.size == 0:
                raise DataError(
                    "Expected left-out images of both classes in each modality, but one is missing."
                )
            parts.append(places[_spread(places.size, per_kind, generator)])
    ct, xray = (np.concatenate(parts).astype(np.int64) for parts in chosen)
    first, second = truths[0][ct], truths[1][xray]
    return StudyPairs(ct, xray, np.maximum(first, second), first == second)


def compare_fusion(
    pairs: StudyPairs, *, fused_logits: ArrayLike, ct_logits: ArrayLike, xray_logits: ArrayLike
) -> FusionComparison:
    """Every method on agreeing and on disagreeing pairs.

    Args:
        pairs: of `draw_pairs`.
        fused_logits: (pairs,) calibrated log odds of the fused head (`Calibration.logits`).
        ct_logits, xray_logits: (images of the modality,) calibrated log odds of each branch.

    Raises:
        DataError: NaN, a kind without pairs, or counts that do not fit.
    """
    from scipy.special import expit

    fused = np.asarray(fused_logits, dtype=np.float64)
    ct, xray = (np.asarray(part, dtype=np.float64) for part in (ct_logits, xray_logits))
    fits = fused.shape == pairs.ct.shape and ct.ndim == 1 and xray.ndim == 1 and pairs.agreeing.size > 0
    if not fits or pairs.ct.max() >= ct.size or pairs.xray.max() >= xray.size:
        raise DataError(
            f"Expected a fused logit for each of {pairs.ct.size} pairs and one for each image of a branch,"
            f" but got shapes {fused.shape}, {ct.shape} and {xray.shape}."
        )
    logits: dict[Method, NDArray[np.float64]] = {
        "fused": fused,
        "sum": ct[pairs.ct] + xray[pairs.xray],
        "ct": ct[pairs.ct],
        "xray": xray[pairs.xray],
    }
    if not all(np.isfinite(part).all() for part in logits.values()):
        raise DataError(
            "Expected finite logits, but some are NaN or infinite; the network or its images are damaged."
        )
    posterior = expit(logits["sum"])
    rows = []
    for kind in KINDS:
        chosen = pairs.agreeing if kind == "agreeing" else ~pairs.agreeing
        if not chosen.any():
            raise DataError(f"Expected {kind} pairs, but there are none.")
        truth = pairs.labels[chosen]
        for method, values in logits.items():
            part = values[chosen]
            rows.append(
                FusionRow(
                    method=method,
                    pairs=kind,
                    count=int(chosen.sum()),
                    log_loss=float(np.mean(np.logaddexp(0.0, part) - truth * part)),
                    ece=expected_calibration_error(expit(part), truth),
                    auc=_find_auc(part, truth),
                    posterior_difference=float(np.mean(np.abs(expit(part) - posterior[chosen]))),
                )
            )
    areas = {row.method: row.auc or 0.0 for row in rows if row.pairs == "agreeing"}
    return FusionComparison(tuple(rows), "ct" if areas["ct"] >= areas["xray"] else "xray")


def _find_auc(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
    if truth.all() or not truth.any():
        return None
    return estimate_auc_by_patient(logits, truth).value


def _spread(count: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` positions below `count`, each as often as any other, in random order."""
    rounds = -(-wanted // count)
    return np.concatenate([generator.permutation(count) for _ in range(rounds)])[:wanted].astype(np.int64)
