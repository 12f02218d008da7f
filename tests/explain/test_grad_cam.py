"""Our Grad-CAM against tf-keras-vis's, and what it must hold besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_networks import colour_images, grey_images, make_network

from covid_mm.config import NetworkConfig
from covid_mm.errors import UsageError
from covid_mm.explain.cells import interpolation_matrix
from covid_mm.explain.explained import PREDICTED
from covid_mm.explain.grad_cam import GradCam, find_layer, weigh_channels
from covid_mm.imaging import to_network_input
from covid_mm.models.content_classifier import ContentReader
from covid_mm.models.network import Network, build_network

MODALITIES = ("ct", "xray")
CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "densenet121-mobilenet"


def pixels(count: int, size: int = 150, seed: int = 0) -> dict[str, Any]:
    return {m: to_network_input(grey_images(count, size, seed=seed + k)) for k, m in enumerate(MODALITIES)}


def stretch(maps: np.ndarray) -> np.ndarray:
    """Each map's least value to 0, its greatest to 1; what is 0 everywhere stays so."""
    low, high = (edge(maps, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    return (maps - low) / np.where(high > low, high - low, 1)


def compare_with_tf_keras_vis(
    network: Network, images: dict[str, Any], class_index: int, method: str = "grad_cam"
) -> int:
    """Assert that the stretched maps of both branches are equal; gives how many were not empty."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus

    given = [network.image_input(m) for m in MODALITIES]
    kind = {"grad_cam": Gradcam, "grad_cam_plus_plus": GradcamPlusPlus}[method]
    theirs = kind(keras.Model(given, network.logits()), clone=False)
    count = len(images["ct"])
    ours = GradCam(network).explain(images, np.full(count, class_index, np.int32), method=method)
    shown = 0
    for branch, modality in enumerate(MODALITIES):
        maps = theirs(
            lambda outputs: outputs[:, class_index],
            [images[m] for m in MODALITIES],
            penultimate_layer=network.last_conv_layer(modality),
            seek_penultimate_conv_layer=False,
        )
        assert np.abs(stretch(ours.evidence[modality]) - stretch(maps[branch])).max() < 1e-4, modality
        shown += int((maps[branch].max(axis=(1, 2)) > 0).sum())
    return shown


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_plus_plus"])
@pytest.mark.parametrize("class_index", [0, 1])
def test_equals_tf_keras_vis_on_a_toy_pair(small_backbones, class_index, method):
    shown = [
        compare_with_tf_keras_vis(make_network(seed=seed), pixels(3), class_index, method) for seed in (4, 5)
    ]
    assert sum(shown) >= 3  # of 12; the others have no positive evidence in either program


@pytest.mark.slow
def test_equals_tf_keras_vis_on_the_real_pair():
    if (CHECKPOINT / "meta.json").exists():
        from covid_mm.serving.checkpoint import load_checkpoint

        network = load_checkpoint(CHECKPOINT)[0]
    else:
        network = build_network(NetworkConfig.pair(), seed=0)
        # random MobileNet weights let the signal die out; statistics of the images revive it
        images = pixels(8, seed=50)
        for _ in range(3):
            for layer in network.model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = 0.0
            network.model(images, training=True)
    images = pixels(2, network.config.image_size, seed=9)
    assert sum(compare_with_tf_keras_vis(network, images, class_index) for class_index in (0, 1)) >= 2


def test_logits_are_those_of_the_network(small_backbones):
    network, images = make_network(size=64), pixels(3, 64)
    expected = network.model.predict_on_batch(images)
    explained = GradCam(network).explain(images, np.zeros(3, np.int32))
    assert set(explained.logits) == {"fused", "ct", "xray"}
    for head, name in (("fused", "logits"), ("ct", "ct_logits"), ("xray", "xray_logits")):
        assert explained.logits[head] == pytest.approx(expected[name], abs=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_one_of_two_branches_answers_from_its_own_head(small_backbones, modality):
    network, images = make_network(size=64), pixels(2, 64)
    function = GradCam(network, (modality,))
    assert function.answering == (modality,)
    explained = function.explain({modality: images[modality]}, np.full(2, 1, np.int32))
    both = GradCam(network).explain(images, np.full(2, 1, np.int32))
    assert set(explained.logits) == set(explained.evidence) == {modality}
    assert explained.logits[modality] == pytest.approx(both.logits[modality], abs=1e-5)
    assert explained.evidence[modality].shape == (2, 64, 64)
    assert not np.allclose(explained.evidence[modality], both.evidence[modality])  # another score


def test_single_network_is_explained(small_backbones):
    network = build_network(NetworkConfig.single("xception", "ct", image_size=75))
    explained = GradCam(network).explain({"ct": colour_images(2, 75)}, np.full(2, PREDICTED, np.int32))
    assert set(explained.logits) == {"fused"}
    assert explained.evidence["ct"].shape == (2, 75, 75)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_the_predicted_class_is_the_one_beyond_the_margin(small_backbones, share):
    network, images = make_network(size=64), pixels(6, 64)
    logits = network.model.predict_on_batch(images)["logits"]
    differences = logits[:, 1] - logits[:, 0]
    margin = float(np.quantile(differences, share))
    function = GradCam(network, positive_margin=margin)
    explained = function.explain(images, np.full(6, PREDICTED, np.int32))
    expected = (differences >= margin).astype(int)
    assert 0 < expected.sum() < 6
    assert list(explained.classes) == list(expected)
    asked = function.explain(images, expected.astype(np.int32))
    for modality in MODALITIES:
        assert explained.evidence[modality] == pytest.approx(asked.evidence[modality], abs=1e-6)
    other = function.explain(images, (1 - expected).astype(np.int32))
    assert list(other.classes) == list(1 - expected)
    assert not np.allclose(other.evidence["ct"], asked.evidence["ct"])


def test_evidence_is_positive_finite_and_the_input_unchanged(small_backbones):
    network, images = make_network(size=64), pixels(4, 64)
    before = {m: array.copy() for m, array in images.items()}
    weights = network.model.get_weights()
    explained = GradCam(network).explain(images, np.array([0, 1, 0, 1], np.int32))
    for modality in MODALITIES:
        evidence = explained.evidence[modality]
        assert evidence.shape == (4, 64, 64)
        assert evidence.dtype == np.float32
        assert np.isfinite(evidence).all()
        assert evidence.min() >= 0
        assert np.array_equal(images[modality], before[modality])
    assert all(np.array_equal(a, b) for a, b in zip(weights, network.model.get_weights(), strict=True))


def test_no_evidence_is_all_zero(small_backbones):
    network, images = make_network(size=64), pixels(2, 64)
    for layer in network.head_layers():
        layer.kernel.assign(np.zeros(layer.kernel.shape, np.float32))
    explained = GradCam(network).explain(images, np.full(2, 1, np.int32))
    assert all((explained.evidence[m] == 0).all() for m in MODALITIES)


def test_any_number_of_studies_without_tracing_anew(small_backbones):
    network = make_network(size=64)
    traces = []
    layer = network.model.get_layer("ct_last_conv")
    call = layer.call
    layer.call = lambda *arguments, **options: (traces.append(1), call(*arguments, **options))[1]
    function = GradCam(network)
    once = len(traces)
    assert once >= 1
    images = pixels(5, 64)
    classes = np.full(5, 1, np.int32)
    together = function.explain(images, classes)
    for count in (1, 2, 3, 1):
        part = {m: array[:count] for m, array in images.items()}
        few = function.explain(part, classes[:count])
        assert few.evidence["xray"] == pytest.approx(together.evidence["xray"][:count], abs=1e-5)
    assert len(traces) == once


def test_a_modality_that_the_network_does_not_read_is_refused(small_backbones):
    network = build_network(NetworkConfig.single("vgg16", "ct", image_size=64))
    with pytest.raises(UsageError, match="reads ct, not xray"):
        GradCam(network, ("xray",))


@pytest.mark.parametrize("layer", ["coarse", "fine"])
@pytest.mark.parametrize("method", ["hires_cam", "layer_cam"])
def test_other_fixed_scale_methods_follow_their_equations(small_backbones, method, layer):
    """relu of the sum over channels of gradient x activation, the gradient rectified for Layer-CAM."""
    network, images = make_network(size=60, seed=4), pixels(3, 60)
    result = GradCam(network, method=method, layer=layer).explain(images, np.full(3, 1, np.int32))
    positions = [network.tensor(find_layer(network, m, layer)) for m in MODALITIES]
    trunk = keras.Model([network.image_input(m) for m in MODALITIES], positions)
    tail = keras.Model(positions, network.logits())
    maps = [tf.constant(part) for part in trunk([images[m] for m in MODALITIES], training=False)]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tail(maps, training=False)[:, 1]
    for modality, value, gradient in zip(MODALITIES, maps, tape.gradient(score, maps), strict=True):
        weights = np.maximum(gradient, 0) if method == "layer_cam" else gradient.numpy()
        expected = np.maximum((weights * value.numpy()).sum(-1), 0)
        corners = result.evidence[modality][:, ::59, ::59]  # the grid's ends lie on the image's
        np.testing.assert_allclose(
            corners, expected[:, :: expected.shape[1] - 1, :: expected.shape[2] - 1], atol=1e-6
        )
        assert expected.max() > 0


def test_after_average_pooling_hires_cam_is_grad_cam(small_backbones):
    """Draelos and Carin 2020, section 3: where the gradient is the same in every cell the two agree."""
    network, images = make_network(size=64, seed=4), pixels(3, 64)
    classes = np.full(3, 1, np.int32)
    maps = [GradCam(network, method=method).explain(images, classes) for method in ("grad_cam", "hires_cam")]
    for modality in MODALITIES:
        np.testing.assert_allclose(maps[0].evidence[modality], maps[1].evidence[modality], atol=1e-6)


def test_hires_cam_shows_what_grad_cam_averages_away():
    value = tf.constant(np.array([1.0, 2.0, 3.0, 4.0], np.float32).reshape(1, 2, 2, 1))
    gradient = tf.constant(np.array([1.0, -1.0, 2.0, -2.0], np.float32).reshape(1, 2, 2, 1))
    assert weigh_channels("hires_cam", value, gradient).numpy().tolist() == [[[1.0, 0.0], [6.0, 0.0]]]
    assert weigh_channels("layer_cam", value, gradient).numpy().tolist() == [[[1.0, 0.0], [6.0, 0.0]]]
    assert not weigh_channels("grad_cam", value, gradient).numpy().any()


def test_content_is_checked_from_other_images_where_asked(small_backbones):
    network, images, whole = make_network(size=64), pixels(2, 64), pixels(2, 64, seed=7)
    classes = np.full(2, 1, np.int32)
    same = GradCam(network, content_reader=ContentReader("ct")).explain(whole, classes)
    function = GradCam(network, content_reader=ContentReader("ct"), checks_other_images=True)
    result = function.explain(images, classes, whole)
    for modality in MODALITIES:
        np.testing.assert_allclose(result.contents[modality], same.contents[modality], atol=1e-5)
        assert not np.allclose(result.evidence[modality], same.evidence[modality])
    with pytest.raises(UsageError, match="content_images"):
        function.explain(images, classes)
    alone = GradCam(network, ("xray",), content_reader=ContentReader("ct"), checks_other_images=True)
    only = alone.explain({"xray": images["xray"]}, classes, {"xray": whole["xray"]})
    np.testing.assert_allclose(only.contents["xray"], same.contents["xray"], atol=1e-5)


def test_a_method_without_a_fixed_scale_is_refused(small_backbones):
    network = make_network(size=64)
    with pytest.raises(UsageError, match="no fixed scale"):
        GradCam(network, method="score_cam")
    with pytest.raises(UsageError, match="not made from gradients"):
        weigh_channels("score_cam", np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(UsageError, match="not known"):
        GradCam(network, layer="middle")


def test_attention_is_the_sigmoid_of_the_cells_logits_whatever_the_class(small_backbones):
    network = make_network(seed=4, pooling="attention")
    images = pixels(3)
    function = GradCam(network, method="attention")
    normal, positive = (function.explain(images, np.full(3, index, np.int32)) for index in (0, 1))
    for modality in MODALITIES:
        logits = keras.Model(network.image_input(modality), network.attention(modality))(images[modality])
        cells = 1.0 / (1.0 + np.exp(-np.asarray(logits)[..., 0]))
        rows, columns = (interpolation_matrix(150, count) for count in cells.shape[1:])
        expected = np.stack([rows @ one @ columns.T for one in cells])
        np.testing.assert_allclose(positive.evidence[modality], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(normal.evidence[modality], positive.evidence[modality])


@pytest.mark.parametrize(("pooling", "layer"), [("average", "coarse"), ("attention", "fine")])
def test_attention_is_of_attention_pooling_and_the_last_convolution(small_backbones, pooling, layer):
    network = make_network(seed=4, pooling=pooling)
    with pytest.raises(UsageError, match="attention pooling"):
        GradCam(network, method="attention", layer=layer)
    with pytest.raises(UsageError, match="attention pooling"):
        GradCam(network, layer=layer).explain(pixels(1), np.zeros(1, np.int32), method="attention")


def test_cells_against_the_class_weigh_nothing_in_grad_cam_plus_plus():
    """There the shares' divisor is 0 at one gradient and either sign beside it: no map may hang on that."""
    value = np.full((1, 2, 2, 1), 0.5, np.float32)  # adds up to 2, so that the divisor is 0 at -1
    maps = []
    for against in (0.0, -0.3, -1.0, np.nextafter(np.float32(-1.0), np.float32(0.0))):
        gradient = np.array([0.5, against, 0.25, -0.4], np.float32).reshape(1, 2, 2, 1)
        maps.append(weigh_channels("grad_cam_plus_plus", value, gradient).numpy())
    assert maps[0].max() > 0
    for other in maps[1:]:
        np.testing.assert_array_equal(other, maps[0])
