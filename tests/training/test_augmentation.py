"""Augmentation: seeded, within 0..255, never a film mirrored or upside down."""

from __future__ import annotations

import numpy as np
import pytest
from toy_networks import grey_images

from covid_mm.training.augmentation import AugmentationConfig, augment_image, augment_images

STILL = AugmentationConfig(rotation=0, shift=0, zoom=0, gain=0, gamma=0, noise=0)


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_one_seed_gives_one_image(modality):
    images = grey_images(3, 40)
    first, second, other = (augment_images(images, modality, seed=seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_each_row_has_its_own_generator():
    images = np.repeat(grey_images(1, 40), 2, axis=0)
    varied = augment_images(images, "ct", seed=(4,))
    assert not np.array_equal(varied[0], varied[1])
    assert np.array_equal(varied[:1], augment_images(images[:1], "ct", seed=(4,)))


@pytest.mark.parametrize("level", [0.0, 255.0, None])
def test_pixels_stay_in_range_and_the_input_unchanged(level):
    images = grey_images(4, 40) if level is None else np.full((4, 40, 40), level, np.float32)
    before = images.copy()
    for seed in range(10):
        varied = augment_images(images, "xray", seed=(seed,))
        assert varied.dtype == np.float32
        assert varied.shape == images.shape
        assert varied.min() >= 0
        assert varied.max() <= 255
    assert np.array_equal(images, before)


def test_no_deviation_is_the_image_itself():
    image = grey_images(1, 40)[0]
    same = augment_image(image, "xray", np.random.default_rng(0), STILL)
    assert np.abs(same - image).max() < 1e-3


def brightest_corner(image: np.ndarray) -> tuple[bool, bool]:
    """Whether the brightest quarter is the lower one, the right one."""
    half = image.shape[0] // 2
    quarters = [[image[y : y + half, x : x + half].mean() for x in (0, half)] for y in (0, half)]
    row, column = np.unravel_index(np.argmax(quarters), (2, 2))
    return bool(row), bool(column)


@pytest.mark.parametrize(("modality", "mirrored"), [("xray", {False}), ("ct", {False, True})])
def test_films_are_never_flipped_and_slices_only_sideways(modality, mirrored):
    image = np.full((40, 40), 40, np.float32)
    image[5:15, 5:15] = 220  # above, on the left
    corners = [brightest_corner(augment_image(image, modality, np.random.default_rng(s))) for s in range(60)]
    assert {lower for lower, _ in corners} == {False}
    assert {right for _, right in corners} == mirrored


def test_deviations_stay_small():
    image = np.zeros((60, 60), np.float32)
    image[25:35, 25:35] = 255
    rows = np.arange(60)
    for seed in range(40):
        moved = augment_image(image, "xray", np.random.default_rng(seed))
        weight = np.where(moved > 128, moved, 0)
        centre = (weight.sum(1) @ rows / weight.sum(), weight.sum(0) @ rows / weight.sum())
        assert max(abs(side - 29.5) for side in centre) <= 0.06 * 60 + 1.5


def test_strength_scales_every_deviation():
    image = grey_images(1, 40)
    assert np.abs(augment_images(image, "xray", seed=(1,), strength=0.0) - image).max() < 1e-3
    weak, usual = (
        np.abs(augment_images(image, "xray", seed=(1,), strength=s) - image).mean() for s in (0.2, 1.0)
    )
    assert 0 < weak < usual
