"""`Predictor.explain`: the study of predict, by another method."""

from __future__ import annotations

import numpy as np
import pytest
from toy_checkpoint import publish_toy
from toy_networks import grey_images

from covid_mm import load_predictor
from covid_mm.errors import UsageError

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.fixture
def predictor(tmp_path):
    publish_toy(tmp_path / "toy")
    return load_predictor(tmp_path / "toy")


def test_grad_cam_is_that_of_the_answer(predictor):
    ct, xray = grey_images(2, 150, seed=1).astype(np.uint8)
    answer = predictor.predict(ct=ct, xray=xray)
    found = predictor.explain(ct, xray)
    assert (found.method, found.layer, found.scale) == ("grad_cam", "coarse", "fixed")
    assert found.heatmap_class == answer.heatmap_class
    for modality, heatmap in answer.heatmaps.items():
        np.testing.assert_array_equal(found.heatmaps[modality], heatmap)


@pytest.mark.parametrize("chosen", ["normal", "covid19_pneumonia"])
def test_others_are_relative_and_of_the_asked_class(predictor, chosen):
    ct, xray = grey_images(2, 150, seed=1).astype(np.uint8)
    found = predictor.explain(ct, xray, method="layer_cam", layer="fine", heatmap_class=chosen)
    assert found.scale == "relative"
    assert found.heatmap_class == chosen
    assert {m: h.shape for m, h in found.heatmaps.items()} == {"ct": (150, 150), "xray": (150, 150)}
    assert found.title == "Layer-CAM"


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
