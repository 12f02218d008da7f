"""Heat beside the lungs, and two methods that point to different places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from covid_mm.explain.heat_checks import (
    contradict,
    correlate_ranks,
    find_distance,
    find_share_outside,
    second_method,
)

LEFT = np.array([[0.1, 0.1], [0.4, 0.1], [0.4, 0.9], [0.1, 0.9]], np.float32)
RIGHT = np.array([[0.6, 0.1], [0.9, 0.1], [0.9, 0.9], [0.6, 0.9]], np.float32)


def point(row: int, column: int, side: int = 150) -> np.ndarray:
    heat = np.zeros((side, side), np.float32)
    heat[row, column] = 1.0
    return heat


@pytest.mark.parametrize(
    ("heat", "share"),
    [(point(75, 30), 0.0), (point(75, 75), 1.0), (point(75, 30) + 3 * point(75, 75), 0.75)],
)
def test_share_outside_is_of_all_heat_that_is_in_no_lung(heat, share):
    assert find_share_outside(heat, [LEFT, RIGHT]) == pytest.approx(share)


def test_share_outside_of_nothing_is_not_known():
    assert find_share_outside(np.zeros((150, 150), np.float32), [LEFT]) is None
    assert find_share_outside(point(75, 30), []) is None


def test_share_outside_is_in_the_frame_of_any_image():
    heat = np.zeros((100, 200), np.float32)
    heat[50, 50] = heat[50, 100] = 1.0
    assert find_share_outside(heat, [LEFT, RIGHT]) == pytest.approx(0.5)


def test_ranks_are_correlated_as_by_scipy():
    generator = np.random.default_rng(0)
    first, second = (generator.integers(0, 9, (10, 10)).astype(np.float32) for _ in range(2))  # with ties
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert correlate_ranks(first, second) == pytest.approx(expected)
    assert correlate_ranks(first, -first) == pytest.approx(-1.0)
    assert correlate_ranks(first, np.ones((10, 10), np.float32)) == 1.0


def test_slices_contradict_by_their_hottest_points_films_by_all_cells():
    near, far = point(20, 20), point(140, 140)
    assert find_distance(near, far) == pytest.approx(120 / 149)
    assert contradict(near, far, "ct")
    assert not contradict(near, point(30, 30), "ct")
    slope = np.tile(np.linspace(0.0, 1.0, 150, dtype=np.float32), (150, 1))
    assert contradict(slope, slope[:, ::-1], "xray")
    assert not contradict(slope, slope**2, "xray")
    for modality in ("ct", "xray"):
        assert not contradict(near, np.zeros_like(near), modality)


def test_a_method_is_never_its_own_second():
    assert second_method("layer_cam") == "hires_cam"
    assert second_method("hires_cam") == "layer_cam"
