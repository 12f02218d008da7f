"""Several slices as one stack: the files of a series, or the frames of one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import ImageError
from covid_mm.imaging.dicom import DicomImage
from covid_mm.imaging.window import WindowSettings

LUNG_HU = (-950.0, -500.0)  # air-filled lung tissue; the air around the patient is lower
_STEP = 4  # pixels skipped when lung area is compared between slices
_SAMPLE_SLICES = 32  # looked at, of however many there are
_SAMPLE_PIXELS = 25_000_000  # decoded for that at most


@dataclass(frozen=True)
class SliceStack:
    """Slices in order from one end to the other: (image, frame) each, never empty.

    left_out: how many files were of another series than the largest one.
    """

    slices: tuple[tuple[DicomImage, int], ...]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def image(self) -> DicomImage:
        """The first slice's file, which speaks for all headers."""
        return self.slices[0][0]

    def render(self, index: int, window: WindowSettings | str | None = None) -> NDArray[np.float32]:
        """One slice as grey (rows, columns) float32, 0..255. Raises ImageError outside the stack."""
        if not 0 <= index < len(self):
            raise ImageError(
                "There are {count} slices; there is no slice {number}.", count=len(self), number=index + 1
            )
        image, frame = self.slices[index]
        return image.render(window, frame)

    def find_first_choice(self) -> int:
        """The slice to begin with: of CT the one with the largest lung area, else the middle one.

        Of a long stack a sample is looked at, evenly spread; where slices are so large that it would
        have fewer than two, the middle one is taken unseen. Raises ImageError as `DicomImage.values`.
        """
        middle = len(self) // 2
        largest = max(image.pixels for image, _ in self.slices)
        size = min(len(self), _SAMPLE_SLICES, _SAMPLE_PIXELS // largest)
        if size < 2 or self.image.header.modality != "ct":
            return middle
        sample = np.linspace(0, len(self) - 1, size).round().astype(int)
        areas = [self._measure_lung(*self.slices[number]) for number in sample]
        best = int(np.argmax(areas))
        return int(sample[best]) if areas[best] > 0 else middle

    @staticmethod
    def _measure_lung(image: DicomImage, frame: int) -> float:
        """The share of a slice that is lung, 0..1."""
        low, high = LUNG_HU
        values = image.values(frame)[::_STEP, ::_STEP]
        return float(np.mean((values > low) & (values < high)))


def stack_slices(images: Sequence[DicomImage]) -> SliceStack:
    """The slices of one series in order: of several series the one with the most slices is taken.

    Sorted by the position along the slices' normal, where there is one, else by instance number;
    frames of one file keep their order. Raises ImageError for no image.
    """
    if not images:
        raise ImageError("There is no image; give at least one DICOM file.")
    series: dict[str, list[DicomImage]] = {}
    for image in images:
        series.setdefault(image.series, []).append(image)
    largest = max(series.values(), key=lambda part: sum(image.frames for image in part))
    ordered = sorted(largest, key=lambda image: image.position)
    slices = tuple((image, frame) for image in ordered for frame in range(image.frames))
    return SliceStack(slices, len(images) - len(largest))
