"""DICOM files that the tests write: a small phantom of air, water and bone, in any transfer syntax."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

AIR, LUNG, WATER, BONE = -1000, -800, 0, 1000
CT, FILM = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1"
SECRET = "ZZPHI^PLANTED"


def slice_hu(side: int = 16) -> np.ndarray:
    """Quarters of air, lung, water and bone, (side, side) int16, in Hounsfield units."""
    image = np.full((side, side), AIR, np.int16)
    half = side // 2
    image[:half, half:], image[half:, :half], image[half:, half:] = LUNG, WATER, BONE
    return image


def make_dataset(
    pixels: np.ndarray, *, modality: str = "CT", syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> FileDataset:
    """A dataset of stored values: (rows, columns), (frames, rows, columns) or (rows, columns, 3)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT if modality == "CT" else FILM)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, UID("1.2.3.4")
    dataset.PatientName, dataset.PatientID = SECRET, "ZZPHI-7"
    dataset.Modality = modality
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def write(dataset: Dataset) -> bytes:
    """The file's bytes."""
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def ct_slice(pixels: np.ndarray | None = None, **tags: Any) -> bytes:
    """A CT slice's file; of the phantom without pixels."""
    return write(make_dataset(slice_hu() if pixels is None else pixels, **tags))


def film(pixels: np.ndarray, **tags: Any) -> bytes:
    """An X-ray's file."""
    return write(make_dataset(pixels, modality=tags.pop("modality", "DX"), **tags))
