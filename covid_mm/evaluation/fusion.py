"""Is the fused head right about disagreement? Against the sum of calibrated branch logits, left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import DataError
from covid_mm.evaluation.calibration import expected_calibration_error
from covid_mm.evaluation.metrics import check_labels
from covid_mm.evaluation.patient_bootstrap import estimate_auc_by_patient
from covid_mm.json_record import WITH_DERIVED, JsonRecord

Method = str  # `fused`, `sum`, or a modality
PairKind = Literal["agreeing", "disagreeing"]
KINDS: tuple[PairKind, ...] = ("agreeing", "disagreeing")


@dataclass(frozen=True, eq=False)
class StudyPairs:
    """Left-out images of every modality joined, two of them to pairs.

    rows: by modality, positions among its images, int64 (n,). labels: (n,) 1 where any image is positive.
    agreeing: (n,) whether all have the same label.
    """

    rows: Mapping[Modality, NDArray[np.int64]]
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
    better_branch: Modality

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


def title_method(method: Method) -> str:
    """A way to combine, for people."""
    titles = {"fused": "fused head", "sum": "sum of the branches' calibrated logits"}
    return titles.get(method) or f"{MODALITIES[method].title} branch alone"


def draw_pairs(labels: Mapping[Modality, ArrayLike], *, per_kind: int, seed: int = 0) -> StudyPairs:
    """Random pairs of left-out images, half of them agreeing, each label as often as the other.

    labels: of each modality's images. per_kind: pairs of each combination of labels (of two modalities four:
    normal and normal, positive and positive, and the two that disagree). An image may be in several pairs.

    Raises:
        DataError: a modality without one of the classes, or no pair asked for.
    """
    if per_kind < 1:
        raise DataError(f"Expected at least 1 pair of each kind, but {per_kind} were asked for.")
    generator = np.random.default_rng(seed)
    truths = {m: check_labels(part, np.size(part)) for m, part in labels.items()}
    chosen: dict[Modality, list[NDArray[np.int64]]] = {m: [] for m in truths}
    mixed = [kind for kind in itertools.product((1, 0), repeat=len(truths)) if len(set(kind)) > 1]
    for kind in ((0,) * len(truths), (1,) * len(truths), *mixed):
        for (modality, truth), label in zip(truths.items(), kind, strict=True):
            positions = np.flatnonzero(truth == label)
            if positions.size == 0:
                raise DataError(
                    "Expected left-out images of both classes in each modality, but one is missing."
                )
            chosen[modality].append(positions[_spread(positions.size, per_kind, generator)])
    rows = {m: np.concatenate(parts).astype(np.int64) for m, parts in chosen.items()}
    paired = np.stack([truths[m][part] for m, part in rows.items()])
    return StudyPairs(rows, paired.max(axis=0), paired.min(axis=0) == paired.max(axis=0))


def compare_fusion(
    pairs: StudyPairs, *, fused_logits: ArrayLike, branch_logits: Mapping[Modality, ArrayLike]
) -> FusionComparison:
    """Every method on agreeing and on disagreeing pairs.

    Args:
        pairs: of `draw_pairs`.
        fused_logits: (pairs,) calibrated log odds of the fused head (`Calibration.logits`).
        branch_logits: by modality, (its images,) calibrated log odds of its branch.

    Raises:
        DataError: NaN, a kind without pairs, or counts that do not fit.
    """
    from scipy.special import expit

    fused = np.asarray(fused_logits, dtype=np.float64)
    branches = {m: np.asarray(branch_logits[m], dtype=np.float64) for m in pairs.rows}
    fits = fused.shape == pairs.agreeing.shape and pairs.agreeing.size > 0
    if not fits or any(
        branches[m].ndim != 1 or rows.max() >= branches[m].size for m, rows in pairs.rows.items()
    ):
        shapes = " and ".join(str(part.shape) for part in branches.values())
        raise DataError(
            f"Expected a fused logit for each of {pairs.agreeing.size} pairs and one for each image of a branch,"
            f" but got shapes {fused.shape}, {shapes}."
        )
    alone = {m: branches[m][rows] for m, rows in pairs.rows.items()}
    logits: dict[Method, NDArray[np.float64]] = {
        "fused": fused,
        "sum": sum(alone.values(), np.zeros(1)),
        **alone,
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
    return FusionComparison(tuple(rows), max(alone, key=lambda modality: areas[modality]))


def _find_auc(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
    if truth.all() or not truth.any():
        return None
    return estimate_auc_by_patient(logits, truth).value


def _spread(count: int, total: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`total` positions below `count`, each as often as any other, in random order."""
    rounds = -(-total // count)
    return np.concatenate([generator.permutation(count) for _ in range(rounds)])[:total].astype(np.int64)
