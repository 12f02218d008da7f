"""What one study's analysis gives: plain values, no network in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, MODALITIES, POSITIVE
from covid_mm.explain.method_table import list_methods
from covid_mm.explain.overlay import HeatCells, find_cells, resize_heatmap
from covid_mm.formats import round_probability, round_share
from covid_mm.imaging.lungs import Box
from covid_mm.imaging.window import WindowSettings
from covid_mm.serving.label_meaning import PositiveSource, describe_positives

UNDETERMINED = "undetermined"
# the two reasons of `undetermined` that come with probabilities
ABSTAINED = "in_abstain_zone"
DISAGREE = "branches_disagree"  # both branches outside their abstain zones, on different sides

SCAN_COLUMNS = (
    "ct_slices",
    "ct_lung_slices",
    "ct_most_suspicious_slice",
    "ct_positive_share",
    "ct_window",
)  # of a table of many studies; empty for one slice
EXTENT_MEANING = "share of the lung slices called positive; not a severity score"


@dataclass(frozen=True)
class Notice:
    """Something the reader must know beside the answer.

    code: stable, for programs (`branches_disagree`, `single_modality`, `no_positive_evidence_ct`).
    message: one sentence, for people; from `serving.warnings.warn` an `errors.Message`, which can be translated.
    """

    code: str
    message: str


@dataclass(frozen=True)
class BranchAnswer:
    """What one modality alone says.

    label: a class, or `undetermined` inside the abstain zone of the branch (probabilities are given)
    or where the study is not answered (probabilities are empty). probabilities: class name -> 0..1,
    calibrated, sum 1, none above supported_probability.
    """

    label: str
    probabilities: dict[str, float]
    supported_probability: float = 1.0


def round_probabilities(probabilities: Mapping[str, float], supported: float) -> dict[str, float]:
    """Class name -> probability as it is shown, see `formats.round_probability`; sum 1, or empty."""
    if not probabilities:
        return {}
    positive = round_probability(probabilities[CLASSES[POSITIVE]], supported)
    return {CLASSES[1 - POSITIVE]: round(1.0 - positive, 2), CLASSES[POSITIVE]: positive}


@dataclass(frozen=True)
class Evidence:
    """How well one head did on collections that were left out of training.

    auc (with its 95 % interval auc_low, auc_high), sensitivity and specificity (at a threshold fixed
    on the other collections): 0..1. collections: those left out in turn. images: how many were
    answered. ece: expected calibration error, 0..1; None where it was not measured. unit: what was counted: `images`,
    `scans`, or `pairs` of a scan and a film.
    """

    auc: float
    auc_low: float
    auc_high: float
    sensitivity: float
    specificity: float
    collections: tuple[str, ...]
    images: int
    ece: float | None = None
    unit: str = "images"

    def to_dict(self) -> dict[str, Any]:
        """The `evidence` object of `predict --json`."""
        return {
            "auc": round_share(self.auc),
            "sensitivity": round_share(self.sensitivity),
            "specificity": round_share(self.specificity),
            "collections": list(self.collections),
            "images": self.images,
        }


@dataclass(frozen=True)
class HeatLocation:
    """How often the hottest point of a modality's heatmaps lay on a lesion that a radiologist marked.

    target: `opacity boxes` or `lesion masks`. hit: share of the images, 0..1. chance: the same
    share for a random point. images: how many were measured. method, layer: of those heatmaps.
    """

    target: str
    hit: float
    chance: float
    images: int
    method: str
    layer: str


@dataclass(frozen=True)
class SliceAnswer:
    """What the CT alone says of one slice of a scan.

    index: from 0, at the feet. position_mm: along the body, None where the files do not say. lung: whether the slice
    shows lung and was read. probability: of covid19_pneumonia, 0..1, as of that slice alone; None without lung.
    positive: whether that is at or above a slice's threshold.
    """

    index: int
    position_mm: float | None
    lung: bool
    probability: float | None
    positive: bool = False

    def to_dict(self) -> dict[str, Any]:
        """An entry of `slices` in `predict --json`."""
        return {
            "index": self.index,
            "position_mm": self.position_mm,
            "lung": self.lung,
            "probability": None if self.probability is None else round_probability(self.probability),
        }


@dataclass(frozen=True)
class ScanAnswer:
    """What an answer to a whole CT scan holds beside that to one slice.

    slices: all of them, feet first. slice: the index that the CT heatmap shows. window: level and width that the
    slices were read with; None where they are not in HU. threshold: probability from which a slice is called positive
    by itself. left_out: why files are no part of the scan -> how many.
    """

    slices: tuple[SliceAnswer, ...]
    slice: int
    window: WindowSettings | None
    threshold: float = 0.5
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def lung_slices(self) -> int:
        """Slices that show lung and were read."""
        return sum(one.lung for one in self.slices)

    @property
    def positive_slices(self) -> int:
        """Lung slices that are called positive."""
        return sum(one.positive for one in self.slices)

    @property
    def extent(self) -> float | None:
        """The share of lung slices called positive, 0..1. It is no score of severity; None without lung slices."""
        return self.positive_slices / self.lung_slices if self.lung_slices else None

    def summarise(self) -> dict[str, Any]:
        """What a table of many studies says of a scan: the columns of `batch`, and `scan` of the API's batch.

        ct_most_suspicious_slice: counted from one, at the feet. ct_positive_share: the extent, 0..1. ct_window: in HU.
        """
        window = self.window
        return {
            "ct_slices": len(self.slices),
            "ct_lung_slices": self.lung_slices,
            "ct_most_suspicious_slice": self.slice + 1 if self.lung_slices else None,
            "ct_positive_share": None if self.extent is None else round_share(self.extent),
            "ct_window": None if window is None else f"level {window.level:g}, width {window.width:g}",
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields that `predict --json` has of a scan only."""
        window = self.window
        return {
            "slices": [one.to_dict() for one in self.slices],
            "slice": self.slice,
            "window": None if window is None else {"level": window.level, "width": window.width},
            "extent": {
                "share": self.extent,
                "positive_slices": self.positive_slices,
                "lung_slices": self.lung_slices,
                "meaning": EXTENT_MEANING,
            },
        }


@dataclass(frozen=True)
class CheckpointInfo:
    """The part of meta.json that travels with each answer.

    sha256: of the weights file. trained_on: one line. trained_at: ISO 8601 date, UTC.
    decision_threshold: probability of covid19_pneumonia from which the label is positive, in an
    answer that of the head that gave it.
    validation_studies: head -> on how many studies its probabilities were calibrated.
    heatmap_methods: names of those that this network has, in the order in which they are offered.
    """

    name: str
    sha256: str
    pair: str
    trained_on: str
    trained_at: str
    decision_threshold: float
    validation_studies: dict[str, int] = field(default_factory=dict)
    heatmap_methods: tuple[str, ...] = list_methods("average")


@dataclass(frozen=True)
class Prediction:
    """The answer to one study.

    label: `normal`, `covid19_pneumonia`, or `undetermined`; inside the abstain zone, and where the branches
    disagree, that comes with probabilities and heatmaps, for every other reason probabilities is empty.
    heatmaps: modality -> float32 (height, width) in 0..1, in the frame of the whole image as given
    (aspect kept, long side at most 512), zero outside what the network saw.
    heatmap_class: the class whose evidence the heatmaps show; heatmap_method, heatmap_layer: how.
    heatmap_scale: `fixed` where 1 is the checkpoint's fixed scale, `relative` where it is each map's
    own highest value, so that two maps cannot be compared.
    heatmap_grids: modality -> rows and columns of the layer's own cells, between which its heatmap is interpolated.
    images: modality -> uint8 (height, width, 3), the whole image in the same frame.
    timing_ms: `decode`, `network`, `total`, in milliseconds.
    lungs: modality -> the box (x0, y0, x1, y1 as fractions of the image) that the network read; None
    where it read the whole image or no lungs were found.
    outlines: modality -> closed polygons float32 (n, 2) of x, y fractions of the image, one per lung.
    evidence: left-out figures of the head that answered; None where the checkpoint has none.
    heat_location: modality -> how well the heatmaps point; only modalities that were measured.
    abstain_zone: of the head that answered, lowest and highest probability of covid19_pneumonia
    inside which the label is undetermined; None without a zone.
    positives: modality -> the positive images that it learned from, where these were not of COVID-19 alone.
    supported_probability: the highest probability that left-out predictions support; what is
    above is shown as this ("over 97 %").
    scan: of a whole CT scan, its slices; None where the CT is one slice, or there is none.
    """

    label: str
    probabilities: dict[str, float]
    branches: dict[str, BranchAnswer]
    modalities: tuple[str, ...]
    heatmaps: dict[str, NDArray[np.float32]]
    heatmap_class: str
    images: dict[str, NDArray[np.uint8]]
    warnings: tuple[Notice, ...]
    checkpoint: CheckpointInfo
    timing_ms: dict[str, float] = field(default_factory=dict)
    lungs: dict[str, Box | None] = field(default_factory=dict)
    outlines: dict[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    evidence: Evidence | None = None
    heat_location: dict[str, HeatLocation] = field(default_factory=dict)
    heatmap_method: str = "grad_cam"
    heatmap_layer: str = "coarse"
    heatmap_scale: Literal["fixed", "relative"] = "fixed"
    heatmap_grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    abstain_zone: tuple[float, float] | None = None
    positives: Mapping[str, tuple[PositiveSource, ...]] = field(default_factory=dict)
    supported_probability: float = 1.0
    scan: ScanAnswer | None = None

    @property
    def slices(self) -> tuple[SliceAnswer, ...]:
        """The slices of a whole CT scan; empty for one slice."""
        return () if self.scan is None else self.scan.slices

    @property
    def slice(self) -> int | None:
        """The slice of a scan that the CT heatmap shows; None for one slice."""
        return None if self.scan is None else self.scan.slice

    @property
    def reason(self) -> str | None:
        """The code of the warning that says why the label is undetermined; None for other labels."""
        if self.label != UNDETERMINED:
            return None
        if self.probabilities:
            return DISAGREE if self.has_warning(DISAGREE) else ABSTAINED
        return next((w.code for w in self.warnings), None)

    def find_heat_cells(self, modality: str) -> HeatCells | None:
        """A heatmap as its layer's cells; None without a heatmap, or where the cells are not known."""
        heatmap, grid = self.heatmaps.get(modality), self.heatmap_grids.get(modality)
        return (
            None if heatmap is None or grid is None else find_cells(heatmap, grid, self.lungs.get(modality))
        )

    def draw_heatmap(self, modality: str, height: int, width: int) -> NDArray[np.float32]:
        """A heatmap for people, float32 (height, width), 0..1: its cells, smooth where those are not known."""
        cells = self.find_heat_cells(modality)
        return (
            resize_heatmap(self.heatmaps[modality], height, width)
            if cells is None
            else cells.draw(height, width)
        )

    @property
    def label_meanings(self) -> dict[str, str]:
        """Modality -> what its positive label means, where that is more than COVID-19."""
        return {m: describe_positives(sources, MODALITIES[m].title) for m, sources in self.positives.items()}

    def has_warning(self, code: str) -> bool:
        """Whether a warning of this code is among them."""
        return any(notice.code == code for notice in self.warnings)

    def to_dict(self, heatmap_files: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON object of `predict --json`; heatmaps are named by file, null where not written."""
        files = heatmap_files or {}
        return {
            "label": self.label,
            "probabilities": round_probabilities(self.probabilities, self.supported_probability),
            "supported_probability": self.supported_probability,
            "branches": {
                modality: {
                    "label": answer.label,
                    "probabilities": round_probabilities(answer.probabilities, answer.supported_probability),
                }
                for modality, answer in self.branches.items()
            },
            "modalities": list(self.modalities),
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "heatmaps": {modality: files.get(modality) for modality in self.heatmaps},
            "lungs": {m: None if (box := self.lungs.get(m)) is None else list(box) for m in self.modalities},
            "label_meanings": self.label_meanings,
            "evidence": None if self.evidence is None else self.evidence.to_dict(),
            "checkpoint": {
                "name": self.checkpoint.name,
                "sha256": self.checkpoint.sha256,
                "pair": self.checkpoint.pair,
                "trained_on": self.checkpoint.trained_on,
                "decision_threshold": self.checkpoint.decision_threshold,
            },
            "timing_ms": self.timing_ms,
        } | ({} if self.scan is None else self.scan.to_dict())


@dataclass(frozen=True)
class Explanation:
    """The heatmaps of one study.

    method, layer: as `Predictor.explain` takes them. title: the method's name for people.
    heatmap_class: whose evidence. scale: `fixed` where 1 is the checkpoint's fixed scale,
    `relative` where it is each map's own highest value, so that two maps cannot be compared.
    heatmaps: modality -> float32 (height, width), 0..1, in the frame of the whole image as the
    prediction's; all zero without positive evidence.
    """

    method: str
    title: str
    layer: str
    heatmap_class: str
    scale: Literal["fixed", "relative"]
    heatmaps: Mapping[Any, NDArray[np.float32]]
