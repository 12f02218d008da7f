"""Opacities drawn on normal lungs: in the lungs only, brighter, marked, the same for the same numbers."""

from __future__ import annotations

import numpy as np

from covid_mm.training.lesions import LUNG_BELOW, add_opacities

SIDE = 120


def made_crop(seed: int = 0) -> np.ndarray:
    """Two dark lungs in soft tissue, with noise."""
    row, column = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    lungs = np.hypot((row - 0.5) / 0.4, (np.abs(column - 0.5) - 0.25) / 0.2) < 1
    noise = np.random.default_rng(seed).normal(0, 4, lungs.shape)
    return np.clip(np.where(lungs, 45, 190) + noise, 0, 255).astype(np.uint8)


def test_opacities_lie_in_lung_and_are_marked():
    crop = made_crop()
    original = crop.copy()
    for seed in range(15):
        image, mask = add_opacities(crop, np.random.default_rng(seed))
        assert image.shape == mask.shape == crop.shape
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        change = image.astype(int) - crop
        assert change[mask == 255].mean() > 4
        assert (crop[mask == 255] < LUNG_BELOW + 40).all()
        assert np.abs(change[crop > 150]).max() <= 4  # soft tissue stays
    assert np.array_equal(crop, original)


def test_one_generator_draws_one_picture():
    first, second, other = (add_opacities(made_crop(), np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_without_lung_there_is_nothing_to_draw_on():
    rng = np.random.default_rng(0)
    assert add_opacities(np.full((SIDE, SIDE), 190, np.uint8), rng) is None
    assert add_opacities(np.zeros((5, 5), np.uint8), rng) is None


def test_a_crop_of_nothing_but_lung_can_be_drawn_on():
    for seed in range(5):
        _, mask = add_opacities(np.full((SIDE, SIDE), 45, np.uint8), np.random.default_rng(seed))
        assert mask.any()
