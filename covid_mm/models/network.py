"""The single and the concatenated network: one description, one flat functional graph.

Paper section II.B and Fig. 2: a backbone per modality, pooled features concatenated, a fully
connected ReLU layer, two logits, softmax. Beside that head each branch of a concatenated network
has a small head of its own on its pooled features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import keras

from covid_mm.config import (
    CHANNELS,
    CLASSES,
    MODALITIES,
    FineTune,
    Modality,
    NetworkConfig,
    Pooling,
)
from covid_mm.errors import UsageError
from covid_mm.models.backbones import Backbone, attach_backbone, find_backbone, scale_pixels
from covid_mm.models.heads import FUSED

_OUTPUT = "float32"  # whatever precision the layers before calculate in


@dataclass(frozen=True)
class Network:
    """A built network and the places in it that others need.

    model: inputs by modality name, (batch, side, side, 3) pixels 0..255; outputs by name:
    `logits` and `probabilities` (batch, 2), and for a concatenated network
    `<modality>_logits` and `<modality>_probabilities`.
    """

    config: NetworkConfig
    model: keras.Model

    def backbone(self, modality: Modality) -> Backbone:
        """The backbone that reads this modality."""
        return find_backbone(dict(self.config.branches)[modality])

    def tensor(self, layer_name: str) -> Any:
        """The symbolic output of a layer."""
        return self.model.get_layer(layer_name).output

    def image_input(self, modality: Modality) -> Any:
        """The symbolic input of a modality."""
        return self.tensor(modality)

    def evidence(self, modality: Modality) -> Any:
        """The last convolution's feature map of a branch, where Grad-CAM looks."""
        return self.tensor(self.last_conv_layer(modality))

    def last_conv_layer(self, modality: Modality) -> str:
        """The name of the layer where Grad-CAM looks."""
        return f"{modality}_{self.backbone(modality).last_conv_layer}"

    def attention(self, modality: Modality) -> Any:
        """The attention logits (batch, rows, columns, 1) of a branch; only with attention pooling."""
        return self.tensor(f"{modality}_attention")

    def features(self, modality: Modality) -> Any:
        """The pooled features of a branch (batch, channels)."""
        return self.tensor(f"{modality}_features")

    def logits(self, head: str = FUSED) -> Any:
        """The two logits of the concatenated head, or of a branch's own head.

        A single network has one head, which is both.
        """
        return self.tensor("logits" if head == FUSED or not self.config.is_concatenated else f"{head}_logits")

    def bottleneck(self, modality: Modality, fine_tune: FineTune) -> Any:
        """Where the frozen part of a branch ends: pooled features, the last block's input, or the image.

        Raises UsageError for any other `fine_tune`.
        """
        if fine_tune not in get_args(FineTune):
            raise UsageError(f"Expected fine_tune {', '.join(get_args(FineTune))}, but got {fine_tune!r}.")
        if fine_tune == "frozen":
            return self.features(modality)
        if fine_tune == "last-block":
            return self.tensor(f"{modality}_{self.backbone(modality).last_block_input}")
        return self.image_input(modality)

    def branch_layers(self, modality: Modality) -> list[keras.layers.Layer]:
        """All layers with weights of a branch's backbone, in graph order."""
        heads = {
            f"{modality}_attention",
            f"{modality}_logits",
            f"{modality}_probabilities",
            f"{modality}_features",
            f"{modality}_scale",
        }
        return [
            layer
            for layer in self.model.layers
            if layer.name.startswith(f"{modality}_") and layer.name not in heads and layer.variables
        ]

    def head_layers(self) -> list[keras.layers.Layer]:
        """The concatenated (or only) head's layers with weights."""
        return [self.model.get_layer("fully_connected"), self.model.get_layer("logits")]


def check_image_size(config: NetworkConfig) -> None:
    """Raise UsageError for images too small for one of the network's backbones."""
    for _, name in config.branches:
        backbone = find_backbone(name)
        if config.image_size < backbone.smallest:
            raise UsageError(
                f"{backbone.title} reads images of at least {backbone.smallest} x {backbone.smallest}"
                f" pixels, not {config.image_size} x {config.image_size}; choose a larger image size."
            )


def build_network(config: NetworkConfig, seed: int = 0) -> Network:
    """Build the network with random weights, the same ones for the same seed.

    Raises UsageError where a backbone or the image size does not fit.
    """
    check_image_size(config)
    inputs: dict[str, Any] = {}
    features: list[Any] = []
    outputs: dict[str, Any] = {}
    for modality, name in config.branches:
        backbone = find_backbone(name)
        # a branch starts the same whether it is alone or one of two
        keras.utils.set_random_seed(len(MODALITIES) * seed + list(MODALITIES).index(modality))
        shape = (config.image_size, config.image_size, CHANNELS)
        image = keras.Input(shape, name=modality, dtype="float32")
        scaled = scale_pixels(image, backbone.scaling, f"{modality}_")
        inputs[modality], feature_map = attach_backbone(
            scaled, backbone, f"{modality}_", config.output_stride
        )
        features.append(pool_features(feature_map, config.pooling, f"{modality}_"))
        if config.is_concatenated:
            logits = keras.layers.Dense(len(CLASSES), dtype=_OUTPUT, name=f"{modality}_logits")(features[-1])
            outputs[f"{modality}_logits"] = logits
            outputs[f"{modality}_probabilities"] = keras.layers.Softmax(
                dtype=_OUTPUT, name=f"{modality}_probabilities"
            )(logits)
    joined = keras.layers.Concatenate(name="concatenated")(features) if len(features) > 1 else features[0]
    hidden = keras.layers.Dense(config.head_width, activation="relu", name="fully_connected")(joined)
    hidden = keras.layers.Dropout(config.dropout, seed=seed, name="dropout")(hidden)
    outputs["logits"] = keras.layers.Dense(len(CLASSES), dtype=_OUTPUT, name="logits")(hidden)
    outputs["probabilities"] = keras.layers.Softmax(dtype=_OUTPUT, name="probabilities")(outputs["logits"])
    return Network(config, keras.Model(inputs, outputs, name=config.name.replace("-", "_")))


def pool_features(feature_map: Any, pooling: Pooling, prefix: str) -> Any:
    """A feature map (batch, rows, columns, channels) as features (batch, channels).

    `average`: their mean. `attention`: their mean weighted by a softmax over the cells of one
    logit per cell, `<modality>_attention` (batch, rows, columns, 1), so that a small lesion is not
    averaged away (Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning",
    ICML 2018, without the gate). Raises UsageError for any other pooling.
    """
    if pooling not in get_args(Pooling):
        raise UsageError(f"Pooling {pooling!r} is not known; expected {' or '.join(get_args(Pooling))}.")
    if pooling == "average":
        return keras.layers.GlobalAveragePooling2D(name=f"{prefix}features")(feature_map)
    _, rows, columns, channels = feature_map.shape
    logits = keras.layers.Conv2D(1, 1, dtype=_OUTPUT, name=f"{prefix}attention")(feature_map)
    cells = keras.layers.Reshape((rows * columns, 1), dtype=_OUTPUT)(logits)
    shares = keras.layers.Softmax(axis=1, dtype=_OUTPUT, name=f"{prefix}shares")(cells)
    values = keras.layers.Reshape((rows * columns, channels), dtype=_OUTPUT)(feature_map)
    pooled = keras.layers.Dot(axes=1, dtype=_OUTPUT)([shares, values])
    return keras.layers.Reshape((channels,), dtype=_OUTPUT, name=f"{prefix}features")(pooled)
