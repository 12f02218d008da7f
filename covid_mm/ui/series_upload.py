"""What lies in a slot: one image file, or the files of one DICOM series, of which one slice is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import SliceStack, is_dicom, read_dicom, stack_slices
from covid_mm.ui.slices import SliceChoice

SlotUpload: TypeAlias = "str | tuple[str, ...] | None"  # paths of uploads

MAX_SERIES_FILES = 600
MAX_SERIES_BYTES = 200 * 1024 * 1024
GONE = "the uploaded image is no longer kept on the server; add it again."


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
        raise ImageError(f"{title}: there are {len(stack)} slices; there is no slice {index + 1}.")
    _, frame = stack.slices[index]
    return contents[file_of[index]], SliceChoice(choice.window, frame)


def read_files(paths: Sequence[str], title: str, limits: ImageLimits) -> list[bytes]:
    """The bytes of a slot's uploads. Raises ImageError for too many, too large, or gone."""
    if len(paths) > MAX_SERIES_FILES:
        raise ImageError(
            f"{title}: these are {len(paths)} files, and a series may have {MAX_SERIES_FILES} here; leave some out."
        )
    contents, total = [], 0
    for path in paths:
        contents.append(read_upload(path, title, limits))
        total += len(contents[-1])
        if total > MAX_SERIES_BYTES:
            raise ImageError(
                f"{title}: the series is larger than {MAX_SERIES_BYTES / 2**20:g} MB; leave some slices out."
            )
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
                f"{title}: several files at once must be slices of one DICOM series, and file {number} of"
                f" {len(contents)} is not DICOM; add one image, or DICOM files only."
            )
        images.append(read_dicom(data, f"{title}: file {number} of {len(contents)}", limits))
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
        raise ImageError(f"{title}: {GONE}") from error
    if len(data) > limits.max_bytes:
        raise ImageError(f"{title}: the file is larger than {limits.max_bytes / 2**20:g} MB; scale it down.")
    return data
