"""From any image a user may hand over to what the networks read: one decoder for training and serving.

source.py   what was given (path, bytes, PIL image, array) and what it is, judged by its content
png.py      a PNG's structure: size, checksums, animation, before a pixel is decoded
jpeg.py     a JPEG's structure: size, segments and scans, before a pixel is decoded
raster.py   PNG, JPEG and PIL images to grey, through Pillow
dicom.py    a DICOM file through pydicom; transfer.py: how its pixels are written;
            silence.py: nothing of it is logged
geometry.py where a DICOM file's slices lie; dicom_header.py: what may leave its header
scan.py     a whole CT scan, of DICOM files or (nifti.py) a NIfTI volume
window.py   window level and width; series.py: several slices as one stack
array.py    numpy arrays to grey
resize.py   grey to the network's square
"""

from __future__ import annotations

from covid_mm.config import ImageLimits
from covid_mm.imaging.dicom import DicomImage, FilmFrame, read_dicom, read_frame
from covid_mm.imaging.dicom_header import ImageHeader
from covid_mm.imaging.nifti import is_nifti
from covid_mm.imaging.resize import resize_grey, resize_image, to_network_input
from covid_mm.imaging.scan import CtScan, SeriesSummary, assemble_scan, read_scan
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
    "CtScan",
    "DecodedImage",
    "DicomImage",
    "FilmFrame",
    "ImageHeader",
    "ImageLimits",
    "ImageSource",
    "SeriesSummary",
    "SliceStack",
    "WindowSettings",
    "assemble_scan",
    "decode_image",
    "is_dicom",
    "is_nifti",
    "read_dicom",
    "read_frame",
    "read_grey",
    "read_header",
    "read_image",
    "read_scan",
    "resize_grey",
    "resize_image",
    "stack_slices",
    "to_network_input",
]
