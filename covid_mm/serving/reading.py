"""Whole grey images to what the network reads, what the content check reads, and what is shown of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import UsageError
from covid_mm.explain.cells import weigh_by_lungs
from covid_mm.imaging import ImageHeader, WindowSettings, read_grey, read_header, resize_grey
from covid_mm.imaging.lungs import Box, LungRegion, cut_lungs, place_in_image, read_lungs
from covid_mm.serving.scan_files import StudyImages

PREVIEW_SIDE = 512  # pixels of a preview's longer side, at most
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

GreyStudy = Mapping[Modality, NDArray[np.float32]]  # whole images (height, width), 0..255


class LungFinder(Protocol):
    """What reading needs of `models.lung_segmenter.LungSegmenter`."""

    def find(self, images: Sequence[NDArray[np.float32]], modality: Modality) -> list[LungRegion | None]:
        """The lungs of whole grey images, None where an image shows none."""


@dataclass(frozen=True)
class StudyImage:
    """One image of a study, read.

    pixels: grey float32 (side, side), 0..255, what the network reads. whole: the whole image of the
    same shape, what the content classifier reads; the same array where the network reads the
    whole image too. preview: uint8 (height, width, 3), the whole image with its aspect. region: the
    lungs that were cropped to. lacks_lungs: they were looked for and not found; pixels is then the
    whole image, and no answer may be given from it.
    """

    pixels: NDArray[np.float32]
    whole: NDArray[np.float32]
    preview: NDArray[np.uint8]
    region: LungRegion | None = None
    lacks_lungs: bool = False

    @property
    def box(self) -> Box | None:
        """The part of the image that the network reads; None where that is all of it."""
        return None if self.region is None else self.region.box

    def place(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (side, side) of what the network read, in the preview's frame; zero outside the box."""
        height, width = self.preview.shape[:2]
        return place_in_image(values, self.box or WHOLE, height, width)

    def weigh_by_lungs(self, values: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
        """A map (side, side) of what the network read, times the lungs' share of each cell; as it is without lungs.

        grid: the map's rows and columns of cells.
        """
        if self.region is None:
            return values
        return weigh_by_lungs(values, cut_lungs(self.region, len(values)), grid)


Study = dict[Modality, StudyImage]


def read_study(
    images: StudyImages,
    modalities: Sequence[Modality],
    checkpoint: str,
    windows: Mapping[Modality, WindowSettings | str] | None = None,
    frames: Mapping[Modality, int] | None = None,
) -> GreyStudy:
    """The whole grey images of a study, in the order of the network's inputs.

    Args:
        images: by modality.
        modalities: that the network reads. checkpoint: its name, for messages.
        windows, frames: how a DICOM file is read, by modality, see `imaging.read_grey`.

    Raises:
        UsageError: no image, or one of a modality that the network does not read.
        ImageError: an image cannot be read.
    """
    present = {m: source for m, source in images.items() if source is not None}
    foreign = [m for m in present if m not in modalities]
    if foreign:
        raise UsageError(
            "This checkpoint ({name}) reads {taken} only, not {given}; leave that slot empty or"
            " choose a checkpoint of a pair.",
            name=checkpoint,
            taken=_join(modalities),
            given=_join(foreign),
        )
    if not present:
        raise UsageError("There is no image: give a chest CT slice, a chest X-ray, or both.")
    windows, frames = windows or {}, frames or {}
    return {
        m: read_grey(present[m], window=windows.get(m), frame=frames.get(m))
        for m in modalities
        if m in present
    }


def read_headers(images: StudyImages) -> dict[Modality, ImageHeader | None]:
    """What the file of each image says of itself; None for a file without a header."""
    return {m: read_header(source) for m, source in images.items() if source is not None}


def _join(modalities: Sequence[Modality]) -> str:
    return " and ".join(MODALITIES[m].title for m in modalities)


def make_preview(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A whole image to look at: uint8 (height, width, 3), aspect kept, never enlarged."""
    height, width = grey.shape
    share = min(1.0, PREVIEW_SIDE / max(height, width))
    if share < 1.0:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    levels = np.rint(np.clip(grey, 0.0, 255.0)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), np.uint8)


def prepare_studies(studies: Sequence[GreyStudy], size: int, finder: LungFinder | None) -> list[Study]:
    """Studies as the network of a checkpoint reads them.

    Args:
        studies: whole grey images by modality.
        size: pixels per side of what the network reads.
        finder: crops to the lungs; without one whole images are resized, as in the paper. It is
            asked once per modality, for all studies together.
    """
    regions: dict[tuple[int, Modality], LungRegion | None] = {}
    if finder is not None:
        for modality in dict.fromkeys(m for greys in studies for m in greys):
            rows = [row for row, greys in enumerate(studies) if modality in greys]
            lungs = finder.find([studies[row][modality] for row in rows], modality)
            regions |= {(row, modality): region for row, region in zip(rows, lungs, strict=True)}
    return [
        {
            modality: _read_image(grey, modality, size, regions.get((row, modality)), finder is not None)
            for modality, grey in greys.items()
        }
        for row, greys in enumerate(studies)
    ]


def _read_image(
    grey: NDArray[np.float32], modality: Modality, size: int, region: LungRegion | None, wants_lungs: bool
) -> StudyImage:
    whole = resize_grey(grey, size)
    preview = make_preview(grey)
    if region is None:
        return StudyImage(whole, whole, preview, lacks_lungs=wants_lungs)
    return StudyImage(read_lungs(grey, region, modality, size), whole, preview, region)
