from __future__ import annotations

import numpy as np
import pytest

from covid_mm.datasets import training_pairs, validation_pairs
from covid_mm.datasets.pairs import possibility_pairs
from covid_mm.errors import DataError

CT = np.array([0] * 12 + [1] * 7)
XRAY = np.array([1, 0] * 5 + [0] * 4)  # 9 normal, 5 positive
BOTH = {"ct": CT, "xray": XRAY}


@pytest.mark.parametrize("epoch", [0, 1, 30])
def test_training_pairs_are_of_one_class_and_use_every_image(epoch: int) -> None:
    pairs = training_pairs(BOTH, seed=4, epoch=epoch)
    assert pairs.dtype == np.int64
    assert pairs.shape == (12 + 7, 2)
    np.testing.assert_array_equal(CT[pairs[:, 0]], XRAY[pairs[:, 1]])
    np.testing.assert_array_equal(np.sort(pairs[:, 0]), np.arange(len(CT)))
    uses = np.bincount(pairs[:, 1], minlength=len(XRAY))
    assert uses[XRAY == 0].min() == 1
    assert uses[XRAY == 0].max() == 2
    assert uses[XRAY == 1].min() == 1


def test_training_pairs_are_new_each_epoch_and_the_same_for_a_seed() -> None:
    first = training_pairs(BOTH, seed=4, epoch=0)
    np.testing.assert_array_equal(first, training_pairs(BOTH, seed=4, epoch=0))
    for other in (training_pairs(BOTH, seed=4, epoch=1), training_pairs(BOTH, seed=5, epoch=0)):
        assert {tuple(pair) for pair in first} != {tuple(pair) for pair in other}


def test_training_pairs_are_shuffled() -> None:
    labels = CT[training_pairs(BOTH, seed=0, epoch=0)[:, 0]]
    assert (np.diff(labels) != 0).sum() > 2


def test_training_pairs_of_all_images_where_the_xrays_are_more() -> None:
    pairs = training_pairs({"ct": [0, 1], "xray": [0] * 5 + [1] * 3}, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(pairs[:, 1]), np.arange(8))


def test_validation_pairs_use_each_image_once_at_most() -> None:
    pairs = validation_pairs(BOTH, seed=4)
    assert pairs.shape == (9 + 5, 2)
    np.testing.assert_array_equal(CT[pairs[:, 0]], XRAY[pairs[:, 1]])
    for side in (0, 1):
        assert len(np.unique(pairs[:, side])) == len(pairs)
    np.testing.assert_array_equal(pairs, validation_pairs(BOTH, seed=4))
    assert not np.array_equal(pairs, validation_pairs(BOTH, seed=5))


def test_a_class_on_one_side_only_is_an_error() -> None:
    with pytest.raises(DataError, match="covid19_pneumonia has 1 of CT, 0 of X-ray"):
        training_pairs({"ct": [0, 1], "xray": [0, 0]}, seed=0, epoch=0)
    with pytest.raises(DataError, match="none of CT and X-ray"):
        validation_pairs({"ct": [], "xray": []}, seed=0)


def test_three_modalities_are_joined_in_the_same_way() -> None:
    labels = {"ct": CT, "xray": XRAY, "lateral": np.array([0, 1, 1])}
    rows = training_pairs(labels, seed=4, epoch=0)
    assert rows.shape == (12 + 7, 3)
    fixed = validation_pairs(labels, seed=4)
    assert fixed.shape == (1 + 2, 3)
    for part in (rows, fixed):
        joined = np.stack([labels[m][part[:, column]] for column, m in enumerate(labels)])
        assert (joined == joined[0]).all()
    mixed = possibility_pairs(labels, {"ct": 0, "xray": 1, "lateral": 1}, seed=4)
    assert mixed.shape == (2, 3)
    assert CT[mixed[:, 0]].tolist() == [0, 0]
    assert XRAY[mixed[:, 1]].tolist() == [1, 1]
