"""Heat on the lesion by hand: hottest point, shares, boxes, deletion and insertion, the sanity check."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation import wilson_interval
from covid_mm.evaluation.heat_faithfulness import (
    compare_with_random,
    deletion_curve,
    insertion_curve,
    mean_area,
)
from covid_mm.evaluation.heat_location import HeatRow, find_hottest, measure_heat, summarise_heat
from covid_mm.reporting.card_tables import HEAT
from covid_mm.reporting.card_writer import CARD, make_table


def spot(*points: tuple[int, int], shape: tuple[int, int] = (4, 5)) -> np.ndarray:
    """A map, or mask, of 1 at these points."""
    values = np.zeros(shape)
    for point in points:
        values[point] = 1.0
    return values


def test_the_hottest_point():
    assert find_hottest(np.array([[0.0, 0.2], [0.9, 0.1]])) == (1, 0)
    assert find_hottest(np.zeros((3, 3))) is None
    assert find_hottest(spot((0, 0), (0, 1), (0, 2))) == (0, 1)  # the middle of a plateau
    assert find_hottest(spot((0, 0), (3, 4))) == (0, 0)  # equally far from their middle: the first
    # two plateaus: the point nearest to the middle of all, which lies in neither
    assert find_hottest(spot((0, 0), (0, 1), (0, 4))) == (0, 1)


def test_a_map_by_hand():
    heat = np.array([[0.0, 1.0], [3.0, 0.0]])
    target, lungs = spot((1, 0), shape=(2, 2)), spot((0, 1), shape=(2, 2))
    measure = measure_heat(heat, target, lungs)
    assert (measure.hit, measure.area, measure.heat_share) == (True, 0.25, 0.75)
    assert (measure.in_lungs, measure.in_lungs_share) == (False, 0.25)
    assert measure_heat(heat, target).in_lungs is None


def test_a_map_without_heat_is_a_miss():
    measure = measure_heat(np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
    assert (measure.hit, measure.heat_share, measure.in_lungs, measure.in_lungs_share) == (False, 0, False, 0)
    assert measure.area == 1.0


def test_heat_in_the_corner_is_heat():
    assert measure_heat(spot((0, 0)), spot((0, 0))).heat_share == 1.0


def test_a_tolerance_widens_the_target_and_the_chance():
    heat, target = spot((0, 0)), spot((0, 2))
    assert not measure_heat(heat, target, tolerance=1).hit
    near = measure_heat(heat, target, tolerance=2)
    assert near.hit
    assert near.heat_share == 0.0
    # row 0 whole, row 1 three, row 2 one pixel within 2 of (0, 2)
    assert near.area == 9 / 20


@pytest.mark.parametrize(
    ("heat", "target", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2)), "empty"),
        (np.zeros((2, 2)), np.ones((2, 3)), "shape"),
        (np.full((2, 2), -1.0), np.ones((2, 2)), "0 or more"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), "finite"),
        (np.zeros((2, 2, 1)), np.ones((2, 2)), "height, width"),
    ],
)
def test_what_cannot_be_measured_is_refused(heat, target, message):
    with pytest.raises(DataError, match=message):
        measure_heat(heat, target)


def test_a_row_sums_up_its_images():
    heat = spot((0, 0))
    measures = [
        measure_heat(heat, spot((0, 0)), np.ones((4, 5))),
        measure_heat(heat, spot((1, 1), (0, 0))),
        measure_heat(heat, spot((3, 3)), spot((3, 3))),
        measure_heat(np.zeros((4, 5)), spot((3, 3))),
    ]
    row = summarise_heat(measures, method="layer-cam", layer="conv_pw_11", collection="siim")
    assert (row.images, row.hit, (row.hit_low, row.hit_high)) == (4, 0.5, wilson_interval(2, 4))
    assert row.chance == pytest.approx((1 + 2 + 1 + 1) / 4 / 20)
    assert (row.heat_share, row.in_lungs_hit, row.in_lungs_share) == (0.5, 0.5, 0.5)
    assert HeatRow.from_dict(row.to_dict()) == row
    table = make_table(HEAT, [row.to_dict()], CARD).markdown
    assert "| siim | layer-cam | conv_pw_11 | 4 | 50.0 % (15.0 to 85.0) | 6.2 % |" in table
    with pytest.raises(DataError, match="at least one image"):
        summarise_heat([], method="m", layer="l", collection="c")


def test_unknown_lungs_are_said_to_be_unknown():
    row = HeatRow("a", "l", "c", 9, 0.5, 0, 1, 0.1, 0.2, None, None)
    assert "n/a" in make_table(HEAT, [row.to_dict()], CARD).markdown


def mean_score(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).sum(axis=1)


def test_deletion_and_insertion_by_hand():
    image = np.array([[4.0, 3.0], [2.0, 1.0]])
    before = image.copy()
    down = deletion_curve(mean_score, image, image, steps=4)
    assert down.shares == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert down.scores == (10, 6, 3, 1, 0)
    assert down.area == pytest.approx((5 + 6 + 3 + 1) / 4)
    up = insertion_curve(mean_score, image, image, steps=2, fill=1.0)
    assert up.scores == (4, 9, 10)
    assert up.area == pytest.approx((2 + 9 + 5) / 2)
    assert mean_area([down, up]) == pytest.approx((3.75 + 8) / 2)
    np.testing.assert_array_equal(image, before)


def test_a_worse_map_deletes_more_slowly():
    image = np.arange(16.0).reshape(4, 4)
    good, bad = (deletion_curve(mean_score, image, heat, steps=4).area for heat in (image, 15 - image))
    assert good < bad


def test_colour_images_and_filling_images():
    image = np.ones((2, 2, 3))
    curve = deletion_curve(mean_score, image, np.eye(2), steps=2, fill=np.zeros((2, 2, 3)))
    assert curve.scores == (12, 6, 0)


def test_curves_refuse_what_does_not_fit():
    with pytest.raises(DataError, match="height and width"):
        deletion_curve(mean_score, np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(DataError, match="to fill with"):
        deletion_curve(mean_score, np.ones((2, 2)), np.ones((2, 2)), fill=np.ones((3, 3)))
    with pytest.raises(DataError, match="scores"):
        deletion_curve(lambda images: [1.0], np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(UsageError, match="step"):
        insertion_curve(mean_score, np.ones((2, 2)), np.ones((2, 2)), steps=0)


def test_the_sanity_check_correlates_ranks():
    rising = np.arange(6.0).reshape(2, 3)
    check = compare_with_random([rising, rising, rising], [rising**3, 5 - rising, np.zeros((2, 3))])
    assert (check.correlation, check.images, check.constant) == (pytest.approx(0.0), 3, 1)
    assert compare_with_random([rising], [rising**3]).correlation == pytest.approx(1.0)
    with pytest.raises(DataError, match="as many maps"):
        compare_with_random([rising], [])
    with pytest.raises(DataError, match="one shape"):
        compare_with_random([rising], [rising.T])
