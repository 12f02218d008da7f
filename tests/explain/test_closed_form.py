"""The graph that is exported gives what the compiled function with automatic gradients gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from toy_networks import colour_images, make_network

from covid_mm.config import NetworkConfig
from covid_mm.errors import UsageError
from covid_mm.explain.closed_form import AnswerGraph
from covid_mm.explain.explained import PREDICTED
from covid_mm.explain.grad_cam import GradCam
from covid_mm.explain.heat_checks import second_method
from covid_mm.explain.method_table import PASS_METHODS, list_pass_methods
from covid_mm.models.content_classifier import ContentReader
from covid_mm.models.heads import FUSED
from covid_mm.models.network import build_network

pytestmark = pytest.mark.usefixtures("small_backbones")


def run_graph(graph: AnswerGraph, images: dict[str, Any], classes: Any, method: str) -> dict[str, Any]:
    inputs = {f"image_{m}": tf.constant(values) for m, values in images.items()}
    inputs |= {f"content_{m}": tf.constant(values) for m, values in images.items()}
    methods = [PASS_METHODS.index(name) for name in (method, second_method(method))]
    inputs |= {"classes": tf.constant(classes), "methods": tf.constant(methods)}
    return {name: value.numpy() for name, value in graph(**inputs).items()}


@pytest.mark.parametrize("pooling", ["average", "attention"])
@pytest.mark.parametrize("modalities", [("ct", "xray"), ("ct",), ("xray",)])
def test_closed_form_equals_automatic_gradients(pooling: str, modalities: tuple[str, ...]) -> None:
    network = make_network(head_width=16, seed=2, pooling=pooling)
    images = {m: colour_images(3, 150, seed=number) for number, m in enumerate(modalities)}
    margin = 0.05
    ours = AnswerGraph(network, modalities, positive_margin=margin, content_reader=ContentReader("xray"))
    theirs = GradCam(
        network,
        modalities,
        positive_margin=margin,
        content_reader=ContentReader("xray"),
        checks_other_images=True,
    )
    seen = 0
    for method in list_pass_methods(network.config.pooling):
        classes = np.array([0, 1, PREDICTED], np.int32)
        expected = theirs.explain(images, classes, images, method=method)
        outputs = run_graph(ours, images, classes, method)
        np.testing.assert_array_equal(outputs["classes"], expected.classes)
        for head, logits in expected.logits.items():
            np.testing.assert_allclose(outputs[f"logits_{head}"], logits, atol=1e-5)
        for modality, evidence in expected.evidence.items():
            seen += evidence.max() > 0
            np.testing.assert_allclose(
                outputs[f"evidence_{modality}"], evidence, atol=1e-5 * float(evidence.max()) + 1e-9
            )
            other = expected.second[modality]
            np.testing.assert_allclose(
                outputs[f"second_{modality}"], other, atol=1e-5 * float(other.max()) + 1e-9
            )
            np.testing.assert_allclose(
                outputs[f"contents_{modality}"], expected.contents[modality], rtol=1e-4, atol=1e-5
            )
    assert seen >= len(list_pass_methods(network.config.pooling))


def test_features_are_the_pooled_ones() -> None:
    network = make_network(head_width=16, seed=2, pooling="attention")
    images = {"ct": colour_images(2, 150)}
    graph = AnswerGraph(network, ("ct",), positive_margin=0.0, content_reader=None)
    assert set(graph.inputs) == {"image_ct", "classes", "methods"}
    outputs = run_graph(graph, images, np.zeros(2, np.int32), "grad_cam")
    import keras

    pooled = keras.Model(network.image_input("ct"), network.features("ct"))(images["ct"]).numpy()
    np.testing.assert_allclose(outputs["features_ct"], pooled, atol=1e-6)


def test_a_single_network_has_one_head() -> None:
    network = build_network(NetworkConfig.single("mobilenet", "xray", head_width=16))
    graph = AnswerGraph(network, ("xray",), positive_margin=0.0, content_reader=None)
    expected = GradCam(network).explain({"xray": colour_images(2, 150)}, np.ones(2, np.int32))
    outputs = run_graph(graph, {"xray": colour_images(2, 150)}, np.ones(2, np.int32), "grad_cam")
    np.testing.assert_allclose(outputs[f"logits_{FUSED}"], expected.logits[FUSED], atol=1e-5)
    np.testing.assert_allclose(outputs["evidence_xray"], expected.evidence["xray"], atol=1e-6)


def test_more_than_pooling_behind_the_last_convolution_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(head_width=16)
    from covid_mm.explain import closed_form

    monkeypatch.setattr(closed_form, "find_layer", lambda network, modality, layer: f"{modality}_last_bn")
    with pytest.raises(UsageError, match=r"Only pooling may follow .* but ct_relu follows ct_last_bn"):
        AnswerGraph(network, ("ct",), positive_margin=0.0, content_reader=None)
