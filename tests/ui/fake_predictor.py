"""A predictor without a network, for the tests of the page: its answers depend on the images only."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covid_mm.config import CLASSES
from covid_mm.errors import UsageError
from covid_mm.imaging import read_header, read_image
from covid_mm.serving.header import contradicting_slots, describe_contradictions
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Notice, Prediction

INFO = CheckpointInfo(
    name="fake-for-tests",
    sha256="0123456789abcdef" * 4,
    pair="densenet121-mobilenet",
    trained_on="nothing: a stand-in for the tests",
    trained_at="2026-01-02",
    decision_threshold=0.5,
)
SECRET = "/planted/secret/path"


class FakePredictor:
    """Bright images are positive, dark ones normal; the map is where the image is brightest.

    An image that is all one grey above 250 raises an unexpected error with a planted path; one all
    black has no positive evidence.
    """

    info = INFO
    meta = {"decision_threshold": {"fused": 0.5, "ct": 0.5, "xray": 0.5}}  # noqa: RUF012

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.calls = 0
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        threading.Event().wait(self.delay)

    def predict(
        self, ct: bytes | None = None, xray: bytes | None = None, *, windows: Any = None, frames: Any = None
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
            heatmap_class=CLASSES[1],
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
