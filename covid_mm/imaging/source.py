"""The one way in: path, bytes, PIL image or array, judged by its content, never by its name."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_mm.config import IMAGE_SIZE, ImageLimits
from covid_mm.errors import ImageError
from covid_mm.formats import flatten_text
from covid_mm.imaging import jpeg, png
from covid_mm.imaging.array import convert_array
from covid_mm.imaging.dicom import read_dicom
from covid_mm.imaging.dicom_header import ImageHeader
from covid_mm.imaging.raster import check_pixels, convert_picture, decode_raster
from covid_mm.imaging.resize import resize_image
from covid_mm.imaging.series import stack_slices
from covid_mm.imaging.transfer import is_dicom
from covid_mm.imaging.window import WindowSettings

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | NDArray[np.generic] | DecodedImage"

_DEFAULT_LIMITS = ImageLimits()
_ANONYMOUS = "The image"
_LONGEST_NAME = 80  # letters of a file's name in a message
_FOREIGN = {  # first bytes -> name, for a clearer refusal
    b"GIF8": "a GIF",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"BM": "a BMP",
    b"%!PS": "an EPS",
    b"\xc5\xd0\xd3\xc6": "an EPS",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
}


@dataclass(frozen=True)
class DecodedImage:
    """An image that was read already, to be given wherever one is taken.

    grey: the whole image (height, width) float32, 0..255, not to be changed. header: of a DICOM file.
    """

    grey: NDArray[np.float32]
    header: ImageHeader | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled in a quarter of the bytes where all greys are whole, as of most files; between processes."""
        with np.errstate(invalid="ignore"):  # what is no number equals no byte
            levels = self.grey.astype(np.uint8)
        whole = np.array_equal(levels, self.grey)
        return _restore, (levels if whole else self.grey, self.header)


def read_image(
    source: ImageSource,
    *,
    size: int = IMAGE_SIZE,
    limits: ImageLimits = _DEFAULT_LIMITS,
    window: WindowSettings | str | None = None,
    frame: int | None = None,
) -> NDArray[np.float32]:
    """What the networks read, in training and serving: (size, size, 3) float32, 0..255, channels equal.

    Raises:
        ImageError: as `read_grey`.
    """
    return resize_image(read_grey(source, limits=limits, window=window, frame=frame), size)


def read_grey(
    source: ImageSource,
    *,
    limits: ImageLimits = _DEFAULT_LIMITS,
    window: WindowSettings | str | None = None,
    frame: int | None = None,
) -> NDArray[np.float32]:
    """One image as grey (height, width) float32, 0..255, at its own size; see `decode_image`."""
    return decode_image(source, limits=limits, window=window, frame=frame).grey


def decode_image(
    source: ImageSource,
    *,
    limits: ImageLimits = _DEFAULT_LIMITS,
    window: WindowSettings | str | None = None,
    frame: int | None = None,
) -> DecodedImage:
    """One image with what a DICOM file says of itself, the file parsed once.

    PNG, JPEG and DICOM from a path or bytes, a PIL image of any common mode, or an array (see
    `array.convert_array`). Colour becomes luminance, the EXIF orientation is applied, transparency
    is flattened over black, grey of more than 8 bits is scaled by its real range. Of a JPEG that
    holds several pictures (MPO) the first is taken.

    window, frame: of a DICOM file, see `DicomImage.render`; without a frame the one that
    `SliceStack.find_first_choice` names. Other images have neither.

    Raises:
        ImageError: one sentence, for what is missing, empty, damaged, truncated, animated, too
            large or of another kind. It names a path's last part only, and nothing of the content.
    """
    if isinstance(source, DecodedImage):
        return source
    if isinstance(source, Image.Image):
        return DecodedImage(convert_picture(source, _ANONYMOUS, limits))
    if isinstance(source, np.ndarray):
        return DecodedImage(convert_array(source, _ANONYMOUS, limits))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), _ANONYMOUS, limits, window, frame)
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        return _decode(_read_file(path, limits), _short_name(path), limits, window, frame)
    raise ImageError(f"Expected a path, bytes, a PIL image or a numpy array, got {type(source).__name__}.")


def read_header(source: ImageSource, *, limits: ImageLimits = _DEFAULT_LIMITS) -> ImageHeader | None:
    """What a DICOM file says of itself, None for any other image.

    Raises:
        ImageError: a file that cannot be opened, or a DICOM file that cannot be read.
    """
    if isinstance(source, DecodedImage):
        return source.header
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        data, what = _read_file(path, limits), _short_name(path)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data, what = bytes(source), _ANONYMOUS
    else:
        return None
    return read_dicom(data, what, limits).header if is_dicom(data) else None


def _restore(grey: NDArray[np.generic], header: ImageHeader | None) -> DecodedImage:
    return DecodedImage(grey.astype(np.float32), header)


def _short_name(path: str) -> str:
    """The last part of a path, fit for one line."""
    name = flatten_text(os.path.basename(path), "?")
    return (name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}...") or _ANONYMOUS


def _read_file(path: str, limits: ImageLimits) -> bytes:
    name = _short_name(path)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ImageError("{name} is not a file; expected a PNG, JPEG or DICOM file.", name=name)
        with open(path, "rb") as file:
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise ImageError("{what} can't be opened: {reason}.", what=name, reason=reason) from error


def _decode(
    data: bytes, what: str, limits: ImageLimits, window: WindowSettings | str | None, frame: int | None
) -> DecodedImage:
    """Dispatch on the content's signature; a new kind of file is one more branch here."""
    if not data:
        raise ImageError("{what} is empty (0 bytes); expected a PNG, JPEG or DICOM file.", what=what)
    if len(data) > limits.max_bytes:
        raise ImageError(
            "{what} is larger than {limit} MB; scale it down or save it as JPEG.",
            what=what,
            limit=f"{limits.max_bytes / 2**20:g}",
        )
    if data.startswith(png.SIGNATURE):
        check_pixels(*png.read_png_size(data, what), what, limits)
        return DecodedImage(decode_raster(png.check_png(data, what), what, limits))
    if data.startswith(jpeg.SIGNATURE):
        structure = jpeg.read_jpeg(data, what)
        check_pixels(structure.width, structure.height, what, limits)
        structure.check_scans(what)
        return DecodedImage(decode_raster(structure.strip(data), what, limits))
    if is_dicom(data):
        image = read_dicom(data, what, limits)
        chosen = stack_slices([image]).find_first_choice() if frame is None else frame
        return DecodedImage(image.render(window, chosen), image.header)
    kind = next((name for start, name in _FOREIGN.items() if data.startswith(start)), "something else")
    raise ImageError(
        "{what} is not a PNG, JPEG or DICOM file but {kind}; export it as PNG or JPEG.", what=what, kind=kind
    )
