"""Altered images by hand, and a source that features give away or don't."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.shortcuts import (
    ShortcutRow,
    SourceRow,
    blank_hull,
    blank_lungs,
    border_only,
    lungs_only,
    measure_shortcut,
    shuffle_outside,
    source_auc,
)
from covid_mm.reporting.card_tables import SHORTCUTS
from covid_mm.reporting.card_writer import CARD, make_table
from covid_mm.reporting.left_out_tables import source_table

GREY = np.array([[0.0, 10.0, 20.0], [30.0, 200.0, 40.0], [50.0, 60.0, 0.0]])
CENTRE = np.zeros((3, 3), dtype=bool)
CENTRE[1, 1] = True


def test_lungs_are_blanked_with_the_bodys_mean():
    before = GREY.copy()
    image = blank_lungs(GREY, CENTRE)
    assert image[1, 1] == pytest.approx(210 / 6)  # black pixels are no body
    np.testing.assert_array_equal(image[~CENTRE], GREY[~CENTRE])
    np.testing.assert_array_equal(before, GREY)
    assert image.dtype == np.float32
    assert blank_lungs(np.where(CENTRE, GREY, 0.0), CENTRE).max() == 0.0


def test_a_filled_hull_shows_no_outline_of_the_lungs():
    grey = np.linspace(80.0, 120.0, 600).reshape(20, 30)
    large, small = np.zeros((2, 20, 30), dtype=bool)
    for mask, inner in ((large, 12), (small, 8)):  # two lungs, the same corners, less of one seen as dark
        mask[4:16, 4:inner] = mask[4:16, 20:26] = True
        mask[4, 4:12] = mask[15, 4:12] = True
    darker = [np.where(mask, 20.0, grey) for mask in (large, small)]
    filled = [blank_hull(image, mask) for image, mask in zip(darker, (large, small), strict=True)]
    np.testing.assert_array_equal(filled[0], filled[1])
    assert filled[0][10, 15] == filled[0][10, 6]  # what lies between the lungs is filled too
    assert filled[0][0, 0] == pytest.approx(80.0)
    assert not np.array_equal(
        *(blank_lungs(image, m) for image, m in zip(darker, (large, small), strict=True))
    )
    corners = np.zeros((6, 6), dtype=bool)
    corners[[0, 0, 5, 5], [0, 5, 0, 5]] = True
    np.testing.assert_allclose(blank_hull(np.arange(36.0).reshape(6, 6), corners), 17.5)
    with pytest.raises(DataError, match="mask"):
        blank_hull(GREY, np.zeros((3, 3), dtype=bool))


def test_lungs_alone():
    image = lungs_only(GREY, CENTRE)
    assert image[1, 1] == 200.0
    np.testing.assert_allclose(image[~CENTRE], 210 / 8)


def test_the_border_alone():
    grey = np.arange(100.0).reshape(10, 10)
    image = border_only(grey, 0.2)
    middle = np.zeros((10, 10), dtype=bool)
    middle[2:8, 2:8] = True
    np.testing.assert_array_equal(image[~middle], grey[~middle])
    np.testing.assert_allclose(image[middle], grey[~middle].mean(), rtol=1e-6)
    for fraction in (0.0, 0.5):
        with pytest.raises(UsageError, match="fraction"):
            border_only(grey, fraction)
    with pytest.raises(DataError, match="middle"):
        border_only(np.ones((2, 2)))
    with pytest.raises(DataError, match="grey image"):
        border_only(np.ones((9, 9, 3)))


def test_tiles_outside_the_lungs_change_places():
    grey = np.arange(64.0 * 2).reshape(8, 16)
    mask = np.zeros(grey.shape, dtype=bool)
    mask[1, 1] = True
    image = shuffle_outside(grey, mask, np.random.default_rng(0), tile=4)
    np.testing.assert_array_equal(image[:4, :4], grey[:4, :4])  # the tile that touches the mask
    assert not np.array_equal(image, grey)
    assert sorted(image.ravel()) == sorted(grey.ravel())
    tiles = {grey[r : r + 4, c : c + 4].tobytes() for r in (0, 4) for c in (0, 4, 8, 12)}
    moved = image.astype(np.float64)
    assert {moved[r : r + 4, c : c + 4].tobytes() for r in (0, 4) for c in (0, 4, 8, 12)} == tiles
    again = shuffle_outside(grey, mask, np.random.default_rng(0), tile=4)
    np.testing.assert_array_equal(image, again)
    with pytest.raises(UsageError, match="tile"):
        shuffle_outside(grey, mask, np.random.default_rng(0), tile=0)


@pytest.mark.parametrize("alter", [blank_lungs, lungs_only])
@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.ones((3, 3)), np.ones((2, 3))])
def test_masks_that_do_not_fit_are_refused(alter, mask):
    with pytest.raises(DataError, match="mask"):
        alter(GREY, mask)


def test_a_row_of_altered_images():
    part = LeftOutPredictions(
        "siim", "xray", np.array([0.0, 1.0, 2.0, 1.0]), np.array([0, 0, 1, 1]), np.full(4, "")
    )
    row = measure_shortcut("blank_lungs", part)
    assert (row.auc, row.images, row.collection) == (3.5 / 4, 4, "siim")
    assert row.low < row.auc < row.high
    assert ShortcutRow.from_dict(row.to_dict()) == row
    table = make_table(SHORTCUTS, [row.to_dict()], CARD).markdown
    assert "| siim | Lungs blanked out | 4 | 0.875 (" in table
    with pytest.raises(UsageError, match="blank_lungs"):
        measure_shortcut("blank", part)


def test_a_source_that_features_give_away():
    generator = np.random.default_rng(0)
    sources = np.repeat(["a", "b", "c"], 30)
    features = np.stack([sources == "a", sources == "b"], axis=1) * 6.0 + generator.normal(0, 0.5, (90, 2))
    row = source_auc(features, sources, name="bottleneck")
    assert (row.accuracy, row.auc) == (1.0, 1.0)
    assert (row.chance, row.images, row.sources) == (pytest.approx(1 / 3), 90, ("a", "b", "c"))
    assert SourceRow.from_dict(row.to_dict()) == row
    assert "| bottleneck | a, b, c | 90 | 100.0 % | 33.3 % | 1.000 |" in source_table([row])


def test_a_source_that_features_do_not_tell():
    generator = np.random.default_rng(1)
    row = source_auc(generator.normal(0, 1, (200, 2)), np.repeat(["a", "b"], 100))
    assert abs(row.auc - 0.5) < 0.15
    assert row == source_auc(np.random.default_rng(1).normal(0, 1, (200, 2)), np.repeat(["a", "b"], 100))


def test_patients_stay_together_when_sources_are_named():
    # features name the patient and nothing else: with patients on both sides that would name the source
    generator = np.random.default_rng(2)
    patients = np.repeat([f"p{k}" for k in range(40)], 5)
    sources = np.repeat(np.tile(["a", "b"], 20), 5)
    features = np.repeat(generator.normal(0, 1, (40, 30)), 5, axis=0)
    assert source_auc(features, sources).auc > 0.95
    assert source_auc(features, sources, patients).auc < 0.8


@pytest.mark.parametrize(
    ("features", "sources", "message"),
    [
        (np.zeros((6, 2)), ["a"] * 6, "two sources"),
        (np.zeros((6, 2)), ["a"] * 5 + ["b"], "5 patients each"),
        (np.zeros(6), ["a"] * 6, "features"),
        (np.full((6, 2), np.nan), ["a"] * 6, "finite"),
    ],
)
def test_sources_that_cannot_be_told_apart_are_refused(features, sources, message):
    with pytest.raises(DataError, match=message):
        source_auc(features, sources)
