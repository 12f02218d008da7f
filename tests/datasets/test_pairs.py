from __future__ import annotations

import numpy as np
import pytest

from covid_mm.datasets import training_pairs, validation_pairs
from covid_mm.errors import DataError

CT = np.array([0] * 12 + [1] * 7)
XRAY = np.array([1, 0] * 5 + [0] * 4)  # 9 normal, 5 positive


@pytest.mark.parametrize("epoch", [0, 1, 30])
def test_training_pairs_are_of_one_class_and_use_every_image(epoch: int) -> None:
    pairs = training_pairs(CT, XRAY, seed=4, epoch=epoch)
    assert pairs.dtype == np.int64
    assert pairs.shape == (12 + 7, 2)
    np.testing.assert_array_equal(CT[pairs[:, 0]], XRAY[pairs[:, 1]])
    np.testing.assert_array_equal(np.sort(pairs[:, 0]), np.arange(len(CT)))
    uses = np.bincount(pairs[:, 1], minlength=len(XRAY))
    assert uses[XRAY == 0].min() == 1
    assert uses[XRAY == 0].max() == 2
    assert uses[XRAY == 1].min() == 1


def test_training_pairs_are_new_each_epoch_and_the_same_for_a_seed() -> None:
    first = training_pairs(CT, XRAY, seed=4, epoch=0)
    np.testing.assert_array_equal(first, training_pairs(CT, XRAY, seed=4, epoch=0))
    for other in (training_pairs(CT, XRAY, seed=4, epoch=1), training_pairs(CT, XRAY, seed=5, epoch=0)):
        assert {tuple(pair) for pair in first} != {tuple(pair) for pair in other}


def test_training_pairs_are_shuffled() -> None:
    labels = CT[training_pairs(CT, XRAY, seed=0, epoch=0)[:, 0]]
    assert (np.diff(labels) != 0).sum() > 2


def test_training_pairs_of_all_images_where_the_xrays_are_more() -> None:
    pairs = training_pairs([0, 1], [0] * 5 + [1] * 3, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(pairs[:, 1]), np.arange(8))


def test_validation_pairs_use_each_image_once_at_most() -> None:
    pairs = validation_pairs(CT, XRAY, seed=4)
    assert pairs.shape == (9 + 5, 2)
    np.testing.assert_array_equal(CT[pairs[:, 0]], XRAY[pairs[:, 1]])
    for side in (0, 1):
        assert len(np.unique(pairs[:, side])) == len(pairs)
    np.testing.assert_array_equal(pairs, validation_pairs(CT, XRAY, seed=4))
    assert not np.array_equal(pairs, validation_pairs(CT, XRAY, seed=5))


def test_a_class_on_one_side_only_is_an_error() -> None:
    with pytest.raises(DataError, match="covid19_pneumonia has 1 CT slices and 0"):
        training_pairs([0, 1], [0, 0], seed=0, epoch=0)
    with pytest.raises(DataError, match="no CT slice and no X-ray"):
        validation_pairs([], [], seed=0)
