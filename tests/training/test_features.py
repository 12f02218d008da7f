"""The frozen part's outputs: computed once, and anew as soon as anything differs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from toy_networks import grey_images, make_network

from covid_mm.imaging import to_network_input
from covid_mm.models.network import Network
from covid_mm.training.augmentation import augment_images
from covid_mm.training.features import compute_features

pytestmark = pytest.mark.usefixtures("small_backbones")

SIZE = 48


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the trunk's runs."""
    counted: list[int] = []
    run = keras.Model.predict

    def count(self: keras.Model, images: np.ndarray, **options: object) -> np.ndarray:
        counted.append(len(images))
        return run(self, images, **options)

    monkeypatch.setattr(keras.Model, "predict", count)
    return counted


@pytest.mark.parametrize(("fine_tune", "shape"), [("frozen", (2, 5, 8)), ("last-block", (2, 5, 3, 3, 6))])
def test_copies_are_the_image_and_its_varied_copies(fine_tune, shape):
    network, images = make_network(size=SIZE), grey_images(5, SIZE)
    features = compute_features(network, "ct", images, fine_tune=fine_tune, copies=2, seed=7)
    assert features.shape == shape
    assert features.dtype == np.float32
    trunk = keras.Model(network.image_input("ct"), network.bottleneck("ct", fine_tune))
    varied = augment_images(images, "ct", seed=(7, 1, 0))
    for copy, expected in enumerate((images, varied)):
        assert features[copy] == pytest.approx(trunk.predict_on_batch(to_network_input(expected)), abs=1e-5)
    assert not np.allclose(features[0], features[1])


def test_second_call_reads_what_the_first_kept(tmp_path: Path, passes):
    network, images, steps = make_network(size=SIZE), grey_images(260, SIZE), []
    options = {"fine_tune": "frozen", "copies": 2, "cache": tmp_path / "features"}
    first = compute_features(network, "ct", images, **options, progress=lambda *step: steps.append(step))
    assert passes == [256, 4, 256, 4]
    assert steps == [(256, 520), (260, 520), (516, 520), (520, 520)]
    second = compute_features(network, "ct", images, **options)
    assert len(passes) == 4
    assert np.array_equal(first, second)
    (cached,) = options["cache"].iterdir()
    cached.write_bytes(cached.read_bytes()[:-1])  # a damaged file is computed anew, not believed
    third = compute_features(network, "ct", images, **options)
    assert len(passes) == 8
    assert np.array_equal(first, third)
    cached.write_bytes(b"")
    assert np.array_equal(first, compute_features(network, "ct", images, **options))


def test_another_input_is_computed_anew(tmp_path: Path, passes):
    network, images = make_network(size=SIZE), grey_images(4, SIZE)
    usual = {"fine_tune": "frozen", "copies": 1, "seed": 0, "cache": tmp_path}

    def runs(images: np.ndarray, modality: str = "ct", **options: object) -> int:
        before = len(passes)
        compute_features(network, modality, images, **(usual | options))
        return len(passes) - before

    assert runs(images) == 1
    assert runs(images) == 0
    changed = images.copy()
    changed[2, 5, 5] += 1
    assert runs(changed) == 1
    assert runs(images[::-1]) == 1
    assert runs(images, "xray") == 1
    assert runs(images, copies=2) == 2
    assert runs(images, copies=2, seed=1) == 2
    assert runs(images, fine_tune="last-block") == 1
    last = network.model.get_layer("ct_last_conv").kernel
    last.assign_add(np.full(last.shape, 1e-6, np.float32))
    assert runs(images) == 1  # the pooled features depend on the last convolution,
    assert runs(images, fine_tune="last-block") == 0  # what feeds it doesn't
    network.model.get_layer("logits").bias.assign([1.0, 2.0])
    assert runs(images) == 0


def test_networks_share_what_their_backbone_puts_out_whatever_keras_calls_its_layers(tmp_path: Path, passes):
    """Keras counts the layers it names itself through a whole process."""
    images, names = grey_images(4, SIZE), []
    for _ in range(2):
        picture = keras.Input((SIZE, SIZE, 3), name="ct")
        padded = keras.layers.ZeroPadding2D()
        kernel = keras.layers.Conv2D(2, 3, kernel_initializer="ones", name="ct_conv")
        pooled = keras.layers.GlobalAveragePooling2D(name="ct_features")(kernel(padded(picture)))
        names.append(padded.name)
        network = Network(make_network(size=SIZE).config, keras.Model(picture, pooled))
        compute_features(network, "ct", images, fine_tune="frozen", cache=tmp_path)
    assert names[0] != names[1]
    assert passes == [4]


def test_pooled_features_start_from_the_last_blocks_input_where_it_is_kept(tmp_path: Path, passes):
    """Trainings of a last block share what lies before it: only the block itself runs again."""
    network, images = make_network(size=SIZE), grey_images(5, SIZE)
    direct = compute_features(network, "ct", images, fine_tune="frozen", copies=2, seed=3)
    compute_features(network, "ct", images, fine_tune="last-block", copies=2, seed=3, cache=tmp_path)
    before, seen = len(passes), []
    run = keras.Model.predict

    def look(self: keras.Model, values: np.ndarray, **options: object) -> np.ndarray:
        seen.append(values.shape[1:])
        return run(self, values, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "predict", look)
        shared = compute_features(network, "ct", images, fine_tune="frozen", copies=2, seed=3, cache=tmp_path)
    assert seen == [(3, 3, 6)] * 2  # never an image
    assert len(passes) == before + 2
    assert shared == pytest.approx(direct, abs=1e-5)
    last = network.model.get_layer("ct_last_conv").kernel
    last.assign_add(np.full(last.shape, 0.1, np.float32))
    changed = compute_features(network, "ct", images, fine_tune="frozen", copies=2, seed=3, cache=tmp_path)
    assert changed == pytest.approx(
        compute_features(network, "ct", images, fine_tune="frozen", copies=2, seed=3), abs=1e-5
    )
    assert not np.allclose(changed, direct)
