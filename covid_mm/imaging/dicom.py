"""DICOM through pydicom: pixels in Hounsfield or stored units, and the few facts that may be shown.

The order is the standard's (PS3.3, C.11): stored values, modality LUT or slope and intercept,
then the window, inverted last for MONOCHROME1. Nothing is read by force. Nothing of the header
leaves this module but ImageHeader: no name, number, date or text, in an error or a log either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging.dicom_header import ImageHeader, read_header_fields, to_float
from covid_mm.imaging.geometry import SliceGeometry, raise_shared_rescale, read_geometry
from covid_mm.imaging.raster import check_pixels, map_rows, scale_deep
from covid_mm.imaging.silence import silence_libraries
from covid_mm.imaging.transfer import (
    CountedBytes,
    TransferSyntax,
    overlong,
    read_frame_shape,
    read_transfer_syntax,
)
from covid_mm.imaging.window import WindowSettings, apply_window, choose_window

silence_libraries()

_PDF, _REPORTS = "1.2.840.10008.5.1.4.1.1.104.", "1.2.840.10008.5.1.4.1.1.88."
_DIRECTORY = "1.2.840.10008.1.3.10"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "PALETTE COLOR")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_LARGEST_TABLE = 1 << 20  # bytes; 65,536 entries take an eighth
PADDING = -32768  # HU of what lies outside the scanned circle: black in every window
_ITEM, _MOST_FRAGMENTS = b"\xfe\xff\x00\xe0", 50_000  # of encapsulated pixels


@dataclass(frozen=True)
class FilmFrame:
    """Size of a file's pixels, and a key that is equal for files of one patient, "" where unknown.

    The key is a hash: the patient's number itself does not leave this module.
    """

    rows: int
    columns: int
    patient: str


class DicomImage:
    """A decoded file; its frames are decoded one at a time, when asked for."""

    def __init__(self, dataset: Any, header: ImageHeader, what: str) -> None:
        """Take a checked dataset; use read_dicom."""
        self.header = header
        self._geometry = read_geometry(dataset, header.frames)
        self._dataset = dataset
        self._what = what

    @property
    def frames(self) -> int:
        """How many there are, at least one."""
        return self.header.frames

    @property
    def pixels(self) -> int:
        """How many a frame has."""
        return int(self._dataset.Rows) * int(self._dataset.Columns)

    @property
    def series(self) -> str:
        """A key that is equal for files of one series; never shown."""
        return str(self._dataset.get("SeriesInstanceUID", ""))

    @property
    def geometry(self) -> SliceGeometry:
        """Where its frames lie in the patient."""
        return self._geometry

    @property
    def position(self) -> tuple[float, float]:
        """Where its first frame lies along its normal, in millimetres, else its number in the series; that number."""
        number, along = self._geometry.number, self._geometry.positions[0]
        return (number if along is None else along), number

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame < self.frames:
            raise ImageError(
                "{what} has {frames} frames; there is no frame {number}.",
                what=self._what,
                frames=self.frames,
                number=frame + 1,
            )

    def values(self, frame: int = 0) -> NDArray[np.float32]:
        """One frame (rows, columns) float32: HU for a CT slice, stored units or luminance otherwise.

        Raises:
            ImageError: no such frame, or it cannot be decoded.
        """
        self._check_frame(frame)
        with _guarded(self._what):
            return self._decode(frame)[0]

    def hounsfield(self, frame: int = 0) -> NDArray[np.int16] | NDArray[np.float32] | None:
        """One frame of a CT in HU, PADDING outside the scanned circle: int16 where that loses nothing.

        None where the file gives other values than HU. Raises ImageError as `values`.
        """
        if self.header.modality != "ct" or self._dataset.PhotometricInterpretation != "MONOCHROME2":
            return None
        self._check_frame(frame)
        with _guarded(self._what):
            values, padding = self._decode(frame)
        if padding is not None:
            values[padding] = PADDING
        if values.min() < PADDING or values.max() > -PADDING - 1:
            return values
        whole = values.astype(np.int16)
        return whole if np.array_equal(whole, values) else values

    def render(self, window: WindowSettings | str | None = None, frame: int = 0) -> NDArray[np.float32]:
        """One frame as grey (rows, columns) float32, 0..255.

        window: settings, a name of WINDOW_PRESETS, `file` for the file's own, or None for the
        default: the lung window for CT, the file's own for a film, else its whole range.

        Raises:
            ImageError: as `values`, and for a window that is not known.
        """
        self._check_frame(frame)
        with _guarded(self._what):
            values, padding = self._decode(frame)
            grey = self._show(
                values, choose_window(window, self.header.modality, self.header.windows), padding
            )
            if self._dataset.PhotometricInterpretation == "MONOCHROME1":
                np.subtract(255.0, grey, out=grey)
            if padding is not None:
                grey[padding] = 0.0
            return np.ascontiguousarray(grey, dtype=np.float32)

    def _show(
        self,
        values: NDArray[np.float32],
        window: WindowSettings | None,
        padding: NDArray[np.bool_] | None,
    ) -> NDArray[np.float32]:
        if self._dataset.PhotometricInterpretation in _COLOURS:
            return scale_deep(values, self._what)
        if window is not None:
            return map_rows(lambda rows: apply_window(rows, window), values)
        if "VOILUTSequence" in self._dataset:
            from pydicom.pixels.processing import apply_voi

            table = self._dataset.VOILUTSequence[0]
            top = float(2 ** int(table.LUTDescriptor[2]) - 1)

            def look_up(rows: NDArray[np.float32]) -> NDArray[Any]:
                shown = apply_voi(np.rint(rows).astype(np.int64), self._dataset)
                return np.asarray(np.clip(shown / top, 0.0, 1.0) * 255.0)

            return map_rows(look_up, values)
        shown = np.bool_(True) if padding is None else ~padding
        low = float(np.min(values, where=shown, initial=np.inf))
        high = float(np.max(values, where=shown, initial=-np.inf))
        factor = 255.0 / ((high - low) or 1.0)
        return map_rows(lambda rows: (np.clip(rows, low, high) - low) * factor, values)

    def _decode(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Values of one frame, and where they are padding."""
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
        from pydicom.pixels.utils import pixel_array

        dataset = self._dataset
        stored = pixel_array(dataset, index=frame)
        if dataset.PhotometricInterpretation in _COLOURS:
            palette = dataset.PhotometricInterpretation == "PALETTE COLOR"

            def find_luminance(rows: NDArray[Any]) -> NDArray[np.float32]:
                colours = apply_color_lut(rows, dataset) if palette else rows
                red, green, blue = (colours[..., channel].astype(np.float32) for channel in range(3))
                return np.asarray(0.299 * red + 0.587 * green + 0.114 * blue, dtype=np.float32)

            return map_rows(find_luminance, stored), None
        padding = _find_padding(stored, dataset)
        values = map_rows(lambda rows: apply_modality_lut(rows, dataset), stored)
        if not np.isfinite(values).all():
            raise ImageError("{what} holds values that are not numbers; export it again.", what=self._what)
        return values, padding


def read_dicom(data: bytes, what: str = "The image", limits: ImageLimits | None = None) -> DicomImage:
    """Parse a file's bytes and check all that its pixels will need, without decoding them.

    Raises:
        ImageError: one sentence, for what is damaged, truncated, too large, without pixels, or of
            a kind that is not taken. No text of the header is in it.
    """
    limits = limits or ImageLimits()
    syntax = read_transfer_syntax(data, what)
    with _guarded(what):
        import pydicom

        dataset = pydicom.dcmread(CountedBytes(data, what), force=False)
        _check_kind(dataset, what)
        raise_shared_rescale(dataset)
        frames = _check_layout(dataset, what, limits)
        _check_pixels(dataset, syntax, frames, what)
        return DicomImage(dataset, read_header_fields(dataset, frames), what)


def read_frame(path: Path) -> FilmFrame:
    """Size and patient key of a file on disk, without reading its pixels.

    Raises:
        ImageError: where it is absent, no DICOM file, damaged, or says no size.
    """
    what = path.name
    try:
        with _guarded(what):
            import pydicom

            tags = ["Rows", "Columns", "PatientID"]
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            rows, columns = int(dataset.Rows), int(dataset.Columns)
    except ImageError as error:
        if not path.is_file():
            raise ImageError("{what} is not there; copy it again.", what=what) from error
        raise
    if rows < 1 or columns < 1:
        raise ImageError("{what} says no size of its pixels; export it again.", what=what)
    number = str(dataset.get("PatientID", "") or "").strip()
    return FilmFrame(rows, columns, hashlib.sha256(number.encode()).hexdigest()[:12] if number else "")


@contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Turn pydicom's many errors into one sentence; their text may hold the header."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # any built-in kind, depending on the damaged byte
        raise ImageError(
            "{what} is a damaged or truncated DICOM file; export it again.", what=what
        ) from error


def _check_kind(dataset: Any, what: str) -> None:
    kind = str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) or str(dataset.get("SOPClassUID", ""))
    if kind == _DIRECTORY:
        raise ImageError(
            "{what} is a DICOMDIR, a list of files; choose one of the images it lists.", what=what
        )
    if kind.startswith(_PDF):
        raise ImageError(
            "{what} is a document inside a DICOM file, not an image; choose the slice or film.", what=what
        )
    if kind.startswith(_REPORTS):
        raise ImageError(
            "{what} is a DICOM structured report, not an image; choose the slice or film.", what=what
        )
    for name in ("VOILUTSequence", "ModalityLUTSequence"):  # parsed when asked for, unlike the rest
        if name in dataset and len(getattr(dataset.get_item(name), "value", None) or b"") > _LARGEST_TABLE:
            raise overlong(what)
    if "PixelData" not in dataset:
        raise ImageError(
            "{what} is a DICOM file without pixels; choose the file that holds the image.", what=what
        )


def _check_layout(dataset: Any, what: str, limits: ImageLimits) -> int:
    """The number of frames, after sizes that could not be true or would fill the memory are refused."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    check_pixels(columns, rows, what, limits)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= frames <= limits.max_frames:
        raise ImageError(
            "{what} claims {frames} frames; 1 to {most} are taken: export one slice.",
            what=what,
            frames=frames,
            most=limits.max_frames,
        )
    if frames * rows * columns > limits.max_total_pixels:
        raise ImageError(
            "{what} claims {frames} frames of {width} x {height} pixels; at most {most} million"
            " pixels are taken in all: export one slice.",
            what=what,
            frames=frames,
            width=columns,
            height=rows,
            most=f"{limits.max_total_pixels / 1e6:g}",
        )
    colour = dataset.PhotometricInterpretation
    if colour not in _GREYS + _COLOURS:
        raise ImageError(
            "{what} has a colour model that is not taken; export it as greyscale or RGB.", what=what
        )
    samples = 1 if colour in (*_GREYS, "PALETTE COLOR") else 3
    if int(dataset.SamplesPerPixel) != samples or int(dataset.BitsAllocated) not in (1, 8, 16, 32):
        raise ImageError(
            "{what} describes its pixels in a way that contradicts itself; export it again.", what=what
        )
    if rows * columns * samples * max(1, int(dataset.BitsAllocated) // 16) > limits.max_pixels:
        raise ImageError(
            "{what} has {width} x {height} pixels in colour or of 32 bits, which take several times"
            " the memory; export it as greyscale of 16 bits.",
            what=what,
            width=columns,
            height=rows,
        )
    slope = to_float(dataset.get("RescaleSlope", 1.0))
    intercept = to_float(dataset.get("RescaleIntercept", 0.0))
    if slope is None or intercept is None or slope == 0.0:
        raise ImageError(
            "{what} has a rescale slope or intercept that makes no sense; export it again.", what=what
        )
    return frames


def _check_pixels(dataset: Any, syntax: TransferSyntax, frames: int, what: str) -> None:
    """Refuse truncated pixels, and compressed frames larger than the header says."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not syntax.is_compressed:
        bits = rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) * frames
        if len(dataset.PixelData) < bits // 8:
            raise ImageError(
                "{what} is truncated: pixels are missing at its end; copy or export it again.", what=what
            )
        return
    from pydicom.encaps import generate_frames

    if dataset.PixelData.count(_ITEM) > _MOST_FRAGMENTS:
        raise overlong(what)
    count = 0
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        count += 1
        claimed = read_frame_shape(frame, syntax, what)
        if claimed not in (None, (rows, columns, int(dataset.SamplesPerPixel))):
            raise ImageError(
                "{what} holds pixels of another size than its header says; export it again.", what=what
            )
    if count < frames:
        raise ImageError(
            "{what} is truncated: {missing} of {frames} frames are missing; export it again.",
            what=what,
            missing=frames - count,
            frames=frames,
        )


def _find_padding(stored: NDArray[Any], dataset: Any) -> NDArray[np.bool_] | None:
    """Pixels outside the scanned circle, which are no tissue; None where there are none."""
    value = to_float(dataset.get("PixelPaddingValue"))
    if value is None:
        return None
    limit = to_float(dataset.get("PixelPaddingRangeLimit"))
    low, high = sorted((value, value if limit is None else limit))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None
