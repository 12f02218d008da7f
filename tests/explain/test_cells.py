"""Maps of cells as pixels, and weighed by the lungs' share of each."""

from __future__ import annotations

import numpy as np

from covid_mm.explain.cells import enlarge_cells, interpolation_matrix, weigh_by_lungs

SIDE, GRID = 150, (9, 9)


def test_a_map_within_the_lungs_stays_and_one_beside_them_goes():
    lungs = np.zeros((SIDE, SIDE), np.float32)
    lungs[:, : SIDE // 2] = 1.0
    heat = np.ones((SIDE, SIDE), np.float32)
    weighed = weigh_by_lungs(heat, lungs, GRID)
    np.testing.assert_allclose(weighed[:, :50], 1.0, atol=1e-6)
    np.testing.assert_allclose(weighed[:, 100:], 0.0, atol=1e-6)
    assert weighed.dtype == np.float32
    np.testing.assert_array_equal(weigh_by_lungs(heat, np.ones_like(lungs), GRID).round(5), heat)
    assert not weigh_by_lungs(heat, np.zeros_like(lungs), GRID).any()


def test_at_a_cells_centre_it_is_the_cell_times_its_share_of_lung():
    rng = np.random.default_rng(0)
    cells = rng.uniform(0.1, 1.0, (3, 5)).astype(np.float32)
    side = 61  # where the grid's points fall on pixels
    heat = interpolation_matrix(side, 3) @ cells @ interpolation_matrix(side, 5).T
    lungs = np.zeros((side, side), np.float32)
    lungs[:, 31:] = 1.0
    weighed = weigh_by_lungs(heat, lungs, (3, 5))
    np.testing.assert_allclose(weighed[::30, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(weighed[::30, 60], cells[:, -1], rtol=1e-5)
    half = weighed[::30, 30] / cells[:, 2]
    assert np.all((half > 0.3) & (half < 0.7))  # the middle column of cells is half lung


def test_enlarged_maps_are_linear_between_their_cells():
    cells = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    enlarged = enlarge_cells(cells, 61)
    assert (enlarged.shape, enlarged.dtype) == ((3, 61, 61), np.float32)
    np.testing.assert_allclose(enlarged[:, ::20, ::15], cells, atol=1e-6)  # 60 pixels between the outer cells
    np.testing.assert_allclose(enlarged[:, 10, 0], cells[:, :2, 0].mean(axis=1), atol=1e-6)
