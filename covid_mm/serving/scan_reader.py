"""The network on every slice of a CT scan that shows lung, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.errors import Cancelled, CheckpointError
from covid_mm.imaging import CtScan, WindowSettings
from covid_mm.models.content_classifier import ContentClassifier
from covid_mm.models.heads import find_margins
from covid_mm.serving.content_check import check_contents
from covid_mm.serving.network_functions import NetworkFunctions
from covid_mm.serving.prediction import Notice
from covid_mm.serving.reading import LungFinder, Study, prepare_studies
from covid_mm.serving.scan_files import SCANNED
from covid_mm.serving.scan_rule import ScanRule
from covid_mm.serving.warnings import warn

BATCH = 16  # slices per forward pass
LEAST_SHARE = 0.25  # of the slices with lungs that must pass the content check: belly and head have air too

Progress = Callable[[float], None]


@dataclass(frozen=True)
class ScanReading:
    """What the network says of a scan's slices.

    rows: numbers of the slices that show lung and were read. margins: (rows,) float64, logit of positive minus that
    of normal. features: (rows, channels), pooled. slices: how many the scan has. refusal: why there is no answer.
    """

    rows: NDArray[np.int64]
    margins: NDArray[np.float64]
    features: NDArray[np.float32]
    slices: int
    refusal: tuple[Notice, ...] = ()

    @property
    def most_suspicious(self) -> int:
        """The number of the slice with the highest margin; the middle one where none was read."""
        return int(self.rows[np.argmax(self.margins)]) if len(self.rows) else self.slices // 2


class ScanReader:
    """Reads scans with one network; safe to call from any thread."""

    def __init__(
        self, functions: NetworkFunctions, classifier: ContentClassifier | None, finder: LungFinder | None
    ) -> None:
        """Take the network's functions. classifier: of image content. finder: of the lungs."""
        self._functions = functions
        self._classifier = classifier
        self._finder = finder

    def read(
        self,
        scan: CtScan,
        window: WindowSettings | str | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ScanReading:
        """Find the lungs on every slice, check what it shows, and read those that are chest slices.

        progress: gets shares 0..1. cancelled: is asked before each batch.

        Raises:
            Cancelled: it said so. CheckpointError: the network gives no number.
        """
        rows: list[int] = []
        margins: list[NDArray[np.float64]] = []
        features: list[NDArray[np.float32]] = []
        refusals: dict[str, list[Notice]] = {}
        for start in range(0, len(scan), BATCH):
            if cancelled is not None and cancelled():
                raise Cancelled("Reading the scan was cancelled.")
            numbers = range(start, min(start + BATCH, len(scan)))
            studies = prepare_studies(
                [{SCANNED: scan.render(number, window)} for number in numbers],
                self._functions.config.image_size,
                self._finder,
            )
            lungs = [
                (number, s) for number, s in zip(numbers, studies, strict=True) if not s[SCANNED].lacks_lungs
            ]
            checked, refused = self._check(lungs)
            for notice in refused:
                refusals.setdefault(notice.code, []).append(notice)
            if checked:
                logits, pooled = self._run([study for _, study in checked])
                rows += [number for number, _ in checked]
                margins.append(logits)
                features.append(pooled)
            if progress is not None:
                progress((numbers[-1] + 1) / len(scan))
        refusal: tuple[Notice, ...] = ()
        if len(rows) < LEAST_SHARE * (len(rows) + sum(map(len, refusals.values()))):
            refusal = (max(refusals.values(), key=len)[0],)
        elif not rows:
            refusal = (warn("lungs_not_found", SCANNED),)
        return ScanReading(
            np.array(rows, np.int64),
            np.concatenate([np.zeros(0), *margins]),
            np.concatenate(features) if features else np.zeros((0, 0), np.float32),
            len(scan),
            refusal,
        )

    def fuse(
        self, reading: ScanReading, rule: ScanRule, images: Mapping[Modality, NDArray[np.float32]]
    ) -> float:
        """The margin of the concatenated head on the scan's pooled features and the other images' own.

        The features are the mean over the most suspicious share of slices. images: modality -> float32
        (side, side), what the network reads of all other modalities.
        """
        chosen = rule.choose_slices(reading.margins)
        pooled = {SCANNED: reading.features[chosen].mean(axis=0, keepdims=True)}
        for modality, pixels in images.items():
            pooled[modality] = self._functions.read_slices(modality, pixels[None])[1]
        logits = self._functions.fuse([pooled[m] for m in self._functions.config.modalities])
        return float(find_margins(self._finite(logits))[0])

    def _check(self, slices: list[tuple[int, Study]]) -> tuple[list[tuple[int, Study]], list[Notice]]:
        """The slices that show the chest, and what the others show instead."""
        if self._classifier is None or not slices:
            return slices, []
        whole = np.stack([study[SCANNED].whole for _, study in slices])
        contents = self._classifier.check(SCANNED, self._functions.contents(whole))
        checked, refused = [], []
        for one, content in zip(slices, contents, strict=True):
            if reasons := check_contents({SCANNED: content}):
                refused.append(reasons[0])
            else:
                checked.append(one)
        return checked, refused

    def _run(self, studies: list[Study]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        logits, features = self._functions.read_slices(
            SCANNED, np.stack([study[SCANNED].pixels for study in studies])
        )
        return find_margins(self._finite(logits).astype(np.float64)), features

    def _finite(self, logits: NDArray[Any]) -> NDArray[Any]:
        if not np.isfinite(logits).all():
            raise CheckpointError(
                "The network's output for a scan is not a number; it cannot be used: put back the published weights,"
                " or train again."
            )
        return logits
