"""From any image a user may hand over to what the networks read: one decoder for training and serving.

    source.py   what was given (path, bytes, PIL image, array) and what it is, judged by its content
    png.py      a PNG's structure: size, checksums, animation, before a pixel is decoded
    jpeg.py     a JPEG's structure: size and number of scans, before a pixel is decoded
    raster.py   PNG, JPEG and PIL images to grey, through Pillow
    array.py    numpy arrays to grey
    resize.py   grey to the network's square

DICOM has its place in `source.py`: the signature is recognised there, and a later `dicom.py` plugs
into the dispatch of `read_grey`.
"""

from __future__ import annotations

from covid_mm.config import ImageLimits
from covid_mm.imaging.resize import resize_grey, resize_image
from covid_mm.imaging.source import ImageSource, read_grey, read_image

__all__ = ["ImageLimits", "ImageSource", "read_grey", "read_image", "resize_grey", "resize_image"]
