"""The concatenated network: named inputs and outputs, one flat graph, the same for the same seed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from toy_networks import PAIR, colour_images, make_network

from covid_mm.config import NetworkConfig
from covid_mm.errors import UsageError
from covid_mm.models.network import build_network, pool_features

pytestmark = pytest.mark.usefixtures("small_backbones")


def test_inputs_and_outputs_are_named():
    network = make_network(size=64)
    answers = network.model.predict_on_batch(
        {"xray": colour_images(3, 64, seed=1), "ct": colour_images(3, 64, seed=0)}
    )
    heads = ("", "ct_", "xray_")
    assert set(answers) == {f"{head}{kind}" for head in heads for kind in ("logits", "probabilities")}
    for head in heads:
        shifted = np.exp(answers[f"{head}logits"])
        assert answers[f"{head}logits"].shape == (3, 2)
        assert answers[f"{head}probabilities"] == pytest.approx(
            shifted / shifted.sum(-1, keepdims=True), abs=1e-5
        )


def test_each_branch_reads_its_own_input():
    network = make_network(size=64)
    ct, xray, other = (colour_images(2, 64, seed=seed) for seed in range(3))
    first = network.model.predict_on_batch({"ct": ct, "xray": xray})
    second = network.model.predict_on_batch({"ct": ct, "xray": other})
    assert np.array_equal(first["ct_logits"], second["ct_logits"])
    assert not np.allclose(first["xray_logits"], second["xray_logits"])
    assert not np.allclose(first["logits"], second["logits"])


def test_graph_is_flat_and_every_weight_has_a_place():
    network = make_network(size=64)
    layers = network.model.layers
    assert not [layer.name for layer in layers if isinstance(layer, keras.Model | keras.layers.Lambda)]
    placed = [*network.branch_layers("ct"), *network.branch_layers("xray"), *network.head_layers()]
    own_heads = [network.model.get_layer(f"{m}_logits") for m in ("ct", "xray")]
    weighted = [layer for layer in layers if layer.weights]
    assert sorted(layer.name for layer in [*placed, *own_heads]) == sorted(layer.name for layer in weighted)


def test_one_seed_gives_one_network():
    config = NetworkConfig.pair(PAIR, image_size=64)
    first, second, other = (build_network(config, seed).model.get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("fine_tune", ["frozen", "last-block", "full"])
def test_trunks_and_tail_make_the_pair(fine_tune):
    network = make_network(size=64)
    images = {"ct": colour_images(2, 64, seed=1), "xray": colour_images(2, 64, seed=2)}
    whole = network.model.predict_on_batch(images)["logits"]
    boundary = [network.bottleneck(m, fine_tune) for m in ("ct", "xray")]
    values = [
        pixels if fine_tune == "full" else keras.Model(network.image_input(m), cut).predict_on_batch(pixels)
        for (m, pixels), cut in zip(images.items(), boundary, strict=True)
    ]
    parts = keras.Model(boundary, network.logits()).predict_on_batch(values)
    assert np.abs(whole - parts).max() < 1e-5


def test_single_network_has_one_head():
    network = build_network(NetworkConfig.single("vgg16", "ct", image_size=64, head_width=7))
    answers = network.model.predict_on_batch({"ct": colour_images(2, 64)})
    assert set(answers) == {"logits", "probabilities"}
    assert network.logits() is network.logits("ct")
    assert network.model.get_layer("fully_connected").units == 7


def test_weights_move_between_image_sizes():
    small = make_network(size=64)
    large = build_network(small.config.resized(96), seed=9)
    large.model.set_weights(small.model.get_weights())
    assert all(
        np.array_equal(a, b)
        for a, b in zip(small.model.get_weights(), large.model.get_weights(), strict=True)
    )


@pytest.mark.parametrize(
    ("branches", "named"),
    [
        ((), "one or more branches"),
        ((("ct", "vgg16"), ("ct", "vgg16")), "different modalities"),
        ((("mri", "vgg16"),), "mri"),
        ((("ct", "lenet"),), "lenet"),
    ],
)
def test_impossible_networks_are_refused(branches, named):
    with pytest.raises(UsageError, match=named):
        NetworkConfig(branches=branches)


def test_attention_shares_sum_to_one_and_weigh_the_features():
    network = make_network(size=64, pooling="attention")
    images = colour_images(3, 64)
    for modality in ("ct", "xray"):
        shares = network.tensor(f"{modality}_shares")
        outputs = [
            network.attention(modality),
            shares,
            network.evidence(modality),
            network.features(modality),
        ]
        parts = keras.Model(network.image_input(modality), outputs).predict_on_batch(images)
        attention, shares, feature_map, features = (np.asarray(part, np.float64) for part in parts)
        assert attention.shape == (*feature_map.shape[:3], 1)
        assert shares.reshape(3, -1).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
        expected = np.exp(attention) / np.exp(attention).sum(axis=(1, 2), keepdims=True)
        assert shares.reshape(attention.shape) == pytest.approx(expected, abs=1e-5)
        assert features == pytest.approx((expected * feature_map).sum(axis=(1, 2)), abs=1e-4)


def test_even_attention_is_the_average():
    network = make_network(size=64, pooling="attention")
    plain = make_network(size=64)
    network.model.get_layer("ct_attention").set_weights([np.zeros((1, 1, 8, 1)), np.zeros(1)])
    for layer, other in zip(network.branch_layers("ct"), plain.branch_layers("ct"), strict=True):
        layer.set_weights(other.get_weights())
    images = colour_images(2, 64)
    result, expected = (
        keras.Model(n.image_input("ct"), n.features("ct")).predict_on_batch(images) for n in (network, plain)
    )
    assert np.abs(result - expected).max() < 1e-5


def test_attention_is_no_layer_of_the_backbone():
    attending, plain = make_network(size=64, pooling="attention"), make_network(size=64)
    for modality in ("ct", "xray"):
        names = [layer.name for layer in attending.branch_layers(modality)]
        assert names == [layer.name for layer in plain.branch_layers(modality)]
    assert not [layer for layer in attending.model.layers if isinstance(layer, keras.layers.Lambda)]
    large = build_network(attending.config.resized(96))
    large.model.set_weights(attending.model.get_weights())  # the attention has no weight per cell


def test_no_unknown_choice_is_taken_for_the_last_one():
    with pytest.raises(UsageError, match="max"):
        pool_features(keras.Input((4, 4, 8)), "max", "ct_")
    with pytest.raises(UsageError, match="half"):
        make_network(size=64).bottleneck("ct", "half")


@pytest.mark.parametrize("option", [{"pooling": "max"}, {"output_stride": 8}])
def test_other_poolings_and_strides_are_refused(option):
    with pytest.raises(UsageError, match=str(next(iter(option.values())))):
        NetworkConfig.pair(PAIR, **option)
