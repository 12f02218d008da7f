"""Images that show something else than their slot asks for: by a DICOM file's header, or by what they show.

The content classifier of the checkpoint names what each image shows; here that becomes the warnings
with which a study is left undetermined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from covid_mm.config import MODALITIES, MODALITY_TITLES, Modality
from covid_mm.imaging import ImageHeader
from covid_mm.serving.prediction import Notice

if TYPE_CHECKING:
    from covid_mm.models.judge import Content  # with TensorFlow, which nothing here needs


SWAPPED = "swapped_inputs"
MISMATCH = "modality_mismatch_"


def contradicting_slots(headers: Mapping[Modality, ImageHeader | None]) -> tuple[Modality, ...]:
    """The slots whose file's header names the other modality; a header that names neither is silent."""
    return tuple(
        slot
        for slot, header in headers.items()
        if header is not None and header.modality is not None and header.modality != slot
    )


def describe_contradictions(slots: tuple[Modality, ...]) -> tuple[Notice, ...]:
    """One notice for two swapped slots, or for the one file in the wrong slot."""
    if len(slots) == len(MODALITY_TITLES):
        return (
            Notice(
                SWAPPED,
                "The two files are in each other's place: by their headers the CT slot holds an X-ray and the"
                " X-ray slot a CT. Swap them; until then there is no answer.",
            ),
        )
    others = {slot: next(title for m, title in MODALITY_TITLES.items() if m != slot) for slot in slots}
    return tuple(
        Notice(
            f"{MISMATCH}{slot}",
            f"By its header the file in the {MODALITY_TITLES[slot]} slot is {'an' if other == 'X-ray' else 'a'}"
            f" {other}. Move it to the other slot; until then there is no answer.",
        )
        for slot, other in others.items()
    )


WRONG = "wrong_modality_"
FOREIGN = "not_a_chest_image_"
UNUSUAL = "unlike_training_"
UNJUDGED = "content_not_judged"

_SHOWN = {"ct": "an axial chest CT slice", "xray": "a frontal chest X-ray"}
_LOOKS = {"ct": "a chest CT slice", "xray": "a chest X-ray"}


def check_contents(contents: Mapping[Modality, Content]) -> tuple[Notice, ...]:
    """Why a study cannot be answered, by what its images show; empty where it can.

    contents: slot -> what the judge says of the image in it.
    """
    wrong = [
        m for m in MODALITIES if m in contents and contents[m].kind in MODALITIES and contents[m].kind != m
    ]
    if len(wrong) == len(MODALITIES):
        return (
            Notice(
                SWAPPED,
                "The two images seem to be in each other's place: the CT slot shows a chest X-ray and the X-ray"
                " slot a chest CT slice. Swap them; until then there is no answer.",
            ),
        )
    return tuple(
        notice
        for modality, content in contents.items()
        if (notice := _check_content(modality, content)) is not None
    )


def _check_content(modality: Modality, content: Content) -> Notice | None:
    title = MODALITY_TITLES[modality]
    if content.kind not in MODALITIES:
        return Notice(
            f"{FOREIGN}{modality}",
            f"The image in the {title} slot does not look like {_SHOWN[modality]}, so there is no answer."
            " Replace or remove it.",
        )
    if content.kind != modality:
        return Notice(
            f"{WRONG}{modality}",
            f"The image in the {title} slot looks like {_LOOKS[content.kind]}. Move it to the other slot; until"
            " then there is no answer.",
        )
    if content.unusual:
        return Notice(
            f"{UNUSUAL}{modality}",
            f"The image in the {title} slot is too unlike the images that the network was trained on"
            f" (distance {content.distance:.1f}), so there is no answer. Replace or remove it.",
        )
    return None
