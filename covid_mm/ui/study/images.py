"""From a slot's uploads to pixels: one image file, or the files of one DICOM series, of which one slice is read.

All of it can run in another process: nothing here imports Gradio or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from covid_mm.config import MODALITIES, ImageLimits
from covid_mm.errors import ImageError, Message, UsageError
from covid_mm.imaging import (
    WINDOW_PRESETS,
    CtScan,
    DecodedImage,
    DicomImage,
    SliceStack,
    WindowSettings,
    decode_image,
    is_dicom,
    read_dicom,
    stack_slices,
)
from covid_mm.imaging.window import FILE
from covid_mm.serving.worker_pool import WorkerPool
from covid_mm.ui.pictures import Preview, make_preview
from covid_mm.ui.study.scans import GONE, find_scan, preview_scan
from covid_mm.ui.study.slot_choice import FREE, SliceChoice

SLOT_TITLES = {"ct": "CT slice", "xray": "Chest X-ray"}
BOTH_EMPTY = "Add a CT slice, a chest X-ray, or both; then analyse."
READERS = WorkerPool(size=2, deadline=30.0)  # the largest accepted file takes a tenth of that


@dataclass(frozen=True)
class StudyImages:
    """A study, read. images: modality -> whole image. previews: modality -> the same for the screen.

    scan: paths of the CT's uploads where they are a whole scan, which lies beside them then; none for one image.
    choice: which slice and window of it.
    """

    images: dict[str, DecodedImage]
    previews: dict[str, Preview]
    scan: tuple[str, ...] = ()
    choice: SliceChoice = SliceChoice()  # noqa: RUF009 (frozen)


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
    chosen = {m: (slices or {}).get(m, SliceChoice()) for m in uploads}
    scan: tuple[str, ...] = ()
    if "ct" in uploads and _find_scan(uploads["ct"], "ct", limits, chosen["ct"]) is not None:
        scan = list_paths(uploads.pop("ct"))
    images: dict[str, DecodedImage] = {
        m: read_slot_image(upload, m, limits, chosen[m]) for m, upload in uploads.items()
    }
    previews = {m: make_preview(image.grey) for m, image in images.items()}
    return StudyImages(images, previews, scan, chosen.get("ct", SliceChoice()))


def _find_scan(upload: SlotUpload, modality: str, limits: ImageLimits, choice: SliceChoice) -> CtScan | None:
    """The scan in a slot, None for one image. Raises ImageError naming the slot."""
    paths = list_paths(upload)
    if modality != "ct" or not paths:
        return None
    return find_scan(paths, choice.series, limits, SLOT_TITLES[modality], strict=not choice.folder)


def decode_scan(upload: SlotUpload, limits: ImageLimits, choice: SliceChoice) -> None:
    """Leave a CT slot's scan beside its files, where it is not yet, for `load_scan`. Raises ImageError."""
    _find_scan(upload, "ct", limits, choice)


def read_slot_image(
    upload: SlotUpload, modality: str, limits: ImageLimits, choice: SliceChoice
) -> DecodedImage:
    """What lies in one slot, at its own size. Raises ImageError naming the slot."""
    title = SLOT_TITLES[modality]
    if (scan := _find_scan(upload, modality, limits, choice)) is not None:
        index = scan.find_first_choice() if choice.frame is None else choice.frame
        return DecodedImage(scan.render(index, choice.window), scan.header)
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
    if (scan := _find_scan(upload, modality, limits, choice)) is not None:
        return preview_scan(scan, choice)
    contents = read_files(list_paths(upload), title, limits)
    if len(contents) < 2 and not (contents and is_dicom(contents[0])):
        return {}
    stack, _ = stack_files(contents, title, limits)
    try:
        return preview_stack(stack, choice)
    except ImageError as error:
        raise error.about(title) from error


SlotUpload: TypeAlias = "str | tuple[str, ...] | None"  # paths of uploads


@dataclass(frozen=True)
class StudyUploads:
    """What an event about an answered study reads: the slots' uploads, or the files of a study of the list.

    network: the checkpoint that answers, None for the default. choices: modality -> slice and window.
    """

    ct: SlotUpload
    xray: SlotUpload
    network: str | None = None
    choices: Mapping[str, SliceChoice] = field(default_factory=dict)


# (Gradio's session, an event's request) -> the study of the list that the request names; None: those of the slots
FindListed: TypeAlias = "Callable[[str | None, Any], StudyUploads | None]"


def read_no_list(session: str | None, request: Any) -> None:
    """A `FindListed` where there is no list: events are about the slots."""
    return None


MAX_SERIES_FILES = 600
MAX_SERIES_BYTES = 200 * 1024 * 1024


def list_paths(upload: SlotUpload) -> tuple[str, ...]:
    """The paths of a slot's uploads, none where it is empty."""
    if not upload:
        return ()
    return (upload,) if isinstance(upload, str) else tuple(upload)


def read_slot(
    upload: SlotUpload, title: str, limits: ImageLimits, choice: SliceChoice
) -> tuple[bytes, SliceChoice]:
    """The file that holds the chosen slice, and the choice within that file.

    Without a chosen slice of a series, the stack's first choice. Raises ImageError naming the slot.
    """
    contents = read_files(list_paths(upload), title, limits)
    if len(contents) == 1:
        return contents[0], choice
    stack, file_of = stack_files(contents, title, limits)
    index = stack.find_first_choice() if choice.frame is None else choice.frame
    if not 0 <= index < len(stack):
        raise ImageError(
            "There are {count} slices; there is no slice {number}.", count=len(stack), number=index + 1
        ).about(title)
    _, frame = stack.slices[index]
    return contents[file_of[index]], SliceChoice(choice.window, frame)


def read_files(paths: Sequence[str], title: str, limits: ImageLimits) -> list[bytes]:
    """The bytes of a slot's uploads. Raises ImageError for too many, too large, or gone."""
    if len(paths) > MAX_SERIES_FILES:
        raise ImageError(
            "These are {count} files, and a series may have {most} here; leave some out.",
            count=len(paths),
            most=MAX_SERIES_FILES,
        ).about(title)
    contents, total = [], 0
    for path in paths:
        contents.append(read_upload(path, title, limits))
        total += len(contents[-1])
        if total > MAX_SERIES_BYTES:
            raise ImageError(
                "The series is larger than {limit} MB; leave some slices out.",
                limit=f"{MAX_SERIES_BYTES / 2**20:g}",
            ).about(title)
    return contents


def stack_files(
    contents: Sequence[bytes], title: str, limits: ImageLimits
) -> tuple[SliceStack, tuple[int, ...]]:
    """Several files as one stack, and for each of its slices the number of its file.

    Raises ImageError where one is not DICOM or cannot be read.
    """
    images = []
    for number, data in enumerate(contents, start=1):
        if not is_dicom(data):
            raise ImageError(
                "Several files at once must be slices of one DICOM series, and file {number} of {total} is not"
                " DICOM; add one image, or DICOM files only.",
                number=number,
                total=len(contents),
            ).about(title)
        what = Message("File {number} of {total}", number=number, total=len(contents))
        try:
            images.append(read_dicom(data, what, limits))
        except ImageError as error:
            raise error.about(title) from error
    stack = stack_slices(images)
    number_of = {id(image): number for number, image in enumerate(images)}
    return stack, tuple(number_of[id(image)] for image, _ in stack.slices)


def read_upload(path: str, title: str, limits: ImageLimits) -> bytes:
    """The bytes of one upload, however it came to the server.

    Raises:
        ImageError: the file is gone or too large.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageError(GONE).about(title) from error
    if len(data) > limits.max_bytes:
        raise ImageError(
            "The file is larger than {limit} MB; scale it down.", limit=f"{limits.max_bytes / 2**20:g}"
        ).about(title)
    return data


def preview_stack(stack: SliceStack, choice: SliceChoice) -> dict[str, Any]:
    """What a slot shows of DICOM files, which the browser cannot draw itself.

    Returns `{"url", "frames", "frame", "windows", "window", "level", "width", "range", "left_out"}`.
    Raises ImageError where the slice cannot be drawn.
    """
    image = stack.image
    frame = stack.find_first_choice() if choice.frame is None else choice.frame
    preview = make_preview(stack.render(frame, choice.window))
    shown = _resolve(image, choice.window)
    return {
        "url": preview.url,
        "frames": len(stack),
        "frame": frame,
        "windows": _offer_windows(image, stack),
        "window": choice.window if isinstance(choice.window, str) else None,
        "level": None if shown is None else shown.level,
        "width": None if shown is None else shown.width,
        "range": _find_range(image, *stack.slices[frame]),
        "left_out": stack.left_out,
    }


def _offer_windows(image: DicomImage, stack: SliceStack) -> list[str]:
    """Names of the windows that make sense for this file."""
    own = [FILE] if stack.image.header.windows or image.header.modality != "ct" else []
    return [*WINDOW_PRESETS, *own, FREE] if image.header.modality == "ct" else [*own, FREE]


def _resolve(image: DicomImage, window: WindowSettings | str | None) -> WindowSettings | None:
    if isinstance(window, WindowSettings):
        return window
    if window in WINDOW_PRESETS:
        return WINDOW_PRESETS[window]
    if window is None and image.header.modality == "ct":
        return WINDOW_PRESETS["lung"]
    return image.header.windows[0] if image.header.windows else None


def _find_range(image: DicomImage, chosen: DicomImage, frame: int) -> list[float]:
    """What a free window may span: the usual Hounsfield units, or a film's own values."""
    if image.header.modality == "ct":
        return [-1200.0, 1200.0]
    values = chosen.values(frame)
    return [float(values.min()), float(max(values.max(), values.min() + 1))]
