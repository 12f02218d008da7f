"""How the slices of a CT scan become one answer: rules compared, and the served one calibrated, on scans left out.

A scan is a patient's slices, or, where a collection names no patients but keeps its slices in order, a cluster
of slices of one patient (`datasets.grouping`). Of patients whose slices are labelled one by one, runs of normal
slices count as normal scans of a part of the chest: no CT collection here has whole scans of both classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from covid_mm.datasets.grouping import group_records
from covid_mm.datasets.index import Collection
from covid_mm.evaluation.fusion import draw_pairs
from covid_mm.evaluation.left_out import CollectionRow, LeftOutTable, tabulate_left_out
from covid_mm.evaluation.left_out_images import fit_left_out_head, gather_left_out, gather_predictions
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.platt import Calibration, leave_one_calibration
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.serving.scan_files import SCANNED
from covid_mm.serving.scan_rule import DEFAULT_SHARE, ScanRule
from covid_mm.training.served_run import ServedRun, TrainedBranch

LEAST_SLICES = 3  # of a scan
LEAST_PART = 5  # normal slices in a row that count as a normal scan
PAIRS = 250  # of each of the four combinations of labels
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
SERVED = ScanRule(DEFAULT_SHARE)

Rule: TypeAlias = (
    "Callable[[NDArray[np.float64], Calibration], float]"  # margins of a scan, and a slice's calibration
)


@dataclass(frozen=True, eq=False)
class LeftOutScans:
    """The scans of a collection that the network of this branch never saw.

    rows: of each scan, positions in margins (n,) and features (n, channels) of its slices. labels: (scans,) 0 or 1.
    patients: (scans,). parts: (scans,) whether it is a run of normal slices of a patient that has others.
    """

    collection: str
    rows: tuple[NDArray[np.int64], ...]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    parts: NDArray[np.bool_]
    margins: NDArray[np.float64]
    features: NDArray[np.float32]

    def predict(self, scores: Sequence[float], head: str = SCANNED) -> LeftOutPredictions:
        """Left-out predictions of one score per scan."""
        return LeftOutPredictions(self.collection, head, np.array(scores), self.labels, self.patients)

    def describe(self) -> dict[str, Any]:
        """How many there are, and how long."""
        lengths = [len(rows) for rows in self.rows]
        return {
            "collection": self.collection,
            "positive": int(self.labels.sum()),
            "normal": int((self.labels == 0).sum()),
            "normal_parts": int(self.parts.sum()),
            "slices": int(np.median(lengths)),
            "most_slices": int(max(lengths)),
        }


@dataclass(frozen=True)
class ScansMeasured:
    """What left-out scans gave. tables: by head, of the served rule. rules, fusion: rows of figures.

    scans: `LeftOutScans.describe` of each collection.
    """

    tables: Mapping[str, LeftOutTable]
    rules: tuple[dict[str, Any], ...]
    fusion: tuple[dict[str, Any], ...]
    scans: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tables": {head: table.to_dict() for head, table in self.tables.items()},
            "rules": list(self.rules),
            "fusion": list(self.fusion),
            "scans": list(self.scans),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScansMeasured:
        """What `to_dict` wrote."""
        return cls(
            {head: LeftOutTable.from_dict(table) for head, table in values["tables"].items()},
            tuple(values["rules"]),
            tuple(values["fusion"]),
            tuple(values["scans"]),
        )

    def to_meta(self) -> dict[str, Any]:
        """The field `scan` of meta.json: what serving reads, and what was measured."""
        heads = {
            head: {
                "temperature": table.calibration.temperature,
                "offset": table.calibration.offset,
                "threshold": table.threshold,
                "abstain_zone": list(table.zone),
                "supported_probability": table.supported_probability,
                "evidence": table.evidence() | {"unit": "scans" if head == SCANNED else "pairs"},
            }
            for head, table in self.tables.items()
        }
        measured = {"rules": list(self.rules), "fusion": list(self.fusion), "scans": list(self.scans)}
        return {"share": SERVED.share, "heads": heads, "measured": measured}


def measure_scans(run: ServedRun, folds: Sequence[TrainedBranch]) -> ScansMeasured | None:
    """Every rule on left-out scans, and the served one's calibration; None without scans of both classes."""
    if SCANNED not in run.network.modalities:
        return None
    scans = [part for branch in folds if (part := gather_scans(run, branch)) is not None]
    if not scans:
        return None
    scored = [part.predict([SERVED.pool(m) for m in _margins(part)]) for part in scans]
    table = _tabulate(scored)
    tables = {SCANNED: table}
    fusion: list[dict[str, Any]] = []
    if run.network.is_concatenated:
        rows, fusion = measure_scan_fusion(run, folds, scans, table)
        tables[FUSED] = _tabulate(rows)
    return ScansMeasured(
        tables, tuple(compare_rules(scans)), tuple(fusion), tuple(part.describe() for part in scans)
    )


def gather_scans(run: ServedRun, branch: TrainedBranch) -> LeftOutScans | None:
    """The scans of a fold's two-class collection; None where it has not both classes of them."""
    if branch.modality != SCANNED or branch.fold is None:
        return None
    for name, left in branch.fold.rows.items():
        collection = run.collection(SCANNED, name)
        positions = run.labelled_rows(collection, left)
        labels = run.crops[name].labels[positions]
        groups = find_scans(collection, positions, labels)
        truth = np.array([int(labels[rows].max()) for rows, _, _ in groups], np.int64)
        if len(groups) and 0 < truth.sum() < len(truth):
            answers = branch.answers[name]
            return LeftOutScans(
                branch.fold.name,
                tuple(rows for rows, _, _ in groups),
                truth,
                np.array([patient for _, patient, _ in groups], np.str_),
                np.array([part for _, _, part in groups], np.bool_),
                answers.margins[positions].astype(np.float64),
                answers.features[positions].astype(np.float32),
            )
    return None


def find_scans(
    collection: Collection, positions: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], str, bool]]:
    """(rows, patient, whether it is a normal part of a patient with others) of each scan.

    positions: of the images that count, in order. labels: (n,) of these. rows: into both.
    """
    patients = np.array([collection.images[row].patient for row in positions], np.str_)
    if (patients == "").all():
        if not collection.in_order:
            return []
        of_record = group_records(collection.to_dataset())
        labelled = [row for row, image in enumerate(collection.images) if image.label is not None]
        group_of = dict(zip(labelled, of_record.tolist(), strict=True))
        patients = np.array([f"cluster {group_of[row]}" for row in positions.tolist()], np.str_)
    scans: list[tuple[NDArray[np.int64], str, bool]] = []
    for patient in dict.fromkeys(patients[patients != ""].tolist()):
        rows = np.flatnonzero(patients == patient)
        if len(rows) >= LEAST_SLICES:
            scans.append((rows, patient, False))
        if labels[rows].any() and not labels[rows].all():
            cuts = np.flatnonzero(np.diff(labels[rows])) + 1
            runs = [part for part in np.split(rows, cuts) if not labels[part].any()]
            scans += [(part, patient, True) for part in runs if len(part) >= LEAST_PART]
    return scans


def compare_rules(scans: Sequence[LeftOutScans]) -> list[dict[str, Any]]:
    """A row for each rule and collection: its AUC, and what it calls positive, calibrated on the others."""
    slices = leave_one_calibration(
        [
            LeftOutPredictions(
                part.collection,
                SCANNED,
                np.concatenate(_margins(part)),
                np.repeat(part.labels, [len(rows) for rows in part.rows]),
                np.repeat(part.patients, [len(rows) for rows in part.rows]),
            )
            for part in scans
        ]
    )
    rules: dict[str, Rule] = {"highest slice": lambda margins, _: float(margins.max())}
    for share in SHARES:
        name = "mean of all" if share == 1.0 else f"mean of the top {share:.0%}"
        rules[name] = _mean_of_top(ScanRule(share))
    rules["noisy-or"] = _noisy_or
    scores = {
        name: [[rule(m, slices[part.collection]) for m in _margins(part)] for part in scans]
        for name, rule in rules.items()
    }
    if len(scans) > 1:
        scores["logistic on top 20 %, mean, share"] = _fit_small_head(scans)
    rows = []
    for name, values in scores.items():
        table = _tabulate([part.predict(v) for part, v in zip(scans, values, strict=True)])
        rows += [{"rule": name, "mean_auc": table.auc.to_dict()} | _figures(row) for row in table.rows]
    return rows


def _mean_of_top(rule: ScanRule) -> Rule:
    return lambda margins, _: rule.pool(margins)


def _noisy_or(margins: NDArray[np.float64], calibration: Calibration) -> float:
    """Log odds that any slice is positive, were they independent."""
    log_none = -float(np.sum(np.logaddexp(0.0, calibration.logits(margins))))
    return float(np.clip(np.log(-np.expm1(min(log_none, -1e-12))) - log_none, -500, 500))


def _fit_small_head(scans: Sequence[LeftOutScans]) -> list[list[float]]:
    """Scores of a logistic regression on three figures of a scan, fitted on the other collections' scans."""
    from sklearn.linear_model import LogisticRegression

    figures = [
        np.array([[SERVED.pool(m), m.mean(), np.mean(m > 0)] for m in _margins(part)]) for part in scans
    ]
    scores = []
    for number, part in enumerate(figures):
        others = [row for row in range(len(scans)) if row != number]
        model = LogisticRegression(class_weight="balanced").fit(
            np.concatenate([figures[row] for row in others]),
            np.concatenate([scans[row].labels for row in others]),
        )
        scores.append(model.decision_function(part).tolist())
    return scores


def measure_scan_fusion(
    run: ServedRun, folds: Sequence[TrainedBranch], scans: Sequence[LeftOutScans], table: LeftOutTable
) -> tuple[list[LeftOutPredictions], list[dict[str, Any]]]:
    """The concatenated head on a scan and a film, three ways, on pairs of left-out scans and films.

    `pooled features` (served): on the mean features of the most suspicious share of slices. `most suspicious
    slice`: on that slice's. `sum`: the scan's calibrated log odds and the film's, without the head.

    Returns the predictions of the served way on agreeing pairs, and a row for each way.
    """
    fits = {m: leave_one_calibration(gather_predictions(run, m, folds, {})) for m in run.network.modalities}
    scan_fits = {row.collection: row.calibration for row in table.rows}
    by_name = {part.collection: part for part in scans}
    ways: dict[str, list[LeftOutPredictions]] = {
        "pooled features": [],
        "most suspicious slice": [],
        "sum": [],
    }
    scan_folds = [b for b in folds if b.modality == SCANNED and b.fold is not None and b.fold.name in by_name]
    films = [b for b in folds if b.modality != SCANNED]
    for number, (scan, film) in enumerate(itertools.product(scan_folds, films)):
        assert scan.fold is not None
        assert film.fold is not None
        part, left = by_name[scan.fold.name], gather_left_out(run, film)
        head, calibrations = fit_left_out_head(run, (scan, film), fits)
        labels = {SCANNED: part.labels, film.modality: left.predictions.labels}
        pairs = draw_pairs(labels, per_kind=PAIRS, seed=run.seed + number)
        scanned, filmed = pairs.rows[SCANNED], pairs.rows[film.modality]
        agreeing = pairs.agreeing
        chosen = [rows[SERVED.choose_slices(part.margins[rows])] for rows in part.rows]
        features = {
            "pooled features": np.stack([part.features[rows].mean(axis=0) for rows in chosen]),
            "most suspicious slice": np.stack([part.features[rows[0]] for rows in chosen]),
        }
        scores = {
            name: find_margins(
                head.predict([values[scanned], left.features[filmed]], batch_size=256, verbose=0)
            ).astype(np.float64)
            for name, values in features.items()
        }
        scan_logits = scan_fits[part.collection].logits([SERVED.pool(m) for m in _margins(part)])
        scores["sum"] = (
            scan_logits[scanned] + calibrations[film.modality].logits(left.predictions.margins)[filmed]
        )
        for name, values in scores.items():
            ways[name].append(
                LeftOutPredictions(
                    collection=f"{scan.fold.name} with {film.fold.name}",
                    head=FUSED,
                    margins=values[agreeing],
                    labels=pairs.labels[agreeing],
                    patients=left.predictions.patients[filmed[agreeing]],
                    left_out=(scan.fold.name, film.fold.name),
                )
            )
    rows = []
    for name, predictions in ways.items():
        fused = _tabulate(predictions)
        evidence = fused.evidence()
        rows.append({"way": name, "calibration": fused.calibration.to_dict()} | evidence)
    return ways["pooled features"], rows


def _tabulate(predictions: Sequence[LeftOutPredictions]) -> LeftOutTable:
    """Not drawn to the network's own odds, which are a slice's: what is pooled of many slices has another zero."""
    return tabulate_left_out(predictions, own_weight=0.0)


def _margins(part: LeftOutScans) -> list[NDArray[np.float64]]:
    return [part.margins[rows] for rows in part.rows]


def _figures(row: CollectionRow) -> dict[str, Any]:
    return {
        "collection": row.collection,
        "normal": row.normal,
        "positive": row.positive,
        "auc": None if row.auc is None else row.auc.to_dict(),
        "sensitivity": None if row.sensitivity is None else row.sensitivity.to_dict(),
        "specificity": None if row.specificity is None else row.specificity.to_dict(),
    }
