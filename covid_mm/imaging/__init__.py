"""From any image a user may hand over to what the networks read: one decoder for training and serving.

source.py   what was given (path, bytes, PIL image, array) and what it is, judged by its content
png.py      a PNG's structure: size, checksums, animation, before a pixel is decoded
jpeg.py     a JPEG's structure: size, segments and scans, before a pixel is decoded
raster.py   PNG, JPEG and PIL images to grey, through Pillow
dicom.py    a DICOM file through pydicom; transfer.py: how its pixels are written;
            silence.py: nothing of it is logged
window.py   window level and width; series.py: several slices as one stack
array.py    numpy arrays to grey
resize.py   grey to the network's square
"""

from __future__ import annotations

from covid_mm.config import ImageLimits
from covid_mm.imaging.dicom import DicomImage, FilmFrame, ImageHeader, read_dicom, read_frame
from covid_mm.imaging.resize import resize_grey, resize_image
from covid_mm.imaging.series import SliceStack, stack_slices
from covid_mm.imaging.source import (
    DecodedImage,
    ImageSource,
    decode_image,
    read_grey,
    read_header,
    read_image,
)
from covid_mm.imaging.transfer import is_dicom
from covid_mm.imaging.window import WINDOW_PRESETS, WindowSettings

__all__ = [
    "WINDOW_PRESETS",
    "DecodedImage",
    "DicomImage",
    "FilmFrame",
    "ImageHeader",
    "ImageLimits",
    "ImageSource",
    "SliceStack",
    "WindowSettings",
    "decode_image",
    "is_dicom",
    "read_dicom",
    "read_frame",
    "read_grey",
    "read_header",
    "read_image",
    "resize_grey",
    "resize_image",
    "stack_slices",
]
