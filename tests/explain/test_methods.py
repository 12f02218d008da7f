"""Other heatmap methods, a branch at a time, through tf-keras-vis."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_networks import grey_images, make_network

from covid_mm.config import NetworkConfig
from covid_mm.errors import Cancelled, CheckpointError, UsageError
from covid_mm.explain.grad_cam import GradCam, find_layer
from covid_mm.explain.method_table import ATTENTION, GRADIENT_METHODS, METHODS, find_method
from covid_mm.explain.methods import BranchExplainer, stretch_map
from covid_mm.imaging import to_network_input
from covid_mm.models.network import build_network

pytestmark = pytest.mark.usefixtures("small_backbones")
BOTH = ("ct", "xray")
LIBRARY = [name for name in METHODS if name != ATTENTION]
OTHERS = [name for name in LIBRARY if name != "grad_cam"]


def study(seed: int = 0) -> dict[str, np.ndarray]:
    return {m: to_network_input(grey_images(1, 64, seed=seed + k)) for k, m in enumerate(BOTH)}


def find_shown(network, function, *, class_index: int = 1, **options) -> dict[str, np.ndarray]:
    return function.explain(study(), class_index, **{"method": "layer_cam", "layer": "coarse"} | options)


@pytest.mark.parametrize("class_index", [0, 1])
def test_grad_cam_through_the_library_is_ours(class_index):
    network = make_network(size=64, seed=4)
    ours = GradCam(network).explain(study(), np.array([class_index], np.int32)).evidence
    theirs = find_shown(network, BranchExplainer(network, BOTH), class_index=class_index, method="grad_cam")
    shown = 0
    for modality in BOTH:
        highest = ours[modality][0].max()
        if highest > 0:
            shown += 1
            assert np.abs(ours[modality][0] / highest - theirs[modality]).max() < 1e-4
        else:
            assert not theirs[modality].any()
    assert shown


@pytest.mark.parametrize("layer", ["coarse", "fine"])
def test_layer_cam_follows_its_equation(layer):
    """Jiang et al. 2021, equations (4) to (6): relu(sum over channels of relu(gradient) x activation)."""
    network = make_network(size=64, seed=4)
    images = study()
    result = BranchExplainer(network, BOTH).explain(images, 1, method="layer_cam", layer=layer)
    positions = [network.tensor(find_layer(network, m, layer)) for m in BOTH]
    trunk = keras.Model([network.image_input(m) for m in BOTH], [*positions, network.logits()])
    for branch, modality in enumerate(BOTH):
        tail = keras.Model(network.image_input(modality), positions[branch])
        value = tf.constant(tail(images[modality], training=False))
        cells = gradient_of_score(network, modality, find_layer(network, modality, layer), images)
        expected = np.maximum((np.maximum(cells, 0) * value.numpy()).sum(-1), 0)[0]
        side = expected.shape[0]
        assert trunk.output_shape[branch][1] == side
        if expected.max() == 0:
            assert not result[modality].any()
            continue
        # the library brings it to the image's size with the corners kept
        grid = np.rint(np.linspace(0, 63, side)).astype(int)
        corners = np.ix_([grid[0], grid[-1]], [grid[0], grid[-1]])
        shown, wanted = result[modality][corners], expected[np.ix_([0, -1], [0, -1])]
        assert wanted.max() > 0
        np.testing.assert_allclose(shown / shown.max(), wanted / wanted.max(), atol=0.02)


@pytest.mark.parametrize("layer", ["coarse", "fine"])
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_a_branch_at_a_time_is_the_compiled_function(method, layer):
    network = make_network(size=64, seed=4)
    function = GradCam(network, layer=layer)  # of Grad-CAM, unless it is asked otherwise
    ours = function.explain(study(), np.array([1], np.int32), method=method).evidence
    result = BranchExplainer(network, BOTH).explain(study(), 1, method=method, layer=layer)
    for modality in BOTH:
        highest = ours[modality][0].max()
        np.testing.assert_allclose(result[modality], ours[modality][0] / (highest or 1), atol=1e-4)


def test_attention_over_the_cells_is_explained_alike():
    network = make_network(size=64, seed=4, pooling="attention")
    expected = network.model.predict_on_batch(study())["logits"]
    for layer in ("coarse", "fine"):
        function = GradCam(network, method="hires_cam", layer=layer)
        explained = function.explain(study(), np.array([1], np.int32))
        np.testing.assert_allclose(explained.logits["fused"], expected, atol=1e-5)
        result = BranchExplainer(network, BOTH).explain(study(), 1, method="hires_cam", layer=layer)
        for modality in BOTH:
            ours = explained.evidence[modality][0]
            np.testing.assert_allclose(result[modality], ours / (ours.max() or 1), atol=1e-4)


def gradient_of_score(network, modality, layer_name, images) -> np.ndarray:
    """The positive logit's gradient at a layer, both images in their places."""
    model = keras.Model(
        [network.image_input(m) for m in BOTH], [network.tensor(layer_name), network.logits()]
    )
    layer = network.model.get_layer(layer_name)
    recorded = {}
    call = layer.call

    def keep(*arguments, **options):
        recorded["value"] = call(*arguments, **options)
        recorded["tape"].watch(recorded["value"])
        return recorded["value"]

    with tf.GradientTape() as tape:
        recorded["tape"] = tape
        layer.call = keep
        try:
            _, logits = model([images[m] for m in BOTH], training=False)
        finally:
            layer.call = call
        score = logits[:, 1]
    return tape.gradient(score, recorded["value"]).numpy()


@pytest.mark.parametrize("method", LIBRARY)
@pytest.mark.parametrize("layer", ["coarse", "fine"])
def test_maps_are_shares_of_their_highest_value(method, layer):
    network = make_network(size=64, seed=5)
    result = BranchExplainer(network, BOTH).explain(study(), 1, method=method, layer=layer)
    assert list(result) == list(BOTH)
    for heatmap in result.values():
        assert heatmap.shape == (64, 64)
        assert heatmap.dtype == np.float32
        assert np.isfinite(heatmap).all()
        assert heatmap.min() >= 0
        assert heatmap.max() == pytest.approx(1) or not heatmap.any()
    assert any(heatmap.any() for heatmap in result.values())


@pytest.mark.parametrize("method", OTHERS)
def test_the_class_and_the_image_change_the_map(method):
    network = make_network(size=64, seed=4)
    function = BranchExplainer(network, BOTH)
    options = {"method": method, "layer": "fine"}
    first = function.explain(study(), 1, **options)
    again = function.explain(study(), 1, **options)
    other_class = function.explain(study(), 0, **options)
    other_image = function.explain(study() | {"ct": study(seed=9)["ct"]}, 1, **options)
    for modality in BOTH:
        np.testing.assert_allclose(first[modality], again[modality], atol=1e-6)
    assert any(not np.allclose(first[m], other_class[m]) for m in BOTH)
    assert not np.allclose(first["ct"], other_image["ct"])


def test_one_branch_goes_by_its_own_head():
    network = make_network(size=64, seed=4)
    images = study()
    alone = BranchExplainer(network, ("ct",)).explain(
        {"ct": images["ct"]}, 1, method="grad_cam", layer="coarse"
    )
    ours = GradCam(network, ("ct",)).explain({"ct": images["ct"]}, np.array([1], np.int32)).evidence["ct"][0]
    assert list(alone) == ["ct"]
    np.testing.assert_allclose(alone["ct"], ours / ours.max() if ours.max() else ours, atol=1e-4)


def test_a_single_network_is_explained():
    network = build_network(NetworkConfig.single("mobilenet", "xray", image_size=64))
    result = BranchExplainer(network, ("xray",)).explain(
        {"xray": study()["xray"]}, 1, method="score_cam", layer="coarse"
    )
    assert result["xray"].shape == (64, 64)


def test_progress_is_told_and_work_can_be_stopped():
    network = make_network(size=64, seed=5)
    function = BranchExplainer(network, BOTH)
    shares: list[float] = []
    function.explain(study(), 1, method="score_cam", layer="coarse", progress=shares.append)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len(shares) > 3
    asked = []

    def stop_at_third() -> bool:
        asked.append(True)
        return len(asked) >= 3

    with pytest.raises(Cancelled):
        function.explain(study(), 1, method="score_cam", layer="coarse", cancelled=stop_at_third)
    assert len(asked) == 3
    again = function.explain(study(), 1, method="grad_cam", layer="coarse")
    assert set(again) == set(BOTH)


def test_no_positive_evidence_stays_empty_and_nan_is_refused():
    assert not stretch_map(np.full((4, 4), -1.0, np.float32), "CT").any()
    assert not stretch_map(np.zeros((4, 4), np.float32), "CT").any()
    with pytest.raises(CheckpointError, match="not a number"):
        stretch_map(np.full((4, 4), np.nan, np.float32), "CT")


def test_unknown_names_are_refused():
    network = make_network(size=64)
    with pytest.raises(UsageError, match="not known"):
        find_method("saliency")
    with pytest.raises(UsageError, match="coarse or fine"):
        find_layer(network, "ct", "middling")
