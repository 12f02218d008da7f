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
from covid_mm.serving.warnings import warn

if TYPE_CHECKING:
    from covid_mm.models.content_classifier import Content  # with TensorFlow, which nothing here needs


def contradicting_slots(headers: Mapping[Modality, ImageHeader | None]) -> dict[Modality, Modality]:
    """The slots whose file's header names another modality, with that one; a header that names none is silent.

    Modalities that share a code of DICOM cannot contradict each other.
    """
    wrong = {}
    for slot, header in headers.items():
        named = None if header is None else header.modality
        if named is not None and set(MODALITIES[slot].dicom_codes).isdisjoint(MODALITIES[named].dicom_codes):
            wrong[slot] = named
    return wrong


def describe_contradictions(wrong: Mapping[Modality, Modality]) -> tuple[Notice, ...]:
    """One warning for two swapped slots, one for each other file in the wrong slot.

    wrong: slot -> the modality that the file's header names.
    """
    swapped = find_swap(wrong)
    rest = tuple(
        warn("modality_mismatch", slot, other=MODALITIES[named].title)
        for slot, named in wrong.items()
        if slot not in swapped
    )
    if not swapped:
        return rest
    first, second = (MODALITIES[slot].title for slot in swapped)
    return (warn("swapped_by_header", first=first, second=second), *rest)


def check_contents(contents: Mapping[Modality, Content]) -> tuple[Notice, ...]:
    """Why a study cannot be answered, by what its images show; empty where it can.

    contents: slot -> what the content classifier says of the image in it.
    """
    swapped = find_swap({m: content.kind for m, content in contents.items() if content.kind != m})
    rest = tuple(
        warning
        for modality, content in contents.items()
        if modality not in swapped and (warning := _check_content(modality, content)) is not None
    )
    if not swapped:
        return rest
    first, second = (MODALITIES[slot] for slot in swapped)
    swap = warn(
        "swapped_by_content",
        first=first.title,
        first_kind=second.content,
        second=second.title,
        second_kind=first.content,
    )
    return (swap, *rest)


def find_swap(wrong: Mapping[Modality, str]) -> tuple[Modality, ...]:
    """The first two slots, in the order of MODALITIES, each of which holds what belongs into the other; or none."""
    for slot in MODALITIES:
        other = wrong.get(slot)
        if other is not None and other != slot and wrong.get(other) == slot:
            return (slot, other)
    return ()


def _check_content(modality: Modality, content: Content) -> Notice | None:
    if content.kind not in MODALITIES:
        return warn("not_a_chest_image", modality, kind=MODALITIES[modality].content)
    if content.kind != modality:
        belongs = MODALITIES[content.kind]
        return warn("wrong_modality", modality, kind=belongs.content, other=belongs.title)
    if content.unusual:
        return warn("unlike_training", modality, distance=f"{content.distance:.1f}")
    return None
