"""Sentences of a checkpoint's card, which is Markdown beside the weights and HTML on the page: each stands once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covid_mm.config import MODALITIES, join_titles, read_restored_epoch

HEAD_TITLES: dict[str, str] = {"fused": f"{join_titles(MODALITIES)} combined"} | {
    m: f"{one.title} alone" for m, one in MODALITIES.items()
}
SYNTHETIC = "Trained on synthetic phantoms, not on patients: it means nothing for a person."
SPLITS = {
    "paper": "Random split, as in the paper: images of one patient lie on both sides. This data leakage"
    " makes every figure too good.",
    "grouped": "Grouped split: no patient and no cluster of like slices on both sides.",
}
TUNED = {  # by what was chosen on which images
    "outside": "Temperature and threshold were chosen on left-out collections, not on these images.",
    "best": "Temperature and best epoch were chosen on these same images; the threshold was not tuned.",
    "last": "The temperature was chosen on these same images; the last epoch was taken, and the threshold not tuned.",
}
HELD_OUT = (
    "Of the two sets of the paper, the validation images of its random split were held out of training. Collections"
    " for evaluation only never teach: a collection of one class would teach that its source has that class."
)
PAIRS_AGREED = "Training pairs always agreed: a CT and an X-ray that disagree were never seen in training."
CONTENT_CHECK = (
    "Before an answer a small content classifier names what each image shows: a chest CT slice, a chest"
    " X-ray, or neither. It learned from {ct} CT slices, {xray} X-rays and {neither} other pictures."
)


def find_tuning(meta: Mapping[str, Any]) -> str:
    """Which of TUNED is true of a checkpoint's validation figures. meta: the object of meta.json."""
    if meta.get("recipe") == "served":
        return "outside"
    training = meta.get("training")
    return read_restored_epoch(training) if isinstance(training, Mapping) else "best"
