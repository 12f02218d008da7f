"""What stands before an answer: images that show something else than their slot asks for.

The judge of the checkpoint names what each image shows; here that becomes the notices with which
a study is left undetermined.
"""

from __future__ import annotations

from collections.abc import Mapping

from covid_mm.config import MODALITIES, MODALITY_TITLES, Modality
from covid_mm.models.content_classifier import NEITHER, Content
from covid_mm.serving.header import SWAPPED
from covid_mm.serving.prediction import Notice

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
    wrong = [m for m in MODALITIES if m in contents and contents[m].kind not in (m, NEITHER)]
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
    if content.kind == NEITHER:
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
