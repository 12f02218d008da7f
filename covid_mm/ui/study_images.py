"""From uploads to pixels. All of it can run in another process: nothing here imports Gradio or a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import ImageError, UsageError
from covid_mm.imaging import DecodedImage, decode_image, is_dicom
from covid_mm.serving.worker_pool import WorkerPool
from covid_mm.ui.pictures import View, make_view
from covid_mm.ui.series_upload import SlotUpload, list_paths, read_files, read_slot, stack_files
from covid_mm.ui.slices import SliceChoice, preview_stack

SLOT_TITLES = {"ct": "CT slice", "xray": "Chest X-ray"}
BOTH_EMPTY = "Add a CT slice, a chest X-ray, or both; then analyse."
READERS = WorkerPool(size=2, deadline=30.0)  # the largest accepted file takes a tenth of that


@dataclass(frozen=True)
class StudyImages:
    """A study, read. images: modality -> whole image. views: modality -> the same for the screen."""

    images: dict[str, DecodedImage]
    views: dict[str, View]


def read_study(
    ct: SlotUpload,
    xray: SlotUpload,
    limits: ImageLimits,
    slices: Mapping[str, SliceChoice] | None = None,
) -> StudyImages:
    """Read the uploads of a study. slices: by modality, which slice and window of a DICOM file.

    Raises CovidMMError.
    """
    uploads = {m: upload for m, upload in zip(MODALITIES, (ct, xray), strict=True) if upload}
    if not uploads:
        raise UsageError(BOTH_EMPTY)
    chosen = slices or {}
    images: dict[str, DecodedImage] = {
        m: read_slot_image(upload, m, limits, chosen.get(m, SliceChoice())) for m, upload in uploads.items()
    }
    return StudyImages(images, {m: make_view(image.grey) for m, image in images.items()})


def read_slot_image(
    upload: SlotUpload, modality: str, limits: ImageLimits, choice: SliceChoice
) -> DecodedImage:
    """What lies in one slot, at its own size. Raises ImageError naming the slot."""
    title = SLOT_TITLES[modality]
    data, choice = read_slot(upload, title, limits, choice)
    try:
        return decode_image(data, limits=limits, window=choice.window, frame=choice.frame)
    except ImageError as error:
        raise error.about(title) from error


def preview_upload(
    upload: SlotUpload, modality: str, limits: ImageLimits, choice: SliceChoice
) -> dict[str, Any]:
    """What a slot shows of files that the browser cannot draw; `{}` for others. Raises ImageError."""
    title = SLOT_TITLES[modality]
    contents = read_files(list_paths(upload), title, limits)
    if len(contents) < 2 and not (contents and is_dicom(contents[0])):
        return {}
    return preview_stack(stack_files(contents, title, limits)[0], choice)
