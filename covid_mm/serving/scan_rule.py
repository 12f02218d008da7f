"""How the slices of a CT scan become one answer: the mean over the most suspicious share of them, calibrated.

`evaluation.scans` chooses the share and fits the calibration on collections that the networks never saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.serving.prediction import Evidence

DEFAULT_SHARE = 0.2  # of a checkpoint that says nothing of scans


@dataclass(frozen=True)
class ScanHead:
    """One head's answer to a scan: its calibration, as a slice's in `Metadata`.

    probability = sigmoid((pooled margin - offset) / temperature).
    """

    temperature: float
    offset: float
    threshold: float
    abstain_zone: tuple[float, float] | None
    supported_probability: float
    evidence: Evidence | None = None


@dataclass(frozen=True)
class ScanRule:
    """share: of the lung slices, 0..1, whose mean is the scan's. heads: by name; empty in a checkpoint without a
    calibration of scans: a slice's is used then, and the answer says so."""

    share: float = DEFAULT_SHARE
    heads: Mapping[str, ScanHead] = field(default_factory=dict)

    @property
    def is_calibrated(self) -> bool:
        """Whether scans have a calibration of their own."""
        return bool(self.heads)

    def choose_slices(self, margins: ArrayLike) -> NDArray[np.int64]:
        """Positions of the most suspicious share of lung slices, at least one, the highest margin first."""
        values = np.asarray(margins, np.float64)
        count = max(1, math.ceil(self.share * values.size - 1e-9))
        return np.argsort(-values, kind="stable")[:count].astype(np.int64)

    def pool(self, margins: ArrayLike) -> float:
        """A scan's margin from those of its lung slices, at least one."""
        values = np.asarray(margins, np.float64)
        return float(values[self.choose_slices(values)].mean())


def apply_scan_fields(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """A checkpoint's meta.json with the figures of scans in place of a slice's, for who shows an answer to a scan."""
    try:
        heads = meta["scan"]["heads"]
        fields = (
            ("decision_threshold", "threshold"),
            ("abstain_zone", "abstain_zone"),
            ("supported_probability", "supported_probability"),
            ("evidence", "evidence"),
        )
        return {
            **meta,
            **{
                field: {**meta.get(field, {}), **{head: part[name] for head, part in heads.items()}}
                for field, name in fields
            },
        }
    except (
        KeyError,
        TypeError,
        AttributeError,
    ):  # none there: what is shown is a slice's, and the answer says so
        return meta
