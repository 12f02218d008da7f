"""Images that show something else than their slot asks for: by a DICOM file's header, or by what they show.

The content classifier of the checkpoint names what each image shows; here that becomes the warnings
with which a study is left undetermined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from covid_mm.config import MODALITIES, Modality
from covid_mm.imaging import ImageHeader
from covid_mm.serving.prediction import Notice
from covid_mm.serving.warnings import KINDS, warn

if TYPE_CHECKING:
    from covid_mm.models.content_classifier import Content  # with TensorFlow, which nothing here needs


def contradicting_slots(headers: Mapping[Modality, ImageHeader | None]) -> tuple[Modality, ...]:
    """The slots whose file's header names the other modality; a header that names neither is silent."""
    return tuple(
        slot
        for slot, header in headers.items()
        if header is not None and header.modality is not None and header.modality != slot
    )


def describe_contradictions(slots: tuple[Modality, ...]) -> tuple[Notice, ...]:
    """One warning for two swapped slots, or for the one file in the wrong slot."""
    if len(slots) == len(MODALITIES):
        return (warn("swapped_by_header"),)
    return tuple(warn("modality_mismatch", slot) for slot in slots)


def check_contents(contents: Mapping[Modality, Content]) -> tuple[Notice, ...]:
    """Why a study cannot be answered, by what its images show; empty where it can.

    contents: slot -> what the content classifier says of the image in it.
    """
    wrong = [
        m for m in MODALITIES if m in contents and contents[m].kind in MODALITIES and contents[m].kind != m
    ]
    if len(wrong) == len(MODALITIES):
        return (warn("swapped_by_content"),)
    return tuple(
        warning
        for modality, content in contents.items()
        if (warning := _check_content(modality, content)) is not None
    )


def _check_content(modality: Modality, content: Content) -> Notice | None:
    if content.kind not in MODALITIES:
        return warn("not_a_chest_image", modality, kind=KINDS[modality])
    if content.kind != modality:
        return warn("wrong_modality", modality, kind=KINDS[content.kind])
    if content.unusual:
        return warn("unlike_training", modality, distance=f"{content.distance:.1f}")
    return None
