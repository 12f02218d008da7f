"""Lungs of one image in the body of another: what is seen of each, and where nothing can be exchanged."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.training.bodies import RIM, place_in_body

SIDE = 100


def discs(radius: float, *columns: int) -> np.ndarray:
    """A mask of 255 on discs half-way down."""
    row, column = np.mgrid[0:SIDE, 0:SIDE]
    inside = [np.hypot(row - 50, column - centre) < radius for centre in columns]
    return np.where(np.any(inside, axis=0), 255, 0).astype(np.uint8)


def flat(grey: int) -> np.ndarray:
    return np.full((SIDE, SIDE), grey, np.uint8)


def test_inside_stays_and_outside_is_the_bodys():
    lungs, other = discs(20, 30), discs(20, 70)
    mixed = place_in_body(flat(40), lungs, flat(200), other)
    assert mixed.dtype == np.uint8
    assert mixed.shape == (SIDE, SIDE)
    # where either image has lung, the crop is seen, and so no lung of the other one
    assert (mixed[(lungs > 0) | (other > 0)] <= 45).all()
    assert (mixed[:15] == 200).all()
    assert (mixed[-15:] == 200).all()


def test_a_rim_round_the_lungs_stays():
    lungs = discs(20, 50)
    mixed = place_in_body(flat(40), lungs, flat(200), lungs)
    row = mixed[50].astype(int)
    edge = 50 + 20
    assert row[edge + round(RIM * SIDE) - 2] < 100
    assert row[edge + round(RIM * SIDE) + 5] == 200
    assert (np.diff(row[edge:]) >= 0).all()  # one soft seam


@pytest.mark.parametrize("which", ["crop", "body"])
def test_unknown_lungs_leave_the_crop_as_it_is(which):
    known, unknown = discs(20, 50), flat(0)
    masks = (unknown, known) if which == "crop" else (known, unknown)
    crop = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    before = crop.copy()
    np.testing.assert_array_equal(place_in_body(crop, masks[0], flat(200), masks[1]), before)


def test_nothing_given_is_changed():
    crop, lungs, body = flat(40), discs(20, 50), flat(200)
    place_in_body(crop, lungs, body, lungs)
    assert (crop == 40).all()
    assert (body == 200).all()
