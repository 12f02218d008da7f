"""`Predictor.explain`: the study of predict, by another method."""

from __future__ import annotations

import numpy as np
import pytest
from toy_checkpoint import publish_toy
from toy_networks import count_passes, grey_images

from covid_mm import load_predictor
from covid_mm.config import CLASSES
from covid_mm.errors import UsageError
from covid_mm.explain.method_table import GRADIENT_METHODS, LAYERS
from covid_mm.explain.methods import BranchExplainer

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture
def predictor(tmp_path):
    publish_toy(tmp_path / "toy")
    return load_predictor(tmp_path / "toy")


def test_grad_cam_is_that_of_the_answer(predictor):
    ct, xray = grey_images(2, 150, seed=1).astype(np.uint8)
    answer = predictor.predict(ct=ct, xray=xray)
    explained = predictor.explain(ct, xray)
    assert (explained.method, explained.layer, explained.scale) == ("grad_cam", "coarse", "fixed")
    assert explained.heatmap_class == answer.heatmap_class
    for modality, heatmap in answer.heatmaps.items():
        np.testing.assert_array_equal(explained.heatmaps[modality], heatmap)


@pytest.mark.parametrize("chosen", ["normal", "covid19_pneumonia"])
def test_others_are_relative_and_of_the_asked_class(predictor, chosen):
    ct, xray = grey_images(2, 150, seed=1).astype(np.uint8)
    explained = predictor.explain(ct, xray, method="layer_cam", layer="fine", heatmap_class=chosen)
    assert explained.scale == "relative"
    assert explained.heatmap_class == chosen
    assert {m: h.shape for m, h in explained.heatmaps.items()} == {"ct": (150, 150), "xray": (150, 150)}
    assert explained.title == "Layer-CAM"


@pytest.mark.parametrize(
    ("method", "layer"), [("grad_cam", "coarse"), ("layer_cam", "fine"), ("score_cam", None)]
)
def test_other_heatmaps_come_with_the_same_answer(predictor, method, layer):
    ct, xray = grey_images(2, 150, seed=1).astype(np.uint8)
    usual = predictor.predict(ct, xray)
    answer = predictor.predict(ct, xray, method=method, layer=layer)
    assert (answer.label, answer.heatmap_class) == (usual.label, usual.heatmap_class)
    assert answer.probabilities == pytest.approx(usual.probabilities, abs=1e-6)
    assert (answer.heatmap_method, answer.heatmap_layer) == (method, layer or "coarse")
    assert answer.heatmap_scale == ("fixed" if method == "grad_cam" else "relative")
    expected = BranchExplainer(predictor.network, ("ct", "xray")).explain(
        {
            m: np.repeat(one[None, ..., None], 3, -1).astype(np.float32)
            for m, one in (("ct", ct), ("xray", xray))
        },
        CLASSES.index(answer.heatmap_class),
        method=method,
        layer=answer.heatmap_layer,
    )
    for modality, heatmap in answer.heatmaps.items():
        if answer.heatmap_scale == "relative":
            np.testing.assert_allclose(heatmap, expected[modality], atol=1e-3)
        else:
            np.testing.assert_array_equal(heatmap, usual.heatmaps[modality])


def test_answer_and_heatmaps_are_one_pass_through_the_network(predictor):
    passes = count_passes(predictor.network)
    pair = grey_images(2, 150, seed=1).astype(np.uint8)
    calls = 0
    for layer in LAYERS:
        for method in GRADIENT_METHODS:
            predictor.predict(*pair, method=method, layer=layer)
            calls += 1
            assert passes == {"ct": calls, "xray": calls}
    predictor.predict_batch([tuple(pair), tuple(pair[::-1])])
    assert passes == {"ct": calls + 1, "xray": calls + 1}


def test_one_image_gives_one_map(predictor):
    (ct,) = grey_images(1, 150, seed=1).astype(np.uint8)
    assert set(predictor.explain(ct, method="grad_cam_plus_plus").heatmaps) == {"ct"}


def test_what_is_unknown_is_refused(predictor):
    (ct,) = grey_images(1, 150, seed=1).astype(np.uint8)
    with pytest.raises(UsageError, match="not known"):
        predictor.explain(ct, method="magic")
    with pytest.raises(UsageError, match="not known"):
        predictor.explain(ct, layer="middling")
    with pytest.raises(UsageError, match="no image"):
        predictor.explain()
