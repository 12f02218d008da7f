"""The lists of convolutions are the networks that Keras builds, on each library that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from toy_networks import grey_images, shake_weights

from covid_mm.explain.grad_cam import find_layer
from covid_mm.imaging import to_network_input
from covid_mm.models.convolutions import LISTED, list_segmenter
from covid_mm.models.lung_segmenter import (
    SEGMENTER_SIDE,
    LungSegmenter,
    build_segmenter,
    read_segmenter_arrays,
)
from covid_mm.models.openvino_graph import OpenVinoGraph, other_allocator
from covid_mm.models.tensorflow_graph import TensorFlowGraph

GRAPHS: list[Callable[[], Any]] = [
    TensorFlowGraph,
    partial(TensorFlowGraph, fuses=False),
    *([] if other_allocator() else [OpenVinoGraph]),
]
SIDES = (75, 64)  # odd, so that paddings show, and even, where they are others


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("output_stride", [16, 32])
@pytest.mark.parametrize("backbone", sorted(LISTED))
def test_weights_and_feature_maps_are_those_of_keras(backbone: str, output_stride: int, side: int) -> None:
    network: Any = make_single(backbone, output_stride, side)
    one = LISTED[backbone]("ct_", output_stride)
    arrays = {
        f"{layer.name}/{variable.name}": np.asarray(variable)
        for layer in network.branch_layers("ct")
        for variable in layer.weights
    }
    assert one.convolutions.weights == {name: array.shape for name, array in arrays.items()}
    assert one.scaling == network.backbone("ct").scaling
    greys = grey_images(2, side)
    images = to_network_input(greys)
    assert tuple(one.early) == network.backbone("ct").early_layers
    tensors = [network.tensor(find_layer(network, "ct", "coarse")), network.bottleneck("ct", "last-block")]
    tensors += [network.tensor(f"ct_{layer}") for layer in one.early]
    expected = keras.Model(network.image_input("ct"), tensors)(images, training=False)
    for new_graph in GRAPHS:
        graph = new_graph()
        maps = one.convolutions.build(graph, arrays, graph.image(side, 1))
        names = [one.last, one.fed, *one.early.values()]
        got = graph.run({maps["image"]: greys[..., None]}, [maps[name] for name in names])
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.std() > 0
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(np.abs(theirs).max()))


def test_the_lung_segmenter_is_that_of_keras(tmp_path) -> None:
    network = build_segmenter(seed=1)
    shake_weights(network, 1)
    file = tmp_path / "lungs.npz"
    file.write_bytes(LungSegmenter({"ct": network}).to_bytes())
    net, logits = list_segmenter()
    arrays = read_segmenter_arrays(file, net.weights)["ct"]
    network.set_weights(list(arrays.values()))  # in half precision, as the file has them
    images = np.random.default_rng(0).uniform(0, 1, (2, SEGMENTER_SIDE, SEGMENTER_SIDE, 1))
    expected = np.asarray(network(images.astype(np.float32), training=False))
    for new_graph in GRAPHS:
        graph = new_graph()
        maps = net.build(graph, arrays, graph.image(SEGMENTER_SIDE, 1))
        (got,) = graph.run({maps["image"]: images.astype(np.float32)}, [maps[logits]])
        np.testing.assert_allclose(got, expected, atol=2e-5 * float(np.abs(expected).max()))


def test_moments_are_those_of_numpy() -> None:
    images = np.random.default_rng(0).normal(5, 2, (3, 4, 4, 2)).astype(np.float32)
    images[..., 1] += 1000  # far from 0, where the mean of squares would lose the deviation
    for new_graph in GRAPHS:
        graph = new_graph()
        image = graph.image(4, 2)
        mean, deviation = graph.run({image: images}, graph.moments(image))
        np.testing.assert_allclose(mean, images.mean(axis=(1, 2), keepdims=True), rtol=1e-6)
        np.testing.assert_allclose(deviation, images.std(axis=(1, 2), keepdims=True), rtol=1e-3)


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_a_graph_runs_with_and_without_onednn(kernels: str) -> None:
    script = """
import numpy as np
from covid_mm.models.tensorflow_graph import TensorFlowGraph, has_fused_kernels

graph, ones = TensorFlowGraph(), np.ones(4, np.float32)
image = graph.image(1, 4)
kernel = np.ones((1, 1, 4), np.float32)
deep = graph.convolve_depthwise(image, kernel, ones, stride=1, padding="SAME", activation="Relu6")
(values,) = graph.run({image: np.array([[[[-3, 0, 2, 7]]]], np.float32)}, [graph.scale(deep, ones, -ones, "Relu")])
image = graph.image(3, 1)
greatest, corner = graph.max_pool(image, 2, 1, 1), np.ones((2, 2, 1, 1), np.float32)
padded = graph.convolve(greatest, corner, ones[:1], stride=4, padding=(1, 0), activation="")
assert graph.shape(padded) == (None, 1, 1, 1)
(sums,) = graph.run({image: np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)}, [padded])
assert sums.ravel() == [1.0], sums  # three zeros around, the greatest at the corner, and the offset
print(has_fused_kernels(), values.ravel().tolist())
"""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": kernels, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    has, values = done.stdout.split(maxsplit=1)
    assert values.strip() == "[0.0, 0.0, 2.0, 5.0]"
    assert has == "False" or kernels == "1"  # with oneDNN not every processor has them


def make_single(backbone: str, output_stride: int, side: int) -> Any:
    """A network of one branch, its weights all random."""
    from covid_mm.config import NetworkConfig
    from covid_mm.models.network import build_network

    config = NetworkConfig.single(backbone, "ct", image_size=side, head_width=4, output_stride=output_stride)
    network = build_network(config)
    shake_weights(network.model, 0)
    return network
