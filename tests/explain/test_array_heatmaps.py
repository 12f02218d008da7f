"""Heads and heatmaps in NumPy are those of the compiled function with automatic gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from toy_networks import colour_images, make_network

from covid_mm.errors import UsageError
from covid_mm.explain.array_heatmaps import ArrayHeads, weigh_cells
from covid_mm.explain.cells import interpolation_matrix
from covid_mm.explain.grad_cam import GradCam, find_layer
from covid_mm.explain.method_table import list_pass_methods
from covid_mm.models.heads import FUSED

pytestmark = pytest.mark.usefixtures("small_backbones")


@pytest.mark.parametrize("pooling", ["average", "attention"])
@pytest.mark.parametrize("modalities", [("ct", "xray"), ("xray",)])
def test_logits_and_maps_equal_automatic_gradients(pooling, modalities):
    network = make_network(head_width=16, seed=2, pooling=pooling)
    images = {m: colour_images(3, 150, seed=number) for number, m in enumerate(modalities)}
    both = modalities == network.config.modalities
    heads = ArrayHeads(network.config, {m: int(network.features(m).shape[-1]) for m in ("ct", "xray")})
    layers = [layer for layer in network.model.layers if f"{layer.name}/kernel" in heads.shapes]
    arrays = {f"{layer.name}/{v.name}": np.asarray(v) for layer in layers for v in layer.weights}
    assert {name: array.shape for name, array in arrays.items()} == heads.shapes
    heads.set_weights(arrays)
    maps = {
        m: keras.Model(network.image_input(m), network.tensor(find_layer(network, m, "coarse")))(images[m])
        for m in modalities
    }
    pooled = {m: heads.pool(m, np.asarray(values)) for m, values in maps.items()}
    logits = {m: heads.branch_logits(m, pooled[m].features) for m in modalities}
    active = None
    if both:
        logits[FUSED], active = heads.fuse([pooled[m].features for m in modalities])
    classes = np.array([0, 1, 1], np.int32)
    seen = 0
    methods = list_pass_methods(network.config.pooling)
    for method in methods:
        expected = GradCam(network, modalities).explain(images, classes, method=method)
        for head, values in expected.logits.items():
            np.testing.assert_allclose(logits[head], values, atol=1e-5)
        for m, evidence in expected.evidence.items():
            gradient = heads.gradient(m, FUSED if both else m, classes, active)
            cells = weigh_cells(method, pooled[m], gradient).reshape(maps[m].shape[:3])
            enlarge = interpolation_matrix(150, cells.shape[1])
            seen += evidence.max() > 0
            np.testing.assert_allclose(
                enlarge @ cells @ enlarge.T, evidence, atol=1e-4 * float(evidence.max()) + 1e-9
            )
    assert seen >= len(methods)


def test_another_method_is_refused():
    with pytest.raises(UsageError, match="'score_cam' is not made from gradients"):
        weigh_cells("score_cam", None, None)
