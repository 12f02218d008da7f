"""What one study's analysis gives: plain values, no network in sight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Notice:
    """Something the reader must know beside the answer.

    code: stable, for programs (`branches_disagree`, `single_modality`, `no_positive_evidence_ct`).
    message: one sentence, for people.
    """

    code: str
    message: str


@dataclass(frozen=True)
class BranchAnswer:
    """What one modality alone says. probabilities: class name -> 0..1, calibrated, sum 1."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class CheckpointInfo:
    """The part of meta.json that travels with each answer.

    sha256: of the weights file. trained_on: one line. trained_at: ISO 8601 date, UTC.
    decision_threshold: probability of covid19_pneumonia from which the label is positive.
    validation_studies: head -> on how many studies its probabilities were calibrated.
    """

    name: str
    sha256: str
    pair: str
    trained_on: str
    trained_at: str
    decision_threshold: float
    validation_studies: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The answer to one study.

    label: `normal`, `covid19_pneumonia`, or `undetermined` (then probabilities is empty).
    heatmaps: modality -> float32 (150, 150) in 0..1 on the checkpoint's fixed scale.
    heatmap_class: the class whose evidence the heatmaps show.
    images: modality -> uint8 (150, 150, 3), what the network was given, to lay a heatmap over.
    timing_ms: `decode`, `network`, `total`, in milliseconds.
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

    def has_warning(self, code: str) -> bool:
        """Whether a notice of this code is among the warnings."""
        return any(notice.code == code for notice in self.warnings)

    def to_dict(self, heatmap_files: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON object of `predict --json`; heatmaps are named by file, null where not written."""
        files = heatmap_files or {}
        return {
            "label": self.label,
            "probabilities": self.probabilities,
            "branches": {
                modality: {"probabilities": answer.probabilities}
                for modality, answer in self.branches.items()
            },
            "modalities": list(self.modalities),
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "heatmaps": {modality: files.get(modality) for modality in self.heatmaps},
            "checkpoint": {
                "name": self.checkpoint.name,
                "sha256": self.checkpoint.sha256,
                "pair": self.checkpoint.pair,
                "trained_on": self.checkpoint.trained_on,
                "decision_threshold": self.checkpoint.decision_threshold,
            },
            "timing_ms": self.timing_ms,
        }
