"""A whole CT scan: the axial slices of one series from the feet to the head, in Hounsfield units.

Of several series, told apart by their UID, the one with the most lung is read. Localizers and what is not cut
across the body are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError, Message
from covid_mm.imaging.dicom import DicomImage, read_dicom
from covid_mm.imaging.dicom_header import ImageHeader
from covid_mm.imaging.nifti import is_nifti, read_nifti
from covid_mm.imaging.series import LUNG_HU
from covid_mm.imaging.transfer import is_dicom
from covid_mm.imaging.window import WindowSettings, apply_window, choose_window

Hounsfield: TypeAlias = "NDArray[np.int16] | NDArray[np.float32]"

# why a file is no part of a scan
LOCALIZER, NOT_AXIAL, OTHER_SERIES = "localizer", "not axial", "of another series"
FOREIGN, UNREADABLE = "not DICOM", "not readable as an image"

_FIRST = 32  # slices looked at to choose the one to begin with
_SAMPLED = 9  # slices of a series that are looked at to see whether it shows the chest
_LEAST_LUNG = 0.04  # of a slice's pixels, for the slice to show lung
_STEP = 4  # pixels skipped when that is measured
_DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class SeriesSummary:
    """One series of those that were given. slices: axial ones. spacing_mm: between them, None where not said.

    lung_slices: about how many show lung.
    """

    slices: int
    spacing_mm: float | None
    lung_slices: int


@dataclass(frozen=True, eq=False)
class CtScan:
    """A CT scan, decoded.

    slices: (rows, columns) each, feet first: HU where hounsfield, else grey 0..255. positions: of each, in
    millimetres, None where the files do not say. header: of the first slice, None for a NIfTI volume. series: all
    that were found, `chosen` the number of this one. left_out: why a file is no part of it -> how many.
    """

    slices: tuple[Hounsfield, ...]
    positions: tuple[float | None, ...]
    header: ImageHeader | None = None
    hounsfield: bool = True
    series: tuple[SeriesSummary, ...] = ()
    chosen: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.slices)

    def render(self, index: int, window: WindowSettings | str | None = None) -> NDArray[np.float32]:
        """One slice as grey (rows, columns) float32, 0..255, the same as of its file alone.

        window: as `choose_window` takes it. Raises ImageError for an unknown window or no such slice.
        """
        if not 0 <= index < len(self):
            raise ImageError(
                "There are {count} slices; there is no slice {number}.", count=len(self), number=index + 1
            )
        values = self.slices[index]
        if not self.hounsfield:
            return values.astype(np.float32)
        chosen = self.find_window(window)
        if chosen is None:
            low, high = float(values.min()), float(values.max())
            chosen = WindowSettings((low + high) / 2, max(high - low, 1.0), "LINEAR_EXACT")
        if values.dtype == np.int16:  # the same numbers, a sixth of the time
            table: NDArray[np.float32] = _tabulate(chosen)[values.astype(np.int32) + 32768]
            return table
        return apply_window(values.astype(np.float32), chosen)

    def find_first_choice(self) -> int:
        """The slice to begin with: of a sample of them the one with the largest lung area, else the middle one."""
        if not self.hounsfield:
            return len(self) // 2
        sample = sorted({round(part * (len(self) - 1) / (_FIRST - 1)) for part in range(_FIRST)})
        areas = [_measure_lung(self.slices[row]) for row in sample]
        best = int(np.argmax(areas))
        return sample[best] if areas[best] > 0 else len(self) // 2

    def find_window(self, window: WindowSettings | str | None = None) -> WindowSettings | None:
        """The level and width that `render` uses; None where there is none of HU."""
        if not self.hounsfield:
            return None
        return choose_window(window, "ct", self.header.windows if self.header else ())


@lru_cache(maxsize=8)
def _tabulate(window: WindowSettings) -> NDArray[np.float32]:
    """The grey of every int16 through a window, from -32768 on."""
    table = apply_window(np.arange(-32768, 32768, dtype=np.float32), window)
    table.flags.writeable = False
    return table


def read_scan(
    contents: Sequence[bytes],
    what: str = "The CT",
    limits: ImageLimits = _DEFAULT_LIMITS,
    *,
    series: int | None = None,
    strict: bool = True,
) -> CtScan:
    """The files of a CT scan, in any order: one NIfTI volume, or DICOM files.

    Args:
        contents: the files' bytes.
        what: names them in errors.
        limits: max_series_slices and max_series_pixels are those of all slices together.
        series: the number of the series, in the order of `CtScan.series`; None for the one with the most lung.
        strict: whether a file that is no image is an error, or left out, as of folders that hold others beside.

    Raises:
        ImageError: one sentence: nothing in it, a file of another kind, damaged, too much, no axial slice.
    """
    if not contents:
        raise ImageError(
            "{what} holds no file; expected the DICOM files of a CT series, or a NIfTI volume.", what=what
        )
    volumes = [data for data in contents if is_nifti(data)]
    if volumes:
        if len(volumes) > 1 or (strict and len(contents) > 1):
            raise ImageError("{what} holds a NIfTI volume and other files; give one volume alone.", what=what)
        values, positions = read_nifti(volumes[0], what, limits)
        summary = SeriesSummary(len(values), _measure_spacing(positions), len(values))
        return CtScan(values, positions, series=(summary,))
    images, left_out = _read_files(contents, what, limits, strict)
    return assemble_scan(images, what, limits, series=series, left_out=left_out)


def _read_files(
    contents: Sequence[bytes], what: str, limits: ImageLimits, strict: bool
) -> tuple[list[DicomImage], Counter[str]]:
    images: list[DicomImage] = []
    left_out: Counter[str] = Counter()
    total = 0
    for number, data in enumerate(contents, start=1):
        if not is_dicom(data):
            if strict and len(contents) == 1:
                raise ImageError(
                    "{what} is neither DICOM nor NIfTI; give the files of a CT series.", what=what
                )
            if strict:
                raise ImageError(
                    "{what}: several files at once must be slices of one DICOM series, and file {number} of {total} is"
                    " not DICOM; give one image, or DICOM files only.",
                    what=what,
                    number=number,
                    total=len(contents),
                )
            left_out[FOREIGN] += 1
            continue
        try:
            images.append(read_dicom(data, _name_file(what, number, len(contents)), limits))
        except ImageError:
            if strict:
                raise
            left_out[UNREADABLE] += 1
            continue
        total += images[-1].pixels * images[-1].frames
        _check_total(total, what, limits)
    return images, left_out


def _name_file(what: str, number: int, total: int) -> Message:
    return Message("File {number} of {total}", number=number, total=total) if total > 1 else Message(what)


def _check_total(pixels: int, what: str, limits: ImageLimits) -> None:
    if pixels > limits.max_series_pixels:
        raise ImageError(
            "{what} has more than {limit} million pixels; give thicker slices, or fewer.",
            what=what,
            limit=f"{limits.max_series_pixels / 1e6:g}",
        )


def assemble_scan(
    images: Sequence[DicomImage],
    what: str = "The CT",
    limits: ImageLimits = _DEFAULT_LIMITS,
    *,
    series: int | None = None,
    left_out: Mapping[str, int] | None = None,
) -> CtScan:
    """The scan of files that were read. Args and errors as for `read_scan`."""
    dropped = Counter(left_out or {})
    by_series: dict[str, list[DicomImage]] = {}
    for image in images:
        if image.geometry.localizer:
            dropped[LOCALIZER] += 1
        elif image.geometry.axial is False:
            dropped[NOT_AXIAL] += 1
        else:
            by_series.setdefault(image.series, []).append(image)
    if not by_series:
        raise ImageError(
            "{what} holds no axial CT slice, but {localizers} localizers, {others} slices that are not axial, and"
            " {foreign} other files; give the axial series.",
            what=what,
            localizers=dropped[LOCALIZER],
            others=dropped[NOT_AXIAL],
            foreign=dropped[FOREIGN] + dropped[UNREADABLE],
        )
    stacks = [_sort(part) for part in by_series.values()]
    summaries = [_summarise(stack) for stack in stacks]
    order = sorted(
        range(len(stacks)), key=lambda row: (summaries[row].lung_slices, summaries[row].slices), reverse=True
    )
    chosen = 0 if series is None else series
    if not 0 <= chosen < len(order):
        raise ImageError(
            "{what} holds {count} series; there is no series {number}.",
            what=what,
            count=len(order),
            number=chosen + 1,
        )
    stack = stacks[order[chosen]]
    if len(stack) > limits.max_series_slices:
        raise ImageError(
            "{what} has {count} slices; at most {limit} are taken: give a thicker series.",
            what=what,
            count=len(stack),
            limit=limits.max_series_slices,
        )
    dropped[OTHER_SERIES] += sum(len(part) for part in by_series.values()) - len(
        {id(image) for image, _ in stack}
    )
    values = [image.hounsfield(frame) for image, frame in stack]
    known = [value for value in values if value is not None]
    hounsfield = len(known) == len(values)
    return CtScan(
        slices=tuple(known) if hounsfield else tuple(image.render(None, frame) for image, frame in stack),
        positions=tuple(image.geometry.positions[frame] for image, frame in stack),
        header=stack[0][0].header,
        hounsfield=hounsfield,
        series=tuple(summaries[row] for row in order),
        chosen=chosen,
        left_out={reason: count for reason, count in dropped.items() if count},
    )


def _sort(images: Sequence[DicomImage]) -> list[tuple[DicomImage, int]]:
    """Frames by position; by number and frame where one of them has none."""
    frames = [(image, frame) for image in images for frame in range(image.frames)]
    by_number = sorted(frames, key=lambda one: (one[0].geometry.number, one[1]))
    if any(image.geometry.positions[frame] is None for image, frame in frames):
        return by_number
    return sorted(by_number, key=lambda one: one[0].geometry.positions[one[1]] or 0.0)


def _summarise(stack: Sequence[tuple[DicomImage, int]]) -> SeriesSummary:
    positions = [image.geometry.positions[frame] for image, frame in stack]
    lung = 0.0
    if stack[0][0].header.modality == "ct":
        rows = sorted({round(part * (len(stack) - 1) / (_SAMPLED - 1)) for part in range(_SAMPLED)})
        lung = float(np.mean([_shows_lung(*stack[row]) for row in rows]))
    return SeriesSummary(len(stack), _measure_spacing(positions), round(lung * len(stack)))


def _shows_lung(image: DicomImage, frame: int) -> bool:
    return _measure_lung(image.values(frame)) >= _LEAST_LUNG


def _measure_lung(values: NDArray[Any]) -> float:
    """The share of a slice that is lung, 0..1."""
    few = values[::_STEP, ::_STEP]
    return float(np.mean((few > LUNG_HU[0]) & (few < LUNG_HU[1])))


def _measure_spacing(positions: Sequence[float | None]) -> float | None:
    steps = [abs(b - a) for a, b in pairwise(positions) if a is not None and b is not None]
    return round(median(steps), 3) if steps else None
