"""Whole CT scans: DICOM series and NIfTI volumes put in order, the chest first, everything else left out."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from dicom_files import ct_slice, film, make_dataset, write
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scan_files import CORONAL, HEAD, SCOUT, chest_hu, nifti_file, series_files

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import WINDOW_PRESETS, is_nifti, read_grey, read_scan
from covid_mm.imaging.dicom import PADDING

VOLUME = chest_hu()
NOISE = np.random.default_rng(0).integers(-1000, 1000, VOLUME.shape, np.int16)  # hardly packed


def numbers(scan):
    return [int(part[0, 0]) for part in scan.slices]


@pytest.fixture(scope="module")
def files():
    return series_files(VOLUME)


def test_slices_are_sorted_by_position_and_equal_each_file_alone(files):
    order = np.random.default_rng(0).permutation(len(files))
    scan = read_scan([files[number] for number in order])
    assert numbers(scan) == [0, 1, 2, 3, 4, 5]
    assert scan.positions == (-200.0, -195.0, -190.0, -185.0, -180.0, -175.0)
    assert scan.slices[0].dtype == np.int16
    for index, data in enumerate(files):
        for window in (None, "mediastinum"):
            np.testing.assert_array_equal(scan.render(index, window), read_grey(data, window=window))
    assert scan.find_window() == WINDOW_PRESETS["lung"]
    assert scan.series[0].spacing_mm == 5.0
    with pytest.raises(ImageError, match="There are 6 slices; there is no slice 7"):
        scan.render(6)


def test_values_that_are_no_whole_numbers_and_padding_are_as_in_the_file_alone():
    stored = VOLUME.astype(np.int16)
    stored[:, :4] = -2000
    tags = {"RescaleSlope": "0.37", "RescaleIntercept": "-3.3", "PixelPaddingValue": -2000}
    contents = series_files(stored, **tags)
    scan = read_scan(contents)
    assert scan.slices[0].dtype == np.float32
    assert (scan.slices[0][:4] == PADDING).all()
    np.testing.assert_array_equal(scan.render(2), read_grey(contents[2]))


def test_the_chest_series_is_first_and_others_can_be_asked_for(files):
    head = series_files(chest_hu(9, lungs=False), HEAD)
    scan = read_scan([*head, *files])
    assert (len(scan), len(scan.series), scan.chosen) == (6, 2, 0)
    assert [part.lung_slices for part in scan.series] == [6, 0]
    assert scan.left_out == {"of another series": 9}
    assert len(read_scan([*head, *files], series=1)) == 9
    with pytest.raises(ImageError, match="holds 2 series; there is no series 3"):
        read_scan([*head, *files], series=2)


def test_localizers_and_reformats_are_left_out(files):
    scout = ct_slice(VOLUME[0], SeriesInstanceUID=SCOUT, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    coronal = series_files(chest_hu(12), "1.2.826.4", ImageOrientationPatient=CORONAL)
    scan = read_scan([scout, *coronal, *files])
    assert numbers(scan) == [0, 1, 2, 3, 4, 5]
    assert scan.left_out == {"localizer": 1, "not axial": 12}
    with pytest.raises(
        ImageError,
        match="no axial CT slice, but 1 localizers, 12 slices that are not axial, and 0 other files",
    ):
        read_scan([scout, *coronal])


def test_a_multi_frame_file_with_positions_of_its_own_and_one_without():
    frames = make_dataset(VOLUME[::-1].copy())
    assert numbers(read_scan([write(frames)])) == [5, 4, 3, 2, 1, 0]
    enhanced = make_dataset((VOLUME[::-1] + 1024).astype(np.int16))
    del enhanced.RescaleSlope
    del enhanced.RescaleIntercept
    orientation, rescale = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale.RescaleSlope, rescale.RescaleIntercept = "1", "-1024"
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    enhanced.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for number in range(len(VOLUME)):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 100.0 - number]
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    enhanced.PerFrameFunctionalGroupsSequence = Sequence(groups)
    scan = read_scan([write(enhanced)])
    assert numbers(scan) == [0, 1, 2, 3, 4, 5]
    assert scan.positions[0] == 95.0


@pytest.mark.parametrize("pack", [True, False])
def test_a_nifti_volume_is_turned_to_axial_slices_seen_from_the_feet(files, pack):
    data = nifti_file(VOLUME, pack=pack)
    assert is_nifti(data)
    scan, series = read_scan([data]), read_scan(files)
    for index in range(len(scan)):
        np.testing.assert_array_equal(scan.render(index), series.render(index))
    assert np.diff(scan.positions).tolist() == [5.0] * 5
    # stored in another order of axes, with the affine that says so
    turned = np.ascontiguousarray(VOLUME.transpose(2, 0, 1))
    affine = np.array([[0, 0, -2.0, 0], [-2.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 0, 1.0]])
    again = read_scan([nifti_file(turned, affine=affine)])
    np.testing.assert_array_equal(np.stack(again.slices), np.stack(scan.slices))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: nifti_file(NOISE)[:-200], "is truncated"),
        (lambda: nifti_file(VOLUME, pack=False)[:400], "truncated"),
        (
            lambda: nifti_file((VOLUME > 0).astype(np.uint8)),
            "holds no Hounsfield units: its lowest value is 0",
        ),
        (lambda: nifti_file(VOLUME.astype(np.complex64)), "complex numbers"),
        (lambda: nifti_file(np.full((4, 8, 8), np.nan, np.float32)), "not numbers"),
        (lambda: nifti_file(VOLUME, affine=np.diag([1.0, 9.0, 1.0, 1.0])), "slices that are not axial"),
    ],
)
def test_nifti_volumes_that_are_refused(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        read_scan([data()])
    assert str(caught.value).count(".") <= 3


def test_a_nifti_bomb_is_refused_by_its_header():
    content = bytearray(nifti_file(VOLUME, pack=False))
    content[42:48] = np.array([32000, 32000, 3000], np.int16).tobytes()
    packed = gzip.compress(bytes(content) + bytes(50_000_000))
    assert len(packed) < 200_000
    with pytest.raises(ImageError, match=r"has 32000 x 32000 x 3000 values; at most 300 million"):
        read_scan([packed])


def test_limits_and_other_files(files):
    with pytest.raises(ImageError, match=r"more than 0.003 million pixels"):
        read_scan(files, limits=ImageLimits(max_series_pixels=3000))
    with pytest.raises(ImageError, match="has 6 slices; at most 5 are taken"):
        read_scan(files, limits=ImageLimits(max_series_slices=5))
    with pytest.raises(ImageError, match="file 2 of 7 is not DICOM"):
        read_scan([files[0], b"notes", *files[1:]])
    scan = read_scan([b"notes", *files, files[0][:-500]], strict=False)
    assert scan.left_out == {"not DICOM": 1, "not readable as an image": 1}
    with pytest.raises(ImageError, match="holds no file"):
        read_scan([])
    with pytest.raises(ImageError, match="NIfTI volume and other files"):
        read_scan([nifti_file(VOLUME), *files])


def test_files_that_are_no_ct_are_shown_as_each_alone():
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    contents = [film(pixels + step, SeriesInstanceUID="1.2.9", InstanceNumber=step) for step in range(2)]
    scan = read_scan(contents)
    assert not scan.hounsfield
    assert scan.find_window() is None
    assert scan.header is not None
    assert scan.header.modality == "xray"
    np.testing.assert_array_equal(scan.render(1), read_grey(contents[1]))
