"""The classifier's arithmetic, and its file, which is believed only where it fits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from made_classifier import make_content_classifier
from toy_networks import PAIR, grey_images, make_network

from covid_mm.errors import CheckpointError
from covid_mm.models.content_classifier import (
    ContentClassifier,
    ContentReader,
    PcaOutlierModel,
    compute_contents,
    content_kinds,
    content_width,
    read_content_classifier,
)

LAST_BLOCK = ContentReader("xray")
EARLY = ContentReader("xray", ("entry_relu",), 2)

pytestmark = pytest.mark.usefixtures("small_backbones")


def read_for(path: Path, network) -> ContentClassifier:
    """The classifier in a file, read for a network."""
    return read_content_classifier(
        path, network.config.modalities, lambda reader: content_width(network, reader)
    )


def row(width: int, **values: float) -> np.ndarray:
    features = np.zeros((1, width), np.float32)
    for name, value in values.items():
        features[0, content_kinds().index(name)] = value
    return features


@pytest.mark.parametrize("kind", content_kinds())
def test_each_kind_is_named(kind):
    (content,) = make_content_classifier(6).check("ct", row(6, **{kind: 1.0}))
    assert content.kind == kind
    assert not content.unusual
    assert sum(content.probabilities.values()) == pytest.approx(1)
    assert max(content.probabilities, key=content.probabilities.get) == kind


def test_neither_needs_its_probability():
    shares = np.array([0.3, 0.1, 0.6])
    assert make_content_classifier(6, refusal=0.5).name_kind(shares) == "neither"
    assert make_content_classifier(6, refusal=0.6).name_kind(shares) == "neither"
    assert make_content_classifier(6, refusal=0.7).name_kind(shares) == "ct"
    assert make_content_classifier(6).name_kind(np.array([np.nan, np.nan, np.nan])) == "neither"


def test_distance_counts_deviations():
    classifier = make_content_classifier(6)
    near, far = classifier.check("ct", np.concatenate([row(6, ct=3.0), row(6, ct=5.0)]))
    assert near.distance == pytest.approx(3 / np.sqrt(3))
    assert not near.unusual
    assert far.distance == pytest.approx(5 / np.sqrt(3))
    assert far.unusual
    (broken,) = classifier.check("ct", np.full((1, 6), np.nan, np.float32))
    assert broken.unusual
    assert broken.kind == "neither"


def test_its_file_gives_it_back(tmp_path):
    network = make_network(PAIR, head_width=16)
    width = content_width(network, EARLY)
    classifier = make_content_classifier(width, reader=EARLY)
    (tmp_path / "content_classifier.npz").write_bytes(classifier.to_bytes())
    again = read_for(tmp_path / "content_classifier.npz", network)
    assert again.reader == EARLY
    assert again.refusal == pytest.approx(0.6)
    features = np.random.default_rng(0).normal(size=(20, width)).astype(np.float32)
    for slot in ("ct", "xray"):
        assert [c.kind for c in again.check(slot, features)] == [
            c.kind for c in classifier.check(slot, features)
        ]
        assert [c.distance for c in again.check(slot, features)] == pytest.approx(
            [c.distance for c in classifier.check(slot, features)], rel=1e-3
        )


def test_features_are_those_of_the_last_block_s_input():
    network = make_network(PAIR, head_width=16)
    images = grey_images(5, 150, seed=2)
    reader = ContentReader("ct")
    result = compute_contents(network, reader, images, batch_size=2)
    import keras

    fed = keras.Model(network.image_input("ct"), network.bottleneck("ct", "last-block"))
    values = fed.predict(np.repeat(images[..., None], 3, -1), verbose=0)
    expected = np.concatenate([values.mean(axis=(1, 2)), values.std(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert result.shape == (5, content_width(network, reader))


def test_features_of_early_layers_are_of_a_smaller_image():
    network = make_network(PAIR, head_width=16)
    images = grey_images(3, 150, seed=2)
    import keras

    smaller = images.reshape(3, 75, 2, 75, 2).mean(axis=(2, 4))
    half = make_network(PAIR, size=75, head_width=16)  # the same weights
    early = keras.Model(half.image_input("xray"), half.tensor("xray_entry_relu"))
    values = early.predict(np.repeat(smaller[..., None], 3, -1), verbose=0)
    expected = np.concatenate([values.mean(axis=(1, 2)), values.std(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(compute_contents(network, EARLY, images), expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_names_no_layers_reads_what_the_last_block_is_fed_with(tmp_path):
    network = make_network(PAIR, head_width=16)
    classifier = make_content_classifier(content_width(network, LAST_BLOCK), reader=LAST_BLOCK)
    with np.load(io.BytesIO(classifier.to_bytes())) as file:
        old = {name: file[name] for name in file if name not in ("layers", "reduction")}
    np.savez(tmp_path / "content_classifier.npz", **old)
    assert read_for(tmp_path / "content_classifier.npz", network).reader == LAST_BLOCK


def replace(classifier: ContentClassifier, **changes: object) -> ContentClassifier:
    import dataclasses

    return dataclasses.replace(classifier, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda j: replace(j, mean=j.mean[:-1]),
        lambda j: replace(j, reader=ContentReader("xray", ("no_such_layer",))),
        lambda j: replace(j, reader=ContentReader("xray", reduction=0)),
        lambda j: replace(j, weights=j.weights[:, :2]),
        lambda j: replace(j, intercept=np.array([0, np.nan, 0], np.float32)),
        lambda j: replace(j, scale=np.zeros_like(j.scale)),
        lambda j: replace(j, refusal=float("nan")),
        lambda j: replace(
            j,
            usual={
                m: PcaOutlierModel(u.components, u.mean, u.deviation * 0, u.limit) for m, u in j.usual.items()
            },
        ),
    ],
    ids=["width", "layer", "reduction", "kinds", "nan", "scale", "refusal", "deviation"],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, spoil):
    network = make_network(PAIR, head_width=16)
    classifier = spoil(make_content_classifier(content_width(network, LAST_BLOCK)))
    (tmp_path / "content_classifier.npz").write_bytes(classifier.to_bytes())
    with pytest.raises(CheckpointError, match="made for another network"):
        read_for(tmp_path / "content_classifier.npz", network)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"text"], ids=["empty", "zip", "text"])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes):
    network = make_network(PAIR, head_width=16)
    (tmp_path / "content_classifier.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_for(tmp_path / "content_classifier.npz", network)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_for(tmp_path / "none.npz", network)
