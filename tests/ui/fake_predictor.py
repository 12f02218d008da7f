"""A predictor without a network, for the tests of the page: its answers depend on the images only."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covid_mm.config import CLASS_TITLES, CLASSES
from covid_mm.errors import Cancelled, UsageError
from covid_mm.explain.method_table import METHODS
from covid_mm.formats import format_percent
from covid_mm.imaging import CtScan, DecodedImage, read_grey, read_header
from covid_mm.serving.answers import describe_disagreement
from covid_mm.serving.content_check import contradicting_slots, describe_contradictions
from covid_mm.serving.prediction import (
    BranchAnswer,
    CheckpointInfo,
    Evidence,
    HeatLocation,
    Notice,
    Prediction,
    ScanAnswer,
    SliceAnswer,
)
from covid_mm.serving.warnings import warn

INFO = CheckpointInfo(
    name="fake-for-tests",
    sha256="0123456789abcdef" * 4,
    pair="densenet121-mobilenet",
    trained_on="nothing: a stand-in for the tests",
    trained_at="2026-01-02",
    decision_threshold=0.5,
    validation_studies={"fused": 744, "ct": 744, "xray": 750},
    heatmap_methods=tuple(METHODS),
)
GRID = [step / 100 for step in range(1, 100)]
THRESHOLD = 0.5
ZONE = {"fused": (0.48, 0.51), "ct": (0.47, 0.51), "xray": (0.47, 0.51)}
SUPPORTED = {"fused": 0.97, "ct": 0.95, "xray": 0.96}
EVIDENCE = {
    "fused": Evidence(0.934, 0.911, 0.952, 0.871, 0.843, ("east hospital", "west hospital"), 1204, 0.031),
    "ct": Evidence(0.887, 0.85, 0.918, 0.812, 0.806, ("east hospital",), 512, 0.042),
    "xray": Evidence(0.921, 0.902, 0.938, 0.854, 0.829, ("scanner A", "scanner B"), 692, 0.027),
}
LOCATION = {
    "ct": HeatLocation("lesion masks", 0.51, 0.06, 98, "grad_cam", "coarse"),
    "xray": HeatLocation("opacity boxes", 0.72, 0.21, 216, "grad_cam", "coarse"),
}


def estimate(value: float, **counts: int) -> dict[str, float]:
    """A measured value as meta.json keeps it."""
    return {"value": value, "low": value - 0.03, "high": value + 0.02, "confidence": 0.95, **counts}


def left_out_row(collection: str, normal: int, positive: int) -> dict[str, Any]:
    """A row of the left-out table, as far as the card reads it; one class where the other has no image."""
    both = bool(normal and positive)
    return {
        "collection": collection,
        "normal": normal,
        "positive": positive,
        "auc": estimate(0.9) if both else None,
        "sensitivity": estimate(0.86) if positive else None,
        "specificity": estimate(0.83) if normal else None,
        "ece": 0.031 if both else None,
        "over_99": estimate(0.03) if normal else None,
        "coverage": estimate(0.91),
        "is_own_calibration": False,
    }


LEFT_OUT_POINTS = {
    "thresholds": GRID,
    "true_positive": [round(600 - 90 * value) for value in GRID],
    "false_positive": [round(300 * (1 - value)) for value in GRID],
    "positive": 602,
    "negative": 602,
}
META = {
    "network": {"branches": [["ct", "densenet121"], ["xray", "mobilenet"]]},
    "decision_threshold": dict.fromkeys(("fused", "ct", "xray"), THRESHOLD),
    "abstain_zone": {head: list(zone) for head, zone in ZONE.items()},
    "supported_probability": SUPPORTED,
    "evidence": {head: dataclasses.asdict(one) for head, one in EVIDENCE.items()},
    "heat_location": {modality: dataclasses.asdict(one) for modality, one in LOCATION.items()},
    "left_out": {
        "heads": [
            {
                "head": head,
                "auc": estimate(EVIDENCE[head].auc),
                "evidence": dataclasses.asdict(EVIDENCE[head]),
                "rows": [left_out_row("first", 40, 60), left_out_row("second", 70, 0)],
                "operating_points": LEFT_OUT_POINTS if head == "fused" else None,
            }
            for head in ("fused", "ct", "xray")
        ],
        "heatmaps": [
            {
                "method": method,
                "layer": layer,
                "collection": "first",
                "images": 98,
                "hit": 0.51,
                "hit_low": 0.41,
                "hit_high": 0.61,
                "chance": 0.06,
                "heat_share": 0.22,
                "in_lungs_hit": None if layer == "fine" else 0.97,
                "in_lungs_share": None,
            }
            for method, layer in (("grad_cam", "coarse"), ("hires_cam", "fine"))
        ],
    },
    "operating_points": {
        head: {
            "thresholds": GRID,
            "true_positive": [round(389 - 3 * value) for value in GRID],
            "false_positive": [round(40 * (1 - value)) for value in GRID],
            "positive": 389,
            "negative": 355,
        }
        for head in ("fused", "ct", "xray")
    },
    "metrics": {
        "validation": {
            "fused": {
                "threshold": 0.5,
                "auc": None,
                "counts": {
                    "true_positive": 388,
                    "true_negative": 335,
                    "false_positive": 20,
                    "false_negative": 1,
                },
                "calibration_error": 0.01,
                "brier": 0.02,
                "sensitivity": {
                    "successes": 388,
                    "total": 389,
                    "value": 0.9974,
                    "low": 0.9856,
                    "high": 0.9995,
                },
                "specificity": {
                    "successes": 335,
                    "total": 355,
                    "value": 0.9437,
                    "low": 0.9146,
                    "high": 0.9632,
                },
                "accuracy": {"successes": 723, "total": 744, "value": 0.9718, "low": 0.9572, "high": 0.9815},
            }
        }
    },
}
SECRET = "/planted/secret/path"
OWN = ("grad_cam", "coarse")  # the method and layer of its heatmaps
LUNGS = (0.1, 0.12, 0.9, 0.88)  # the box that was read


class FakePredictor:
    """Bright images are positive, dark ones normal; the map is where the image is brightest.

    An image that is all one grey above 250 raises an unexpected error with a planted path; one all
    black has no positive evidence; on one that is nearly black no lungs are found.
    """

    info = INFO
    meta = META
    scan_delay = 0.1  # seconds for each slice of a scan

    def __init__(self, hold: Path | None = None) -> None:
        """hold: a file that may hold seconds; while it is there, loading and each answer take that long."""
        self.hold = hold
        self.calls = 0
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        self._wait()

    def _wait(self) -> None:
        """As long as the file says, or until it is gone."""
        start = time.monotonic()
        while self.hold:
            try:
                seconds = float(self.hold.read_text() or 0)
            except FileNotFoundError:
                return
            if time.monotonic() - start >= seconds:
                return
            time.sleep(0.02)

    def predict_images(self, files: Mapping[str, Any], **options: Any) -> Prediction:
        return self.predict(**files, **options)

    def predict(
        self,
        ct: bytes | None = None,
        xray: bytes | None = None,
        *,
        windows: Any = None,
        frames: Any = None,
        heatmap_class: str | None = None,
        method: str | None = None,
        layer: str | None = None,
        progress: Any = None,
        cancelled: Any = None,
    ) -> Prediction:
        """The map turned over for another method or layer; `score_cam` takes a while, as does a scan."""
        if isinstance(ct, CtScan):
            return self._predict_scan(
                ct, xray, windows, frames, progress, cancelled, heatmap_class, method, layer
            )
        with self._lock:
            self.calls += 1
        self._wait()
        sources = {name: data for name, data in (("ct", ct), ("xray", xray)) if data is not None}
        given = {
            name: _shrink(read_grey(data, window=(windows or {}).get(name), frame=(frames or {}).get(name)))
            for name, data in sources.items()
        }
        wrong = contradicting_slots({name: read_header(data) for name, data in sources.items()})
        if wrong:
            return _refuse(given, describe_contradictions(wrong))
        if not given:
            raise UsageError("A study needs a CT slice, an X-ray, or both.")
        if any(float(image.min()) > 250 for image in given.values()):
            raise OSError(f"cannot open {SECRET}")
        if lost := [name for name, image in given.items() if 0 < float(image.max()) < 4]:
            return _refuse(given, tuple(warn("lungs_not_found", name) for name in lost))
        head = "fused" if len(given) > 1 else next(iter(given))
        values = {name: _clip(float(image.mean() / 255.0), name) for name, image in given.items()}
        fused = _clip(float(np.mean(list(values.values()))), head)
        label = _label(fused, head)
        branches = {
            name: BranchAnswer(_label(value, name), _both(value), SUPPORTED[name])
            for name, value in values.items()
        }
        labels = {branch.label for branch in branches.values()} - {"undetermined"}
        warnings = []
        apart = len(labels) > 1
        if label == "undetermined" and not apart:
            zone = (format_percent(bound) for bound in ZONE[head])
            warnings.append(warn("in_abstain_zone", **dict(zip(("low", "high"), zone, strict=True))))
        if len(given) == 1:
            warnings.append(warn("single_modality", next(iter(given))))
        elif apart:
            label = "undetermined"
            warnings.append(describe_disagreement({name: branch.label for name, branch in branches.items()}))
        heatmaps = {}
        for name, image in given.items():
            heatmaps[name] = _draw_map(image, values[name], heatmap_class)
            if not heatmaps[name].any():
                target = CLASS_TITLES[heatmap_class or CLASSES[1]]
                warnings.append(warn("no_positive_evidence", name, target=target))
        kind = (method or OWN[0], layer or OWN[1])
        if kind != OWN:
            heatmaps = {name: np.flip(heatmap, axis=0) for name, heatmap in heatmaps.items()}
        if kind[0] == "score_cam":
            _work_slowly(progress, cancelled)
        return Prediction(
            label=label,
            probabilities=_both(fused),
            branches=branches,
            modalities=tuple(given),
            heatmaps=heatmaps,
            heatmap_class=heatmap_class or CLASSES[1],
            images={name: _to_pixels(image) for name, image in given.items()},
            warnings=tuple(warnings),
            checkpoint=INFO,
            timing_ms={"decode": 1.0, "network": 2.0, "total": 3.0},
            lungs=dict.fromkeys(given, LUNGS),
            outlines={name: (_ellipse(0.32), _ellipse(0.68)) for name in given},
            evidence=EVIDENCE[head],
            heat_location={name: LOCATION[name] for name in given},
            heatmap_method=kind[0],
            heatmap_layer=kind[1],
            heatmap_scale="fixed" if kind == OWN else "relative",
            heatmap_grids=dict.fromkeys(given, (9, 9) if kind[1] == "coarse" else (18, 18)),
            abstain_zone=ZONE[head],
            supported_probability=SUPPORTED[head],
        )

    def _predict_scan(
        self,
        scan: CtScan,
        xray: Any,
        windows: Any,
        frames: Any,
        progress: Any,
        cancelled: Any,
        *choice: str | None,
    ) -> Prediction:
        """The scan's brightest slice, or the one that is asked for alone; those nearly black show no lung."""
        window, options = (
            (windows or {}).get("ct"),
            dict(zip(("heatmap_class", "method", "layer"), choice, strict=True)),
        )
        if frames:
            image = DecodedImage(scan.render(frames["ct"], window), scan.header)
            return self.predict(image, xray, progress=progress, cancelled=cancelled, **options)
        slices = []
        for index, position in enumerate(scan.positions):
            if cancelled is not None and cancelled():
                raise Cancelled("Reading the scan was cancelled.")
            grey = scan.render(index, window)
            value = _clip(float(grey.mean() / 255), "ct") if grey.max() >= 4 else None
            positive = value is not None and value >= THRESHOLD
            slices.append(SliceAnswer(index, position, value is not None, value, positive))
            threading.Event().wait(self.scan_delay)
            if progress is not None:
                progress((index + 1) / len(scan))
        shown = max(slices, key=lambda one: one.probability or 0.0).index
        answer = self.predict(DecodedImage(scan.render(shown, window), scan.header), xray, **options)
        return dataclasses.replace(answer, scan=ScanAnswer(tuple(slices), shown, scan.find_window(window)))


def _work_slowly(progress: Any, cancelled: Any) -> None:
    for step in range(20):
        if cancelled is not None and cancelled():
            raise Cancelled("The heatmap was cancelled.")
        if progress is not None:
            progress(step / 20)
        threading.Event().wait(0.15)


def _shrink(grey: np.ndarray) -> np.ndarray:
    """The whole image, its longer side at most 512, as the real predictor frames its maps."""
    scale = min(1.0, 512 / max(grey.shape))
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


def _to_pixels(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=-1)


def _ellipse(middle: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    points = np.column_stack([middle + 0.14 * np.cos(turn), 0.5 + 0.33 * np.sin(turn)])
    return points.astype(np.float32)


def _draw_map(grey: np.ndarray, value: float, heatmap_class: str | None) -> np.ndarray:
    """The brightest place of what was read; nothing outside the box."""
    blurred = cv2.GaussianBlur(grey, (0, 0), max(grey.shape) / 12)
    x0, y0, x1, y1 = LUNGS
    height, width = grey.shape
    inside = np.zeros(grey.shape, bool)
    inside[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    span = float(blurred.max() - blurred.min())
    heat = (blurred - blurred.min()) / span if span > 0 else np.zeros_like(blurred)
    if heatmap_class == CLASSES[0]:
        heat = 1.0 - heat
    return np.where(inside, np.clip(heat**2 * value * 1.5, 0, 1), 0).astype(np.float32)


def _refuse(given: dict[str, np.ndarray], warnings: tuple[Notice, ...]) -> Prediction:
    return Prediction(
        label="undetermined",
        probabilities={},
        branches={name: BranchAnswer("undetermined", {}) for name in given},
        modalities=tuple(given),
        heatmaps={},
        heatmap_class=CLASSES[1],
        images={name: _to_pixels(image) for name, image in given.items()},
        warnings=warnings,
        checkpoint=INFO,
        timing_ms={"total": 1.0},
        lungs=dict.fromkeys(given),
    )


def _clip(value: float, head: str) -> float:
    return float(np.clip(value, 1 - SUPPORTED[head], SUPPORTED[head]))


def _label(value: float, head: str) -> str:
    low, high = ZONE[head]
    return "undetermined" if low <= value <= high else CLASSES[int(value >= THRESHOLD)]


def _both(value: float) -> dict[str, float]:
    return {CLASSES[0]: 1.0 - value, CLASSES[1]: value}


def main() -> int:
    """Serve the page with this predictor: `python tests/ui/fake_predictor.py PORT TEMPORARY`."""
    import faulthandler
    import signal
    import sys

    from live_server import HOLD

    from covid_mm.ui.server.launch import serve
    from covid_mm.ui.server.settings import ServerSettings

    faulthandler.register(signal.SIGUSR1)  # a server that does not end says in its log where it stands
    port, temporary = sys.argv[1:]
    return serve(
        ServerSettings(port=int(port), temporary=Path(temporary)),
        {"fake-for-tests": lambda: FakePredictor(Path(temporary) / HOLD)},
        {"fake-for-tests": META},
    )


if __name__ == "__main__":
    from covid_mm.ui.app import leave

    leave(main())  # as the real page does
