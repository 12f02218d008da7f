"""The keys of an answer's JSON, in their order: the same from Python, the command and the page's API."""

from __future__ import annotations

ANSWER_KEYS = [
    "label",
    "probabilities",
    "supported_probability",
    "branches",
    "modalities",
    "warnings",
    "heatmaps",
    "lungs",
    "label_meanings",
    "evidence",
    "checkpoint",
    "timing_ms",
]
