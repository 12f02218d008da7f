"""Heatmaps as colours: shapes, ranges, the all-zero map, inputs left alone, bad input refused."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.errors import ImageError, UsageError
from covid_mm.explain.cells import interpolation_matrix
from covid_mm.explain.overlay import (
    blend_heatmap,
    colour_heatmap,
    draw_colour_bar,
    find_cells,
    resize_heatmap,
)
from covid_mm.imaging.lungs import place_in_image


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(20, 30, 3), dtype=np.uint8)


@pytest.fixture
def heatmap() -> np.ndarray:
    return np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)


def luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])


def test_colours_have_shape_type_and_rgb_order(heatmap):
    colours = colour_heatmap(heatmap)
    assert colours.shape == (20, 30, 3)
    assert colours.dtype == np.uint8
    assert colours[0, 0].max() < 10  # inferno starts near black
    # ... passes orange (red above blue: the channels are not swapped) and ends in pale yellow
    assert colours[14, 0, 0] > 200 > colours[14, 0, 2]
    assert colours[-1, -1].tolist() == [252, 255, 164]


def test_colours_grow_lighter_with_the_value():
    scale = luminance(colour_heatmap(np.linspace(0, 1, 256, dtype=np.float32)[np.newaxis]))[0]
    assert np.diff(scale).min() > -1.0  # rounding to whole levels may cost less than one
    assert np.diff(scale[::8]).min() > 0


@pytest.mark.parametrize("opacity", [0.0, 0.5, 1.0])
def test_zero_map_leaves_the_image_unchanged(image, opacity):
    blended = blend_heatmap(image, np.zeros((20, 30), np.float32), opacity)
    np.testing.assert_array_equal(blended, image)
    assert not np.shares_memory(blended, image)


def test_zero_opacity_leaves_the_image_unchanged(image, heatmap):
    np.testing.assert_array_equal(blend_heatmap(image, heatmap, 0.0), image)


def test_full_opacity_shows_the_colour_alone_from_half_of_the_scale(image, heatmap):
    blended = blend_heatmap(image, heatmap, 1.0)
    strong = heatmap >= 0.5
    np.testing.assert_array_equal(blended[strong], colour_heatmap(heatmap)[strong])


def test_blend_is_the_mean_at_half_opacity():
    image = np.full((1, 2, 3), 100, np.uint8)
    blended = blend_heatmap(image, np.array([[0.0, 1.0]], np.float32), 0.5)
    assert blended.tolist() == [[[100, 100, 100], [176, 178, 132]]]  # (100 + 252, 255, 164) / 2


def test_opacity_grows_with_the_evidence():
    image = np.zeros((1, 11, 3), np.uint8)
    values = np.linspace(0, 1, 11, dtype=np.float32)[np.newaxis]
    change = luminance(blend_heatmap(image, values, 0.6))[0]
    assert np.all(np.diff(change) > 0)


def test_inputs_are_not_changed(image, heatmap):
    before = image.copy(), heatmap.copy()
    image.setflags(write=False)
    heatmap.setflags(write=False)
    blend_heatmap(image, heatmap, 0.7)
    resize_heatmap(heatmap, 7, 9)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(heatmap, before[1])


def test_transposed_views_are_taken(image, heatmap):
    straight = blend_heatmap(image, heatmap)
    turned = blend_heatmap(image.transpose(1, 0, 2), heatmap.T)
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), straight)


@pytest.mark.parametrize(
    "bad",
    [
        np.full((4, 4), np.nan, np.float32),
        np.array([[0.5, np.inf]], np.float32),
        np.array([[0.5, 1.01]], np.float32),
        np.array([[-0.01, 0.5]], np.float32),
        np.zeros((4, 4, 1), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((4, 4), np.uint8),
    ],
    ids=["nan", "inf", "above", "below", "3d", "empty", "uint8"],
)
def test_bad_heatmaps_are_refused(bad):
    with pytest.raises(ImageError, match=r"heatmap must"):
        colour_heatmap(bad)
    with pytest.raises(ImageError, match=r"heatmap must"):
        resize_heatmap(bad, 8, 8)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((20, 30), np.uint8), ((20, 30, 4), np.uint8), ((20, 30, 3), np.float32), ((30, 20, 3), np.uint8)],
)
def test_bad_images_are_refused(shape, dtype, heatmap):
    with pytest.raises(ImageError, match="must"):
        blend_heatmap(np.zeros(shape, dtype), heatmap)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_bad_opacity_is_refused(image, heatmap, opacity):
    with pytest.raises(UsageError, match="between 0 and 1"):
        blend_heatmap(image, heatmap, opacity)


def test_colour_bar_stands_with_one_at_the_top_and_lies_with_one_at_the_right():
    standing = draw_colour_bar(120, 10)
    assert standing.shape == (120, 10, 3)
    assert standing.dtype == np.uint8
    assert standing[0, 0].tolist() == [252, 255, 164]
    assert standing[-1, 0].max() < 10
    lying = draw_colour_bar(10, 120)
    np.testing.assert_array_equal(lying, standing.transpose(1, 0, 2)[:, ::-1])


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1), (1, 1)])
def test_impossible_colour_bars_are_refused(height, width):
    with pytest.raises(UsageError, match="colour bar"):
        draw_colour_bar(height, width)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (7, 9), (20, 5), (1, 1), (20, 30)])
def test_resized_heatmap_has_the_wanted_size_and_stays_in_range(heatmap, height, width):
    resized = resize_heatmap(heatmap, height, width)
    assert resized.shape == (height, width)
    assert resized.dtype == np.float32
    assert resized.min() >= 0
    assert resized.max() <= 1
    assert resized.mean() == pytest.approx(0.5, abs=0.02)


def test_resizing_keeps_a_peak_where_it_was():
    heatmap = np.zeros((15, 15), np.float32)
    heatmap[3, 11] = 1.0
    resized = resize_heatmap(heatmap, 300, 600)
    row, column = np.unravel_index(np.argmax(resized), resized.shape)
    assert row / 300 == pytest.approx(3.5 / 15, abs=0.02)
    assert column / 600 == pytest.approx(11.5 / 15, abs=0.02)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1)])
def test_impossible_sizes_are_refused(heatmap, height, width):
    with pytest.raises(UsageError, match="at least 1 pixel"):
        resize_heatmap(heatmap, height, width)


BOX = (0.2, 0.1, 0.85, 0.9)


def test_the_cells_of_an_interpolated_map_come_back_and_each_holds_its_hottest_point():
    """As the predictor draws a map: cells to 150 pixels ends on ends, those into the lungs' box."""
    cells = np.random.default_rng(4).random((9, 9)).astype(np.float32)
    enlarge = interpolation_matrix(150, 9)
    heatmap = place_in_image(enlarge @ cells @ enlarge.T, BOX, 512, 480)
    result = find_cells(heatmap, (9, 9), BOX)
    assert result.values.shape == (9, 9)
    assert np.abs(result.values - cells).max() < 0.06  # within what two interpolations round
    drawn = result.draw(1000, 900)
    assert set(np.unique(drawn)) == {0.0, *result.values.ravel()}  # nothing between two cells
    assert (drawn[:99] == 0).all()
    assert (drawn[:, :179] == 0).all()
    hottest = np.unravel_index(int(cells.argmax()), cells.shape)
    x0, y0, x1, y1 = result.find_corners(*map(int, hottest))
    point = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    assert y0 - 0.01 <= (point[0] + 0.5) / 512 <= y1 + 0.01
    assert x0 - 0.01 <= (point[1] + 0.5) / 480 <= x1 + 0.01


def test_lines_run_along_the_cells_and_enclose_what_is_high():
    heatmap = np.zeros((90, 90), np.float32)
    heatmap[30:60, 30:90] = 0.6  # two of nine cells, at the edge
    result = find_cells(heatmap, (3, 3))
    np.testing.assert_allclose(result.draw(3, 3), [[0, 0, 0], [0, 0.6, 0.6], [0, 0, 0]], atol=1e-6)
    third = 1 / 3
    sides = {tuple(round(value, 3) for value in line) for line in result.trace(0.5)}
    across = {(x, y, x + third, y) for x in (third, 2 * third) for y in (third, 2 * third)}
    down = {(third, third, third, 2 * third), (1.0, third, 1.0, 2 * third)}
    assert sides == {tuple(round(value, 3) for value in line) for line in across | down}
    assert result.trace(0.7) == []
    with pytest.raises(UsageError, match="at least one cell"):
        find_cells(heatmap, (0, 3))
