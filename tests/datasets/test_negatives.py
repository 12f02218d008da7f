"""Negatives: all kinds, the same for the same seed, no picture in two parts."""

from __future__ import annotations

import collections
import sys

import numpy as np
import pytest

from covid_mm.datasets.negatives import load_pictures, make_negatives
from covid_mm.datasets.thorax.views import VIEWS
from covid_mm.errors import UsageError

PARTS = ("train", "validation", "test")


def test_every_kind_is_there_and_looks_like_something():
    made = make_negatives(120, seed=4, size=64)
    kinds = collections.Counter(negative.kind for negative in made)
    assert set(kinds) == {"picture", "text", "noise", "gradient", "shapes", "other view"}
    assert kinds["picture"] > 40
    for negative in made:
        assert negative.image.shape == (64, 64)
        assert negative.image.dtype == np.float32
        assert np.isfinite(negative.image).all()
        assert negative.image.min() >= 0
        assert negative.image.max() <= 255
    flat = [negative.kind for negative in made if negative.image.std() < 1]
    assert set(flat) <= {"gradient", "noise", "picture", "shapes"}
    assert len(flat) < 20


def test_the_same_seed_gives_the_same():
    first, again = (make_negatives(12, seed=7, size=48) for _ in range(2))
    for one, two in zip(first, again, strict=True):
        assert one.kind == two.kind
        np.testing.assert_array_equal(one.image, two.image)
    other = make_negatives(12, seed=8, size=48)
    assert any(not np.array_equal(one.image, two.image) for one, two in zip(first, other, strict=True))


def test_no_picture_is_in_two_parts():
    with pytest.raises(UsageError, match="train, validation, test"):
        load_pictures("all")
    names = [set(load_pictures(part)) for part in PARTS]
    assert all(len(part) >= 4 for part in names)
    assert not names[0] & names[1]
    assert not (names[0] | names[1]) & names[2]


def test_gradios_pictures_are_read_without_importing_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "gradio", raising=False)
    assert load_pictures("test")
    assert "gradio" not in sys.modules


@pytest.mark.parametrize("part", PARTS)
def test_pictures_are_grey(part):
    for name, picture in load_pictures(part).items():
        assert picture.ndim == 2, name
        assert picture.dtype == np.float32, name
        assert 0 <= picture.min() < picture.max() <= 255, name
        assert picture.max() > 30, name


@pytest.mark.parametrize("view", VIEWS)
def test_other_views_are_drawn(view):
    first, second = (VIEWS[view](np.random.default_rng(seed)) for seed in (1, 2))
    assert first.ndim == 2
    assert np.std(first) > 5
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_a_negative_count_is_refused():
    with pytest.raises(UsageError, match="must not be negative"):
        make_negatives(-1, seed=0)
