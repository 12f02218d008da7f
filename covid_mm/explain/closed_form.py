"""Answer and heatmaps of the last convolution as one graph without automatic gradients, to be exported.

Behind the last feature map lies little: pooling, the concatenation, one hidden layer, the logits. The
gradient of a class's logit there has a closed form, so a runtime that knows no gradients (ONNX)
can compute the heatmaps of all `GRADIENT_METHODS` with the answer. With x_i the feature map's cells, s_i
the shares that pooling gives them, f = sum of s_i x_i, a the attention's kernel and v the gradient at f:

attention  d/dx_i = s_i v + s_i (v . x_i - v . f) a
average    d/dx_i = v / cells

and v is the chosen column of a branch's own head, or W1 (W2[:, class] where the hidden unit is on).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from covid_mm.config import CHANNELS, POSITIVE, Modality
from covid_mm.errors import UsageError
from covid_mm.explain.cells import interpolation_matrix
from covid_mm.explain.explained import PREDICTED
from covid_mm.explain.grad_cam import find_layer, weigh_channels
from covid_mm.explain.method_table import GRADIENT_METHODS
from covid_mm.models.content_classifier import ContentReader, content_features
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.models.network import Network

_POOLING_LAYERS = {"InputLayer", "GlobalAveragePooling2D", "Conv2D", "Reshape", "Softmax", "Dot"}


class AnswerGraph:
    """The forward pass with heatmaps for one set of modalities, with flat named inputs and outputs.

    inputs: `image_<modality>` and `content_<modality>` float32 (n, side, side, 3), `classes` int32 (n,),
    `methods` int32 (2,), indices into PASS_METHODS. outputs: `logits_<head>` (n, 2), `classes` (n,),
    `evidence_<modality>` and `second_<modality>` (n, side, side),
    `features_<modality>` (n, channels), `contents_<modality>` (n, d).
    """

    def __init__(
        self,
        network: Network,
        modalities: tuple[Modality, ...],
        *,
        positive_margin: float,
        weights: Mapping[str, float] | None = None,
        content_reader: ContentReader | None,
    ) -> None:
        """Build it; positive_margin, weights: as for `GradCam`.

        Raises UsageError where something other than pooling follows the last convolution.
        """
        self.modalities = modalities
        self._network = network
        self._positive_margin = positive_margin
        self._whole = modalities == network.config.modalities
        self._answering: tuple[str, ...] = (FUSED,) if self._whole else modalities
        self._weights = {head: 1.0 if weights is None else weights[head] for head in self._answering}
        for modality in modalities:
            _check_pooling(network, modality)
        side = network.config.image_size
        image = (None, side, side, CHANNELS)
        self.inputs = {f"image_{m}": tf.TensorSpec(image, tf.float32, name=f"image_{m}") for m in modalities}
        self._reader = None
        if content_reader is not None:
            content = content_features(network, content_reader)
            self._reader = keras.Model(network.image_input(content_reader.branch), content)
            self.inputs |= {
                f"content_{m}": tf.TensorSpec(image, tf.float32, name=f"content_{m}") for m in modalities
            }
        self.inputs["classes"] = tf.TensorSpec((None,), tf.int32, name="classes")
        self.inputs["methods"] = tf.TensorSpec((2,), tf.int32, name="methods")
        heads = ["logits", "fully_connected"] if self._whole else [f"{m}_logits" for m in modalities]
        if network.config.pooling == "attention":
            heads += [f"{m}_attention" for m in modalities]
        # outside of the trace, where variables have values
        self._kernels = {name: np.asarray(network.model.get_layer(name).kernel) for name in heads}
        self._trunk = keras.Model([network.image_input(m) for m in modalities], self._tensors())

    def _tensors(self) -> dict[str, Any]:
        network = self._network
        tensors: dict[str, Any] = {}
        for m in self.modalities:
            tensors[f"map_{m}"] = network.tensor(find_layer(network, m, "coarse"))
            tensors[f"features_{m}"] = network.features(m)
            if network.config.pooling == "attention":
                tensors[f"attention_{m}"] = network.attention(m)
                tensors[f"shares_{m}"] = network.tensor(f"{m}_shares")
            if network.config.is_concatenated:
                tensors[f"logits_{m}"] = network.logits(m)
        if self._whole:
            tensors[f"logits_{FUSED}"] = network.logits(FUSED)
            tensors["hidden"] = network.tensor("fully_connected")
        return tensors

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """Symbolic outputs by name."""
        tensors = self._trunk([inputs[f"image_{m}"] for m in self.modalities], training=False)
        margins = [self._weights[head] * find_margins(tensors[f"logits_{head}"]) for head in self._answering]
        positive = tf.add_n(margins) >= self._positive_margin
        predicted = tf.where(positive, POSITIVE, 1 - POSITIVE)
        classes = tf.where(inputs["classes"] == PREDICTED, predicted, inputs["classes"])
        outputs = {name: tensors[name] for name in tensors if name.split("_")[0] in ("logits", "features")}
        outputs["classes"] = classes
        start = 0
        for m in self.modalities:
            feature_map, features = tensors[f"map_{m}"], tensors[f"features_{m}"]
            at_features = self._gradient_at_features(m, tensors, classes, start)
            start += int(features.shape[-1])
            gradient = self._gradient_at_map(m, tensors, at_features)
            ways = [weigh_channels(name, feature_map, gradient) for name in GRADIENT_METHODS]
            if f"attention_{m}" in tensors:
                ways.append(tf.sigmoid(tensors[f"attention_{m}"][..., 0]))
            side = self._network.config.image_size
            rows, columns = (
                tf.constant(interpolation_matrix(side, int(feature_map.shape[axis]))) for axis in (1, 2)
            )
            for number, kind in enumerate(("evidence", "second")):
                cells = tf.gather(tf.stack(ways), inputs["methods"][number])
                outputs[f"{kind}_{m}"] = tf.einsum("yh,nhw,xw->nyx", rows, cells, columns)
            if self._reader is not None:
                outputs[f"contents_{m}"] = self._reader(inputs[f"content_{m}"], training=False)
        return outputs

    def _gradient_at_features(
        self, modality: Modality, tensors: dict[str, Any], classes: Any, start: int
    ) -> Any:
        """Of the chosen class's logit, (n, channels)."""
        if not self._whole:
            kernel = tf.constant(self._kernels[f"{modality}_logits"])
            return tf.gather(tf.transpose(kernel), classes)
        last = tf.constant(self._kernels["logits"])
        first = tf.constant(self._kernels["fully_connected"])
        hidden = tf.gather(tf.transpose(last), classes) * tf.cast(tensors["hidden"] > 0, tf.float32)
        width = int(tensors[f"features_{modality}"].shape[-1])
        return tf.matmul(hidden, tf.transpose(first[start : start + width]))

    def _gradient_at_map(self, modality: Modality, tensors: dict[str, Any], at_features: Any) -> Any:
        """The same logit's gradient at the last feature map, (n, rows, columns, channels)."""
        feature_map = tensors[f"map_{modality}"]
        _, rows, columns, channels = feature_map.shape
        each = at_features[:, None, None, :]
        if self._network.config.pooling == "average":
            return each / (rows * columns) * tf.ones_like(feature_map)
        kernel = self._kernels[f"{modality}_attention"][0, 0, :, 0]
        shares = tf.reshape(tensors[f"shares_{modality}"], (-1, rows, columns, 1))
        along = tf.reduce_sum(each * feature_map, axis=-1, keepdims=True)
        mean = tf.reduce_sum(at_features * tensors[f"features_{modality}"], axis=-1)[:, None, None, None]
        attention = tf.reshape(tf.constant(kernel), (1, 1, 1, channels))
        return shares * each + shares * (along - mean) * attention


def _check_pooling(network: Network, modality: Modality) -> None:
    layer = find_layer(network, modality, "coarse")
    between = keras.Model(network.tensor(layer), network.features(modality)).layers
    foreign = [one.name for one in between if type(one).__name__ not in _POOLING_LAYERS]
    if foreign:
        raise UsageError(
            f"Only pooling may follow the last convolution of a branch that is exported, but {foreign[0]} follows"
            f" {layer}; export a network of other backbones, such as DenseNet121 with MobileNet."
        )
