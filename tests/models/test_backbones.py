"""All six backbones as keras.applications builds them: scaling, names, places, weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from toy_networks import colour_images

from covid_mm.config import BACKBONES, MODALITIES, Modality, NetworkConfig
from covid_mm.errors import UsageError
from covid_mm.models.backbones import attach_backbone, find_backbone, scale_pixels
from covid_mm.models.network import Network, build_network
from covid_mm.models.weights_file import load_weights, save_weights

PREPROCESSING = {
    "resnet50": keras.applications.resnet50,
    "densenet121": keras.applications.densenet,
    "xception": keras.applications.xception,
    "vgg16": keras.applications.vgg16,
    "mobilenet": keras.applications.mobilenet,
    "inceptionv3": keras.applications.inception_v3,
}


@dataclass(frozen=True)
class Specimen:
    """One real backbone as a single network for images of its smallest size."""

    network: Network
    modality: Modality
    size: int


SERVED = ("densenet121", "mobilenet")


def slow_but_served(names: Iterable[str]) -> list[Any]:
    """As parameters; building and running a real backbone takes seconds, so the paper's others are slow."""
    return [pytest.param(name, marks=() if name in SERVED else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", params=slow_but_served(BACKBONES))
def specimen(request: pytest.FixtureRequest) -> Specimen:
    size = find_backbone(request.param).smallest
    modality: Modality = "ct" if request.param in MODALITIES["ct"].paper_backbones else "xray"
    config = NetworkConfig.single(request.param, modality, image_size=size)
    return Specimen(build_network(config, seed=3), modality, size)


def run(model: Any, images: Any) -> Any:
    """One pass without compiling it, which takes longer than the pass."""
    return np.asarray(model(images, training=False))


@pytest.mark.parametrize("name", BACKBONES)
def test_scaling_is_that_of_keras_applications(name):
    pixels = keras.Input((8, 8, 3))
    scale = keras.Model(pixels, scale_pixels(pixels, find_backbone(name).scaling, "ct_"))
    images = colour_images(2, 8)
    expected = PREPROCESSING[name].preprocess_input(images.copy())
    assert np.abs(run(scale, images) - expected).max() < 1e-4


@pytest.mark.parametrize("scaling", ["Caffe", "tensorflow", "", None])
def test_a_scaling_that_is_not_known_is_not_taken_for_another(scaling):
    with pytest.raises(UsageError, match="tf, torch, caffe"):
        scale_pixels(keras.Input((8, 8, 3)), scaling, "ct_")


def test_graph_is_flat_plain_and_prefixed(specimen):
    layers = specimen.network.model.layers
    assert not [layer.name for layer in layers if isinstance(layer, keras.Model | keras.layers.Lambda)]
    others = {"fully_connected", "dropout", "logits", "probabilities", specimen.modality}
    # the plain flip of the channels has no layer of its own and no weights
    names = {layer.name for layer in layers if layer.variables}
    assert all(name.startswith(f"{specimen.modality}_") for name in names - others)
    assert all(
        layer.name.startswith(f"{specimen.modality}_")
        for layer in specimen.network.branch_layers(specimen.modality)
    )


def test_names_are_those_of_keras_applications(specimen):
    backbone = specimen.network.backbone(specimen.modality)
    alone = backbone.build(include_top=False, weights=None, input_shape=(specimen.size, specimen.size, 3))
    weighted = [layer for layer in alone.layers if layer.variables]
    ours = specimen.network.branch_layers(specimen.modality)
    assert [[tuple(v.shape) for v in layer.weights] for layer in ours] == [
        [tuple(v.shape) for v in layer.weights] for layer in weighted
    ]
    # the weights in the same order give the same features, so files of keras.applications fit
    for layer, source in zip(ours, weighted, strict=True):
        source.set_weights(layer.get_weights())
    images = colour_images(2, specimen.size)
    scaled = PREPROCESSING[backbone.name].preprocess_input(images.copy())
    expected = run(alone, scaled).mean(axis=(1, 2))
    branch = keras.Model(
        specimen.network.image_input(specimen.modality), specimen.network.features(specimen.modality)
    )
    features = run(branch, images)
    assert np.abs(features - expected).max() <= 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_evidence_and_boundary_lie_where_the_table_says(specimen):
    network, modality = specimen.network, specimen.modality
    evidence = network.evidence(modality)
    backbone = network.backbone(modality)
    assert evidence is network.model.get_layer(f"{modality}_{backbone.last_conv_layer}").output
    assert len(evidence.shape) == 4
    assert evidence.shape[-1] == {"vgg16": 512, "densenet121": 1024, "mobilenet": 1024}.get(
        backbone.name, 2048
    )
    # behind the evidence there is nothing with weights but the head
    tail = keras.Model(evidence, network.logits())
    assert {layer.name for layer in tail.layers if layer.weights} == {"fully_connected", "logits"}


def test_trunk_and_tail_make_the_network(specimen):
    network, modality = specimen.network, specimen.modality
    boundary = network.bottleneck(modality, "last-block")
    trunk = keras.Model(network.image_input(modality), boundary)
    tail = keras.Model(boundary, network.logits())
    images = colour_images(2, specimen.size, seed=1)
    whole = run(keras.Model(network.image_input(modality), network.logits()), images)
    parts = run(tail, run(trunk, images))
    assert np.abs(whole - parts).max() <= 1e-5 * max(1.0, float(np.abs(whole).max()))
    frozen = {layer.name for layer in trunk.layers if layer.weights}
    trained = {layer.name for layer in tail.layers if layer.weights} - {"fully_connected", "logits"}
    assert frozen
    assert trained
    assert not frozen & trained  # no layer of a residual or dense block is on both sides


def test_names_do_not_depend_on_what_was_built_before(small_backbones):
    names = []  # InceptionV3 leaves its layers unnamed, and so does its stand-in
    for _ in range(2):
        image = keras.Input((75, 75, 3))
        attach_backbone(image, find_backbone("inceptionv3"), "xray_")
        network = keras.Model(image, attach_backbone(image, find_backbone("inceptionv3"), "ct_")[1])
        names.append([layer.name for layer in network.layers[1:]])
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])


@pytest.mark.parametrize("name", BACKBONES)
def test_too_small_images_are_refused(name):
    smallest = find_backbone(name).smallest
    config: Any = NetworkConfig.single(name, "ct", image_size=smallest - 1)
    with pytest.raises(UsageError, match=f"at least {smallest} x {smallest}"):
        build_network(config)


def test_unknown_backbones_are_refused():
    with pytest.raises(UsageError, match="expected one of resnet50, "):
        find_backbone("lenet")


@pytest.mark.parametrize("specimen", slow_but_served(["mobilenet", "densenet121", "resnet50"]), indirect=True)
def test_an_output_stride_of_16_doubles_the_cells_and_keeps_every_weight(specimen, tmp_path):
    """The same names and shapes in the same order, so that files of keras.applications and ours fit."""
    coarse, modality = specimen.network, specimen.modality
    fine = build_network(dataclasses.replace(coarse.config, output_stride=16))
    assert coarse.evidence(modality).shape[1:3] == (1, 1)
    assert fine.evidence(modality).shape[1:3] == (2, 2)
    described = [
        [(layer.name, [tuple(v.shape) for v in layer.weights]) for layer in network.branch_layers(modality)]
        for network in (coarse, fine)
    ]
    assert described[0] == described[1]
    if coarse.backbone(modality).name != "mobilenet":  # the smallest stands for the others
        return
    save_weights(coarse, tmp_path / "weights.h5")
    load_weights(fine, tmp_path / "weights.h5")
    # nothing but the last reduction differs: what comes before it is the same
    before = f"{modality}_{fine.backbone(modality).fine_layer}"
    images = colour_images(1, specimen.size)
    first, second = (
        run(keras.Model(network.image_input(modality), network.tensor(before)), images)
        for network in (coarse, fine)
    )
    assert np.abs(first - second).max() <= 1e-4 * max(1.0, float(np.abs(first).max()))
    features = run(keras.Model(fine.image_input(modality), fine.features(modality)), images)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", ["xception", "vgg16", "inceptionv3"])
def test_backbones_without_a_finer_stride_are_named(name):
    with pytest.raises(UsageError, match="no output stride of 16"):
        attach_backbone(keras.Input((128, 128, 3)), find_backbone(name), "", output_stride=16)


def test_every_finer_layer_is_one_of_the_backbone(specimen):
    finer = specimen.network.backbone(specimen.modality).finer
    names = {layer.name for layer in specimen.network.model.layers}
    assert {f"{specimen.modality}_{layer}" for layer in finer} <= names
