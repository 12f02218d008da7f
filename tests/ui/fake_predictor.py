"""A predictor without a network, for the tests of the page: its answers depend on the images only."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covid_mm.config import CLASSES
from covid_mm.errors import Cancelled, UsageError
from covid_mm.imaging import read_header, read_image
from covid_mm.serving.explanation import Explanation
from covid_mm.serving.header import contradicting_slots, describe_contradictions
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Notice, Prediction

INFO = CheckpointInfo(
    name="fake-for-tests",
    sha256="0123456789abcdef" * 4,
    pair="densenet121-mobilenet",
    trained_on="nothing: a stand-in for the tests",
    trained_at="2026-01-02",
    decision_threshold=0.5,
    validation_studies={"fused": 744, "ct": 744, "xray": 750},
)
GRID = [step / 100 for step in range(1, 100)]
META = {
    "decision_threshold": {"fused": 0.5, "ct": 0.5, "xray": 0.5},
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
METHODS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "score_cam": "Faster Score-CAM",
    "layer_cam": "Layer-CAM",
}
SECRET = "/planted/secret/path"


class FakePredictor:
    """Bright images are positive, dark ones normal; the map is where the image is brightest.

    An image that is all one grey above 250 raises an unexpected error with a planted path; one all
    black has no positive evidence.
    """

    info = INFO
    meta = META

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        threading.Event().wait(self.delay)

    def explain(
        self,
        ct: bytes | None = None,
        xray: bytes | None = None,
        *,
        method: str,
        layer: str,
        progress: Any = None,
        cancelled: Any = None,
        **options: Any,
    ) -> Explanation:
        """The map turned over for another method; `score_cam` takes a while."""
        answer = self.predict(ct, xray, **options)
        for step in range(20 if method == "score_cam" else 1):
            if cancelled is not None and cancelled():
                raise Cancelled("The heatmap was cancelled.")
            if progress is not None:
                progress(step / 20)
            threading.Event().wait(0.15 if method == "score_cam" else 0.0)
        maps = {name: np.flip(heatmap, axis=0) for name, heatmap in answer.heatmaps.items()}
        return Explanation(method, METHODS[method], layer, answer.heatmap_class, "relative", maps)

    def predict(
        self,
        ct: bytes | None = None,
        xray: bytes | None = None,
        *,
        windows: Any = None,
        frames: Any = None,
        heatmap_class: str | None = None,
    ) -> Prediction:
        with self._lock:
            self.calls += 1
        sources = {name: data for name, data in (("ct", ct), ("xray", xray)) if data is not None}
        given = {
            name: read_image(data, window=(windows or {}).get(name), frame=(frames or {}).get(name))
            for name, data in sources.items()
        }
        wrong = contradicting_slots({name: read_header(data) for name, data in sources.items()})
        if wrong:
            return Prediction(
                label="undetermined",
                probabilities={},
                branches={name: BranchAnswer("undetermined", {}) for name in given},
                modalities=tuple(given),
                heatmaps={},
                heatmap_class=CLASSES[1],
                images={name: image.astype(np.uint8) for name, image in given.items()},
                warnings=describe_contradictions(wrong),
                checkpoint=INFO,
                timing_ms={"total": 1.0},
            )
        if not given:
            raise UsageError("A study needs a CT slice, an X-ray, or both.")
        if any(float(image.min()) > 250 for image in given.values()):
            raise OSError(f"cannot open {SECRET}")
        values = {name: float(np.clip(image.mean() / 255.0, 0.001, 0.999)) for name, image in given.items()}
        fused = float(np.mean(list(values.values())))
        warnings = []
        if len(given) == 1:
            title = "CT" if "ct" in given else "X-ray"
            warnings.append(Notice("single_modality", f"Answered from the {title} alone."))
        elif (values["ct"] >= 0.5) != (values["xray"] >= 0.5):
            warnings.append(
                Notice("branches_disagree", "CT alone and X-ray alone give different answers; read both.")
            )
        heatmaps = {}
        for name, image in given.items():
            grey = cv2.GaussianBlur(image[..., 0], (0, 0), 12)
            span = float(grey.max() - grey.min())
            heat = (grey - grey.min()) / span if span > 0 else np.zeros_like(grey)
            if heatmap_class == CLASSES[0]:
                heat = 1.0 - heat
            heatmaps[name] = np.clip(heat**2 * values[name] * 1.5, 0, 1).astype(np.float32)
            if not heatmaps[name].any():
                warnings.append(
                    Notice(f"no_positive_evidence_{name}", "The network found nothing for it in one image.")
                )
        return Prediction(
            label=_label(fused),
            probabilities=_both(fused),
            branches={name: BranchAnswer(_label(value), _both(value)) for name, value in values.items()},
            modalities=tuple(given),
            heatmaps=heatmaps,
            heatmap_class=heatmap_class or CLASSES[1],
            images={name: image.astype(np.uint8) for name, image in given.items()},
            warnings=tuple(warnings),
            checkpoint=INFO,
            timing_ms={"decode": 1.0, "network": 2.0, "total": 3.0},
        )


def _label(value: float) -> str:
    return CLASSES[int(value >= INFO.decision_threshold)]


def _both(value: float) -> dict[str, float]:
    return {CLASSES[0]: 1.0 - value, CLASSES[1]: value}


def main() -> int:
    """Serve the page with this predictor: `python tests/ui/fake_predictor.py PORT TEMPORARY [DELAY]`."""
    import sys

    from covid_mm.ui.server import serve
    from covid_mm.ui.settings import ServerSettings

    port, temporary, *rest = sys.argv[1:]
    delay = float(rest[0]) if rest else 0.0
    return serve(
        ServerSettings(port=int(port), temporary=Path(temporary)),
        {"fake-for-tests": lambda: FakePredictor(delay)},
    )


if __name__ == "__main__":
    raise SystemExit(main())
