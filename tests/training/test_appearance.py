"""Variation of lung crops: nothing where nothing is asked for, the same for the same numbers, lesions move along."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covid_mm.training.appearance import NONE, ROOM, AppearanceConfig, vary_crop

SIZE = 150
WIDE = round(SIZE * (1 + 2 * ROOM))
EDGE = (WIDE - SIZE) // 2


def made_crop(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A crop with room whose lesion, a bright ellipse, is its target too."""
    row, column = np.mgrid[0:WIDE, 0:WIDE]
    lesion = np.hypot((row - 80) / 25, (column - 110) / 14) < 1
    noise = np.random.default_rng(seed).normal(0, 5, lesion.shape)
    crop = np.clip(60 + noise + 140 * lesion, 0, 255).astype(np.uint8)
    return crop, (255 * lesion).astype(np.uint8)


def vary(config, seed=0, crop=None, target=None, size=SIZE):
    made = made_crop()
    crop, target = made[0] if crop is None else crop, made[1] if target is None else target
    return vary_crop(crop, target, "ct", size, np.random.default_rng(seed), config)


def test_none_gives_the_crop_that_serving_reads():
    crop, target = made_crop()
    image, moved = vary(NONE)
    inner = np.s_[EDGE : EDGE + SIZE, EDGE : EDGE + SIZE]
    assert np.abs(image - crop[inner]).max() < 0.01
    assert np.array_equal(moved, target[inner] / np.float32(255))


@pytest.mark.parametrize("size", [64, 150])
def test_shapes_and_ranges(size):
    for seed in range(25):
        image, moved = vary(AppearanceConfig(), seed, size=size)
        assert image.shape == moved.shape == (size, size)
        assert image.dtype == moved.dtype == np.float32
        assert 0.0 <= image.min() <= image.max() <= 255.0
        assert 0.0 <= moved.min() <= moved.max() <= 1.0
        assert moved.sum() > 0.5 * 25 * 14 * np.pi * (size / SIZE) ** 2


def test_one_generator_gives_one_copy_and_the_crop_stays():
    crop, target = made_crop()
    originals = crop.copy(), target.copy()
    first, second, other = (vary(AppearanceConfig(), seed, crop, target) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(crop, originals[0])
    assert np.array_equal(target, originals[1])


def test_lesions_move_with_the_image():
    geometry = dataclasses.replace(NONE, zoom=0.09, stretch=0.06, shift=0.05, rotation=7.0, mirrored=0.5)
    _, target = made_crop()
    positions = set()
    for seed in range(10):
        image, moved = vary(geometry, seed, crop=target)  # the lesion is all there is to see
        assert np.abs(image / 255 - moved).max() < 0.01
        positions.add(int(moved.sum(axis=0).argmax()))
    assert len(positions) > 3


def test_mirrored_is_the_mirror_image():
    plain, turned = vary(NONE), vary(dataclasses.replace(NONE, mirrored=1.0))
    for one, other in zip(plain, turned, strict=True):
        assert np.abs(one[:, ::-1] - other).max() < 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 0.4},
        {"contrast": 0.25},
        {"brightness": 0.12},
        {"noise": 9.0},
        {"blur": 1.1},
        {"resolution": 0.4},
        {"jpeg": 20},
        {"shade": 25.0},
        {"erased": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_grey_variation_leaves_the_lesion_where_it_is(change):
    image, target = vary(NONE)
    changed = [vary(dataclasses.replace(NONE, **change), seed) for seed in range(12)]
    assert any(np.abs(other - image).max() > 0.5 for other, _ in changed)
    assert all(np.array_equal(moved, target) for _, moved in changed)
