"""Batches depend on seed, epoch and step, on nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
from toy_networks import grey_images

from covid_mm.config import TrainingConfig
from covid_mm.training.batches import (
    BottleneckSamples,
    TrainingBatches,
    draw_order,
    one_hot,
    validation_arrays,
)

LABELS = {"ct": np.arange(10) % 2, "xray": (np.arange(7) > 2).astype(int)}


def features(copies: int = 3) -> dict[str, BottleneckSamples]:
    """Features that say where they are from: (copy, row, label)."""
    return {
        m: BottleneckSamples(
            np.array(
                [[(copy, row, labels[row]) for row in range(len(labels))] for copy in range(copies)],
                np.float32,
            ),
            labels,
            are_images=False,
        )
        for m, labels in LABELS.items()
    }


def images() -> dict[str, BottleneckSamples]:
    return {
        m: BottleneckSamples(grey_images(len(labels), 24)[None], labels, are_images=True)
        for m, labels in LABELS.items()
    }


def config(**options: object) -> TrainingConfig:
    return TrainingConfig(**({"batch_size": 4, "steps_per_epoch": 6, "seed": 5} | options))


@pytest.mark.parametrize("samples", [features, images])
def test_the_same_seed_epoch_and_step_give_the_same_batch(samples):
    straight = TrainingBatches(samples(), config())
    expected = []
    for _ in range(3):
        expected.append([straight[step] for step in range(len(straight))])
        straight.on_epoch_end()
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    late = TrainingBatches(samples(), config(), epoch=2)
    for step in reversed(range(6)):
        values, labels = late[step]
        assert all(np.array_equal(a, b) for a, b in zip(values, expected[2][step][0], strict=True))
        assert np.array_equal(labels, expected[2][step][1])
    assert not np.array_equal(expected[0][0][0][0], expected[1][0][0][0])
    other = TrainingBatches(samples(), config(seed=6))[0]
    assert not np.array_equal(other[0][0], expected[0][0][0][0])


def test_pairs_are_of_one_class():
    batches = TrainingBatches(features(), config())
    copies = set()
    for step in range(len(batches)):
        (ct, xray), labels = batches[step]
        assert ct.shape == xray.shape == (4, 3)
        assert np.array_equal(ct[:, 2], xray[:, 2])
        assert np.array_equal(one_hot(ct[:, 2].astype(int)), labels)
        copies |= set(ct[:, 0])
    assert copies == {0, 1, 2}


def test_every_image_is_seen_before_one_comes_again():
    only = {"ct": LABELS["ct"]}
    order = draw_order(only, 25, seed=0, epoch=0)
    assert order.shape == (25, 1)
    assert sorted(order[:10, 0]) == sorted(order[10:20, 0]) == list(range(10))
    assert not np.array_equal(order[:10], order[10:20])


def test_images_are_augmented_only_if_wanted():
    plain = TrainingBatches(images(), config(augmentation=0.0))[0][0][0]
    varied = TrainingBatches(images(), config())[0][0][0]
    known = images()["ct"].values[0]
    assert plain.shape == varied.shape == (4, 24, 24, 3)
    assert all(any(np.array_equal(image[..., 0], one) for one in known) for image in plain)
    assert not any(np.array_equal(image[..., 0], one) for image in varied for one in known)
    assert varied.min() >= 0
    assert varied.max() <= 255
    assert np.array_equal(varied[..., 0], varied[..., 2])


def test_validation_uses_the_image_itself_and_fixed_pairs():
    (ct, xray), labels = validation_arrays(features(), seed=1)
    assert set(ct[:, 0]) == set(xray[:, 0]) == {0.0}  # copy 0: not augmented
    assert np.array_equal(ct[:, 2], labels)
    assert np.array_equal(xray[:, 2], labels)
    assert len(set(ct[:, 1])) == len(ct)
    again, _ = validation_arrays(features(), seed=1)
    assert np.array_equal(again[0], ct)
    (single,), labels = validation_arrays({"ct": features()["ct"]}, seed=1)
    assert np.array_equal(single[:, 1], np.arange(10))
    assert np.array_equal(labels, LABELS["ct"])
