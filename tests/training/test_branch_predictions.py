"""What a trained branch says of every crop: its margins and features, kept beside its weights."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from made_crops import SIZE, make_collection, make_crops_of
from toy_networks import make_network

from covid_mm.imaging import to_network_input
from covid_mm.training.branch_predictions import predict_collections, predict_crops

pytestmark = pytest.mark.usefixtures("small_backbones")


def exact_crops(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)


def crops_of(counts):
    """{name: crops} as the toy network reads them."""
    return {
        name: dataclasses.replace(make_crops_of(make_collection(name, [0] * count)), exact=exact_crops(count))
        for name, count in counts.items()
    }


def test_margins_are_positive_minus_normal():
    network, images = make_network(size=SIZE), exact_crops(70)  # more than one batch
    answers = predict_crops(network, "ct", images)
    assert answers.margins.shape == (70,)
    assert answers.margins.dtype == np.float32
    assert answers.features.shape == (70, 8)
    assert answers.features.dtype == np.float16
    outputs = [network.logits("ct"), network.features("ct")]
    logits, features = keras.Model(network.image_input("ct"), outputs).predict_on_batch(
        to_network_input(images[60:])
    )
    assert answers.margins[60:] == pytest.approx(logits[:, 1] - logits[:, 0], abs=1e-4)
    assert np.abs(answers.features[60:] - features).max() <= 2e-3 * np.abs(features).max()


def test_answers_are_kept_and_made_anew_where_they_do_not_fit(tmp_path):
    network, path = make_network(size=SIZE), tmp_path / "answers.npz"
    loads = []

    def load():
        loads.append(1)
        return network

    crops = crops_of({"one": 3, "two": 2})
    first = predict_collections(load, "ct", crops, path)
    assert [len(first[name].margins) for name in ("one", "two")] == [3, 2]
    again = predict_collections(load, "ct", crops, path)
    assert len(loads) == 1
    for name in crops:
        assert np.array_equal(first[name].margins, again[name].margins)
        assert np.array_equal(first[name].features, again[name].features)
    assert [file.name for file in tmp_path.iterdir()] == ["answers.npz"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # damaged
    predict_collections(load, "ct", crops, path)
    predict_collections(load, "ct", crops_of({"one": 4, "two": 2}), path)  # another number of images
    predict_collections(load, "ct", crops_of({"three": 1}), path)  # another collection
    assert len(loads) == 4
    moved = dataclasses.replace(crops_of({"three": 1})["three"], exact=exact_crops(1, seed=1))
    predict_collections(load, "ct", {"three": moved}, path)  # the same image, cut by another segmenter
    assert len(loads) == 5
