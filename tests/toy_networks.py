"""Small stand-ins for the six backbones: the same names and places, a few thousand weights.

Only what `build` returns is exchanged, so that everything else is the real thing: names, scaling,
the layers where Grad-CAM looks and where the last block begins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAIR = "densenet121-mobilenet"


def make_build(evidence: str, last_block_input: str) -> Any:
    """A function like those of keras.applications: (batch, s, s, 3) -> (batch, s/15, s/15, 8)."""

    def build(
        include_top: bool = True,
        weights: str | None = None,
        input_tensor: Any = None,
        input_shape: Any = None,
    ) -> Any:
        import keras

        assert not include_top
        if weights is not None:  # the words of keras.utils.get_file
            raise Exception("URL fetch failure on https://example.org/weights.h5: None -- unreachable")
        image = keras.Input(input_shape) if input_tensor is None else input_tensor
        layers = keras.layers
        value = layers.Conv2D(6, 5, strides=5, use_bias=False)(image)  # unnamed, as in InceptionV3
        value = layers.BatchNormalization()(value)
        value = layers.ReLU(name="entry_relu")(value)
        value = layers.DepthwiseConv2D(3, strides=3, padding="same", name="middle")(value)
        value = layers.Activation("relu", name=last_block_input)(value)
        value = layers.Conv2D(8, 3, padding="same", use_bias=False, name="last_conv")(value)
        value = layers.BatchNormalization(name="last_bn")(value)
        value = layers.Activation("relu", name=evidence)(value)
        source = keras.utils.get_source_inputs(image)[0] if input_tensor is not None else image
        return keras.Model(source, value)

    return build


@contextmanager
def toy_backbones() -> Iterator[None]:
    """Inside, every backbone's name builds a small stand-in."""
    from covid_mm.models import backbones, convolutions

    with pytest.MonkeyPatch.context() as patch:
        for name in list(convolutions.LISTED):
            patch.delitem(convolutions.LISTED, name)  # Keras serves the stand-ins
        for name, real in list(backbones.BY_NAME.items()):
            toy = dataclasses.replace(
                real,
                build=make_build(real.last_conv_layer, real.last_block_input),
                fine_layer="entry_relu",
                early_layers=("entry_relu",),
                finer={"middle": {}} if real.finer else {},  # fine enough as it is
                smallest=32,
            )
            patch.setitem(backbones.BY_NAME, name, toy)
        yield


def make_network(pair: str = PAIR, *, seed: int = 0, size: int = 150, **options: Any) -> Any:
    """A built pair (small inside `toy_backbones`) whose weights, statistics included, are all random."""
    from covid_mm.config import NetworkConfig
    from covid_mm.models.network import build_network

    network = build_network(NetworkConfig.pair(pair, image_size=size, **options), seed)
    shake_weights(network.model, seed)
    return network


def count_passes(network: Any) -> dict[str, int]:
    """How often each branch of a toy network has run from its image on; counts until the test ends.

    Counted by an operation inside the branch, so that compiled functions traced from now on count too.
    """
    import tensorflow as tf

    passes = dict.fromkeys(network.config.modalities, 0)

    def add_counter(modality: str) -> None:
        layer = network.model.get_layer(f"{modality}_entry_relu")
        call = layer.call

        def count() -> None:
            passes[modality] += 1

        def counted(*arguments: Any, **options: Any) -> Any:
            tf.py_function(count, [], [])
            return call(*arguments, **options)

        layer.call = counted

    for modality in passes:
        add_counter(modality)
    return passes


def shake_weights(model: Any, seed: int) -> None:
    """Make biases and statistics random too, which Keras starts at 0 or 1."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in {"bias", "beta", "moving_mean"}:
            variable.assign(rng.uniform(-0.3, 0.3, variable.shape))
        elif variable.name in {"gamma", "moving_variance"}:
            variable.assign(rng.uniform(0.7, 1.4, variable.shape))


def grey_images(count: int, size: int, seed: int = 0) -> Any:
    """Soft random blobs with noise, (count, size, size) float32 0..255."""
    import cv2

    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 6, 6)).astype(np.float32)
    smooth = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in coarse])
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.float32)


def colour_images(count: int, size: int, seed: int = 0) -> Any:
    """Random pixels with three different channels, (count, size, size, 3) float32 0..255."""
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, by relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
