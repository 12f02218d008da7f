"""What DICOM headers say against the slots that their files were put in."""

from __future__ import annotations

from collections.abc import Mapping

from covid_mm.config import MODALITY_TITLES, Modality
from covid_mm.imaging import ImageHeader
from covid_mm.serving.prediction import Notice

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
