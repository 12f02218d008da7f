"""CT series that the tests write: DICOM files in any order, NIfTI volumes, ZIPs; a chest of two air-filled ovals."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from dicom_files import ct_slice

AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]
CHEST, HEAD, SCOUT = "1.2.826.1", "1.2.826.2", "1.2.826.3"


def chest_hu(count: int = 6, side: int = 32, *, lungs: bool = True) -> np.ndarray:
    """A body in air with two lungs, (count, side, side) int16 HU; the slice's number is in its corner."""
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    hu = np.full((side, side), -1000, np.int16)
    hu[(rows / 0.4) ** 2 + (columns / 0.47) ** 2 < 1] = 40
    if lungs:
        for middle in (-0.2, 0.2):
            hu[(rows / 0.25) ** 2 + ((columns - middle) / 0.13) ** 2 < 1] = -850
    volume = np.repeat(hu[None], count, axis=0)
    volume[:, 0, 0] = np.arange(count)
    return volume


def series_files(
    volume: np.ndarray, uid: str = CHEST, *, thickness: float = 5.0, first: float = -200.0, **tags: Any
) -> list[bytes]:
    """One file per slice, feet first."""
    orientation = tags.pop("ImageOrientationPatient", AXIAL)
    return [
        ct_slice(
            hu,
            SeriesInstanceUID=uid,
            InstanceNumber=len(volume) - number,
            ImageOrientationPatient=orientation,
            ImagePositionPatient=[-160.0, -160.0, first + thickness * number],
            **tags,
        )
        for number, hu in enumerate(volume)
    ]


def nifti_file(volume: np.ndarray, *, affine: np.ndarray | None = None, pack: bool = True) -> bytes:
    """A .nii or .nii.gz of a volume (levels, rows, columns) as DICOM has it, voxels of 2 x 2 x 5 mm."""
    import nibabel

    data = np.ascontiguousarray(np.asarray(volume).transpose(2, 1, 0))
    if affine is None:
        affine = np.diag([-2.0, -2.0, 5.0, 1.0])  # columns go to the left, rows to the back
    content: bytes = nibabel.Nifti1Image(data, affine).to_bytes()
    return gzip.compress(content) if pack else content


def zip_files(members: Mapping[str, bytes]) -> bytes:
    """A ZIP of these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()
