"""Lungs of an image: the region a probability map shows, the crop, its grey levels and its way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covid_mm.errors import ImageError
from covid_mm.imaging.lungs import (
    cut_map,
    find_dark_regions,
    find_percentiles,
    find_region,
    place_in_image,
    read_lungs,
)

SOFT, DARK, AIR = 150.0, 60.0, 5.0  # grey of the made-up slice


def lung_map(size: int = 64, *extra: tuple[slice, slice]) -> np.ndarray:
    """Probability with two lungs: rows 1/4 to 3/4, columns 1/8 to 3/8 and 5/8 to 7/8."""
    values = np.full((size, size), 0.02, np.float32)
    eighth = size // 8
    values[2 * eighth : 6 * eighth, eighth : 3 * eighth] = 0.97
    values[2 * eighth : 6 * eighth, 5 * eighth : 7 * eighth] = 0.97
    for part in extra:
        values[part] = 0.97
    return values


def slice_of(size: int = 256, seed: int = 0) -> np.ndarray:
    """A grey slice that fits `lung_map`: a body in air, two dark lungs, noise in both."""
    row, column = np.mgrid[0:size, 0:size] / size
    image = np.where(np.hypot((row - 0.5) / 0.42, (column - 0.5) / 0.48) < 1, SOFT, AIR)
    lungs = (row >= 0.25) & (row < 0.75) & (np.abs(np.abs(column - 0.5) - 0.25) < 0.125)
    image = np.where(lungs, DARK, image)
    return (image + np.random.default_rng(seed).normal(0, 3, image.shape)).astype(np.float32)


def test_the_box_holds_both_lungs_and_a_margin():
    region = find_region(lung_map(), "ct")
    wide, high = 0.06 * 0.75, 0.06 * 0.5
    expected = (0.125 - wide, 0.25 - high, 0.875 + wide, 0.75 + high)
    assert region.box == pytest.approx(expected, abs=0.01)
    assert region.lungs.shape == region.shown.shape == (256, 256)
    assert region.lungs.dtype == region.shown.dtype == np.bool_
    assert region.lungs.mean() == pytest.approx(0.25, abs=0.01)
    assert region.shown[region.lungs].all()
    assert len(region.outline) == 2
    for polygon in region.outline:
        assert polygon.dtype == np.float32
        assert polygon.shape[1] == 2
        assert 0.24 < polygon[:, 1].min() < polygon[:, 1].max() < 0.76


def test_the_margin_ends_at_the_border():
    values = np.full((64, 64), 0.9, np.float32)
    assert find_region(values, "xray").box == (0.0, 0.0, 1.0, 1.0)


def test_small_components_are_dropped():
    clean = find_region(lung_map(), "ct")
    specks = find_region(lung_map(64, np.s_[1:4, 1:4], np.s_[58:62, 30:35]), "ct")
    assert specks.box == clean.box
    assert len(specks.outline) == 2
    # but a second lung, far smaller than the first, is one
    values = lung_map()
    values[:, 32:] = 0.02
    values[20:34, 44:50] = 0.97
    assert len(find_region(values, "ct").outline) == 2


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_without_lungs_there_is_no_region(modality):
    assert find_region(np.zeros((64, 64), np.float32), modality) is None
    assert find_region(np.full((64, 64), 0.49, np.float32), modality) is None
    speck = np.zeros((64, 64), np.float32)
    speck[10:13, 10:13] = 1.0
    assert find_region(speck, modality) is None


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (0.4, 60.0)])
def test_dark_regions_in_the_body_are_lungs(gain, shift):
    exact = find_region(lung_map(256), "ct").lungs
    assert dice(find_dark_regions(gain * slice_of(300) + shift, "ct").lungs, exact) > 0.97
    padded = np.pad(gain * slice_of() + shift, 60)  # exactly black round the field of view
    inner = np.pad(exact, 60)
    lungs = find_dark_regions(padded, "ct").lungs
    assert lungs.mean() == pytest.approx(inner.mean(), rel=0.06)
    assert find_dark_regions(np.zeros((40, 40), np.float32), "ct") is None
    assert find_dark_regions(np.full((40, 40), 90.0, np.float32), "ct") is None


def test_a_film_shows_more_lung_than_a_slice_must():
    apex = np.zeros((64, 64), np.float32)
    apex[10:18, 10:20] = 1.0  # 2 % of the image
    assert find_region(apex, "ct") is not None
    assert find_region(apex, "xray") is None


def test_a_map_of_any_shape_gives_the_same_region():
    small = find_region(lung_map(64), "ct")
    stretched = find_region(np.repeat(lung_map(128), 2, axis=1), "ct")
    assert stretched.box == pytest.approx(small.box, abs=0.01)


@pytest.mark.parametrize("modality", ["ct", "xray"])
@pytest.mark.parametrize(("gain", "shift"), [(0.5, 20.0), (1.3, -15.0)])
def test_the_window_does_not_change_the_crop(modality, gain, shift):
    grey, region = slice_of(), find_region(lung_map(), modality)
    first = read_lungs(grey, region, modality, 75)
    second = read_lungs(grey * np.float32(gain) + np.float32(shift), region, modality, 75)
    assert first.shape == (75, 75)
    assert first.dtype == np.float32
    assert 0.0 <= first.min() <= first.max() <= 255.0
    assert np.abs(first - second).max() < 0.1


def test_grey_levels_of_a_slice_are_fixed():
    with pytest.raises(ImageError, match="ct or xray"):
        read_lungs(slice_of(), find_region(lung_map(), "ct"), "mri", 100)
    crop = read_lungs(slice_of(), find_region(lung_map(), "ct"), "ct", 100)
    assert np.median(crop[30:70, 15:30]) == pytest.approx(40.0, abs=12.0)  # lung, above its 5th percentile
    assert np.median(crop[30:70, 45:55]) == pytest.approx(190.0, abs=4.0)  # between the lungs
    # air around the body counts for nothing in what soft tissue is
    padded = np.pad(slice_of(), 40, constant_values=AIR)
    values = np.pad(lung_map(256), 40, constant_values=0.02)
    again = read_lungs(padded, find_region(values, "ct"), "ct", 100)
    assert np.abs(crop - again)[5:95, 5:95].mean() < 4.0


def test_beyond_the_lungs_rim_a_slice_is_soft_tissue_and_a_film_is_itself():
    grey = slice_of()
    region = find_region(lung_map(), "ct")
    crop = read_lungs(grey, region, "ct", 150, room=0.12)
    shown = cut_map(region.shown.astype(np.float32), region.box, 150, room=0.12)
    assert (crop[shown == 0] == 190.0).all()
    assert (shown == 0).mean() > 0.1
    film = read_lungs(grey, region, "xray", 150, room=0.12)
    assert film[shown == 0].std() > 10


@pytest.mark.parametrize("at_the_border", [False, True])
def test_the_rim_of_a_slice_reaches_as_far_everywhere(at_the_border):
    probability = np.zeros((256, 256), np.float32)
    start = 0 if at_the_border else 60
    probability[start : start + 100, start : start + 100] = 1.0
    shown = find_region(probability, "ct").shown
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))  # a 25th of the image's side to each side
    np.testing.assert_array_equal(shown, cv2.dilate((probability > 0).astype(np.uint8), rim).astype(bool))


def test_what_lies_beyond_the_rim_does_not_reach_the_network():
    """Letters, a table or another hospital's border outside leave a CT crop as it was."""
    region = find_region(lung_map(), "ct")
    plain, marked = slice_of(), slice_of()
    outside = ~region.shown
    marked[outside & (np.random.default_rng(1).random(outside.shape) < 0.1)] = SOFT
    difference = np.abs(read_lungs(plain, region, "ct", 64) - read_lungs(marked, region, "ct", 64))
    assert np.median(difference) < 1.0
    assert difference.mean() < 3.0


def test_a_round_field_of_view_gives_the_same_lungs():
    grey, region = slice_of(), find_region(lung_map(), "ct")
    row, column = np.mgrid[-1:1:256j, -1:1:256j]
    rounded = np.where(np.hypot(row, column) > 0.97, 0.0, grey).astype(np.float32)
    difference = np.abs(read_lungs(grey, region, "ct", 100) - read_lungs(rounded, region, "ct", 100))
    assert difference[30:70].max() < 3.0


def test_room_adds_a_frame_at_the_same_scale_and_grey():
    grey, region = slice_of(300), find_region(lung_map(), "ct")
    exact = read_lungs(grey, region, "ct", 150)
    wide = read_lungs(grey, region, "ct", 150, room=0.12)
    assert wide.shape == (186, 186)
    assert np.abs(wide[18:168, 18:168] - exact).max() < 0.1


def test_a_map_of_the_crop_goes_back_to_its_place():
    region = find_region(lung_map(), "ct")
    lesion = np.zeros((200, 320), np.float32)
    lesion[70:110, 50:100] = 1.0
    crop = cut_map(lesion, region.box, 160)
    assert crop.shape == (160, 160)
    back = place_in_image(crop, region.box, 200, 320)
    assert back.shape == lesion.shape
    assert back.dtype == np.float32
    overlap = ((back > 0.5) & (lesion > 0.5)).sum() / ((back > 0.5) | (lesion > 0.5)).sum()
    assert overlap > 0.92
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(region.box, (320, 200, 320, 200), strict=True))
    back[y0:y1, x0:x1] = 0.0
    assert not back.any()


def test_a_map_beyond_the_image_is_empty():
    assert cut_map(np.ones((50, 50), np.float32), (0.0, 0.0, 1.0, 1.0), 100, room=0.1)[0].max() == 0.0
    assert place_in_image(np.ones((4, 4), np.float32), (0.9, 0.9, 1.0, 1.0), 10, 10).sum() == 1.0


@pytest.mark.parametrize("modality", ["ct", "xray"])
@pytest.mark.parametrize("shape", [(37, 512), (512, 37), (2000, 1500), (12, 12)])
def test_images_of_any_size_are_read(modality, shape):
    grey = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    crop = read_lungs(grey, find_region(lung_map(), modality), modality, 50)
    assert crop.shape == (50, 50)
    assert np.isfinite(crop).all()


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_an_even_image_stays_finite(modality):
    crop = read_lungs(np.full((80, 80), 100.0, np.float32), find_region(lung_map(), modality), modality, 40)
    assert np.isfinite(crop).all()


@pytest.mark.parametrize("shape", [(8, 8, 3), (0, 5), (9,)])
def test_other_arrays_are_refused(shape):
    with pytest.raises(ImageError, match="Expected a grey image"):
        read_lungs(np.zeros(shape, np.float32), find_region(lung_map(), "ct"), "ct", 32)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_percentiles_are_numpys(count):
    values = np.random.default_rng(count).uniform(0, 255, count).astype(np.float32)
    expected = [np.percentile(values, percent) for percent in (0, 2, 50, 98, 100)]
    np.testing.assert_allclose(find_percentiles(values, 0, 2, 50, 98, 100), expected, rtol=1e-6)
