"""Full-resolution frames of a slot's upload for the viewer. Runs where files are read: no Gradio, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import ImageError, UsageError
from covid_mm.imaging import CtScan, SliceStack, decode_image, is_dicom
from covid_mm.ui.pictures import make_preview
from covid_mm.ui.study.images import (
    SLOT_TITLES,
    SlotUpload,
    list_paths,
    preview_stack,
    read_files,
    stack_files,
)
from covid_mm.ui.study.scans import GONE, find_scan, preview_scan
from covid_mm.ui.study.slot_choice import SliceChoice, read_choices

MOST_FRAMES = 8  # of a stack in one answer: neighbours come along while one scrolls
GREY = {"level": 127.5, "width": 255.0}  # what is shown of an image that has grey levels only
UNKNOWN_REQUEST = "The viewer asks for the slices of one image, by number; open it again."


@dataclass(frozen=True)
class FrameRequest:
    """Which frames to draw. modality: the slot. frames: from 0; empty for the stack's first choice."""

    modality: str
    choice: SliceChoice
    frames: tuple[int, ...] = ()


def read_request(values: Any) -> FrameRequest:
    """What the viewer asks for; nothing in it is believed.

    values: `modality`, `frames` (a list), and `window`, `level`, `width` as the slots send them.

    Raises:
        UsageError: another modality, or frames that are no short list of whole numbers.
        ImageError: a free window that makes no sense.
    """
    given = values if isinstance(values, Mapping) else {}
    modality, frames = given.get("modality"), given.get("frames", [])
    whole = isinstance(frames, list) and all(type(frame) is int and frame >= 0 for frame in frames)
    if modality not in MODALITIES or not whole or len(frames) > MOST_FRAMES:
        raise UsageError(UNKNOWN_REQUEST)
    choice = read_choices({modality: {**given, "frame": None}})[modality]
    return FrameRequest(str(modality), choice, tuple(frames))


def read_frames(upload: SlotUpload, limits: ImageLimits, request: FrameRequest) -> dict[str, Any]:
    """The frames as lossless PNG at the image's own size, and what the viewer has to know of the stack.

    Returns `{"count", "frame", "windows", "shown", "range", "pictures"}`. shown: level and width of the
    window through which the pixels were drawn, None where it has no such numbers. pictures: frame, as text ->
    `{"url", "width", "height"}`.

    Raises:
        ImageError: no upload, one that is no longer kept, or one that cannot be read.
    """
    title, choice = SLOT_TITLES[request.modality], request.choice
    paths = list_paths(upload)
    if not paths:
        raise ImageError(GONE).about(title)
    first = request.frames[0] if request.frames else None
    scan = None
    if request.modality == "ct":
        scan = find_scan(paths, choice.series, limits, title, strict=not choice.folder)
    if scan is not None:
        return _draw_frames(scan, preview_scan(scan, replace(choice, frame=first)), request, limits)
    contents = read_files(paths, title, limits)
    if len(contents) == 1 and not is_dicom(contents[0]):
        try:
            grey = decode_image(contents[0], limits=limits).grey
        except ImageError as error:
            raise error.about(title) from error
        facts: dict[str, Any] = {"count": 1, "frame": 0, "windows": [], "shown": GREY, "range": [0.0, 255.0]}
        return facts | {"pictures": {"0": describe_picture(grey, limits)}}
    stack = stack_files(contents, title, limits)[0]
    return _draw_frames(stack, preview_stack(stack, replace(choice, frame=first)), request, limits)


def _draw_frames(
    stack: SliceStack | CtScan, facts: dict[str, Any], request: FrameRequest, limits: ImageLimits
) -> dict[str, Any]:
    window = request.choice.window
    frames = [frame for frame in request.frames if frame < len(stack)] or [int(facts["frame"])]
    known = facts["level"] is not None
    return {
        "count": len(stack),
        "frame": facts["frame"],
        "windows": facts["windows"],
        "shown": {"level": facts["level"], "width": facts["width"]} if known else None,
        "range": facts["range"],
        "pictures": {str(frame): describe_picture(stack.render(frame, window), limits) for frame in frames},
    }


def describe_picture(grey: Any, limits: ImageLimits) -> dict[str, Any]:
    """An image (height, width), 0..255, at its own size: `url`, a data URL, `width` and `height` in pixels."""
    preview = make_preview(grey, longest=limits.max_side)
    return {"url": preview.url, "width": preview.width, "height": preview.height}
