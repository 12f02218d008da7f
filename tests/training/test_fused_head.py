"""The concatenated head learns the sum of the branches' calibrated logits, for disagreeing pairs too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from toy_networks import make_network

from covid_mm.evaluation.platt import Calibration
from covid_mm.training.fusion import branch_direction, fit_fused_head

pytestmark = pytest.mark.usefixtures("small_backbones")

CALIBRATIONS = {"ct": Calibration(1.5, 0.3, ()).logits, "xray": Calibration(0.8, -0.2, ()).logits}


def toy_features(seed):
    return np.maximum(np.random.default_rng(seed).normal(0.5, 1, (60, 8)), 0).astype(np.float32)


def test_a_calibration_turns_margins_into_logits():
    assert Calibration(2.0, 1.0, ()).logits(np.array([1.0, 5.0])).tolist() == [0.0, 2.0]


def margins_of(network, modality, features):
    direction, constant = branch_direction(network, modality)
    return features @ direction + constant


def test_margins_of_features_are_those_of_the_branchs_head():
    network, features = make_network(size=64), toy_features(0)
    logits = np.asarray(network.model.get_layer("xray_logits")(features))
    assert margins_of(network, "xray", features) == pytest.approx(logits[:, 1] - logits[:, 0], abs=1e-4)


def test_the_head_reproduces_the_sum_of_calibrated_logits():
    network = make_network(size=64, head_width=48)
    for layer in [*network.branch_layers("ct"), *network.branch_layers("xray")]:
        layer.trainable = False
    before = [layer.get_weights() for layer in network.model.layers if layer not in network.head_layers()]
    features = {"ct": toy_features(1), "xray": toy_features(2)}
    error = fit_fused_head(network, features, CALIBRATIONS, steps=400, learning_rate=0.01)
    parts = {m: CALIBRATIONS[m](margins_of(network, m, features[m])) for m in features}
    expected = np.clip(parts["ct"] + parts["xray"], -10, 10)
    assert error < 0.15 * expected.std()
    head = keras.Model([network.features(m) for m in features], network.logits())
    logits = np.asarray(head([features["ct"], features["xray"]], training=False))
    difference = np.abs(logits[:, 1] - logits[:, 0] - expected)
    assert difference.mean() < 0.2 * expected.std()
    disagreeing = parts["ct"] * parts["xray"] < 0
    assert 0 < disagreeing.sum() < 60
    assert difference[disagreeing].mean() < 0.25 * expected.std()
    after = [layer.get_weights() for layer in network.model.layers if layer not in network.head_layers()]
    pairs = [pair for one, two in zip(before, after, strict=True) for pair in zip(one, two, strict=True)]
    assert all(np.array_equal(a, b) for a, b in pairs)
