"""Answer and heatmaps of a network of one or more branches from one compiled function.

The score is the logit of the chosen class. Each branch is looked into at its own layer, so each
branch gives a map. The methods, A a feature map, g the gradient there, s the sum of A over its
cells; the values of the first three are logits:

grad_cam   relu(sum over channels of mean(g) A): Selvaraju et al., "Grad-CAM: Visual Explanations
           from Deep Networks via Gradient-based Localization", ICCV 2017, equations (1) and (2)
hires_cam  relu(sum over channels of g A): Draelos and Carin, "Use HiResCAM instead of Grad-CAM for
           faithful explanations of convolutional neural networks", arXiv 2011.08891, 2020
layer_cam  relu(sum over channels of relu(g) A): Jiang et al., "LayerCAM: Exploring Hierarchical
           Class Activation Maps for Localization", IEEE TIP 2021, equations (4) to (6)
grad_cam_plus_plus   relu(sum over channels of sum(a relu(g)) A), a = g^2 / (2 g^2 + s g^3) where g > 0, brought
           to the sum 1: Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep
           Convolutional Networks", WACV 2018, equations (5), (6) and (19); where g < 0 the divisor can be
           nearly 0, and the authors' program leaves those cells out too
attention  sigmoid(a), a the attention logit of each cell of the last convolution: Ilse, Tomczak and Welling,
           "Attention-based deep multiple instance learning", ICML 2018; whatever the class
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from covid_mm.config import CHANNELS, POSITIVE, Modality
from covid_mm.errors import UsageError
from covid_mm.explain.cells import interpolation_matrix
from covid_mm.explain.explained import PREDICTED, Explained
from covid_mm.explain.heat_checks import second_method
from covid_mm.explain.method_table import (
    ATTENTION,
    ATTENTION_LAYER,
    FIXED_SCALE_METHODS,
    GRADIENT_METHODS,
    PASS_METHODS,
    FixedScaleMethod,
    GradientMethod,
    LayerChoice,
    PassMethod,
    check_layer,
)
from covid_mm.models.content_classifier import ContentReader, content_features
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.models.network import Network


def find_layer(network: Network, modality: Modality, layer: str) -> str:
    """The name of the layer whose feature map a heatmap is made of. Raises UsageError."""
    check_layer(layer)
    backbone = network.backbone(modality)
    return f"{modality}_{backbone.last_conv_layer if layer == 'coarse' else backbone.fine_layer}"


def weigh_channels(method: GradientMethod, feature_map: Any, gradient: Any) -> Any:
    """Evidence (n, h, w) >= 0 of a feature map (n, h, w, c) and the score's gradient there.

    Raises UsageError for a method that is not of these.
    """
    if method not in GRADIENT_METHODS:
        raise UsageError(
            f"Heatmap method {method!r} is not made from gradients; expected one of {', '.join(GRADIENT_METHODS)}."
        )
    if method in ("grad_cam_plus_plus", "layer_cam"):
        gradient = tf.nn.relu(gradient)
    if method == "grad_cam_plus_plus":
        square = gradient**2
        total = tf.reduce_sum(feature_map, axis=(1, 2), keepdims=True)
        shares = tf.math.divide_no_nan(square, 2.0 * square + square * gradient * total)
        shares = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=(1, 2), keepdims=True))
        weights = tf.reduce_sum(shares * gradient, axis=(1, 2))
        return tf.nn.relu(tf.einsum("nhwc,nc->nhw", feature_map, weights))
    if method == "grad_cam":
        weights = tf.reduce_mean(gradient, axis=(1, 2))
        return tf.nn.relu(tf.einsum("nhwc,nc->nhw", feature_map, weights))
    return tf.nn.relu(tf.reduce_sum(gradient * feature_map, axis=-1))


class GradCam:
    """The compiled forward pass with heatmaps for one set of modalities.

    With all modalities of the network the score is its (concatenated) logit; with some of them it is
    the sum of the logits of those branches' own heads, and the other branches are not run at all.
    answering: the heads whose logits the score adds up.
    """

    def __init__(
        self,
        network: Network,
        modalities: tuple[Modality, ...] | None = None,
        *,
        positive_margin: float = 0.0,
        weights: Mapping[str, float] | None = None,
        content_reader: ContentReader | None = None,
        checks_other_images: bool = False,
        method: FixedScaleMethod = "grad_cam",
        layer: LayerChoice = "coarse",
    ) -> None:
        """Build and trace the function.

        positive_margin: logit difference from which a study is called positive, so that
        `PREDICTED` explains the class that the decision threshold names; of several answering heads the
        weighted sum of their differences, weights: by head, 1 without. content_reader: the
        branch whose backbone reads every image for the content check; with
        checks_other_images it reads those that `explain` gets as `content_images`.
        method, layer: of the heatmaps; `explain` may name another method.

        Raises:
            UsageError: a modality that the network does not read, or an unknown method or layer.
        """
        if method not in FIXED_SCALE_METHODS:
            raise UsageError(
                f"Heatmap method {method!r} has no fixed scale; choose one of {', '.join(FIXED_SCALE_METHODS)}."
            )
        chosen = modalities or network.config.modalities
        unknown = set(chosen) - set(network.config.modalities)
        if unknown:
            raise UsageError(
                f"The network reads {', '.join(network.config.modalities)}, not {', '.join(sorted(unknown))}."
            )
        self.modalities: tuple[Modality, ...] = tuple(m for m in network.config.modalities if m in chosen)
        whole = self.modalities == network.config.modalities
        self.answering: tuple[str, ...] = (FUSED,) if whole else self.modalities
        shares = {head: 1.0 if weights is None else weights[head] for head in self.answering}
        side = network.config.image_size
        evidence_maps = [network.tensor(find_layer(network, m, layer)) for m in self.modalities]
        outputs = list(evidence_maps)
        # the attention is of the last convolution's cells
        self._attends = layer == ATTENTION_LAYER and network.config.pooling == "attention"
        if self._attends:
            outputs += [network.attention(m) for m in self.modalities]
        reader = None
        self._checks_other_images = content_reader is not None and checks_other_images
        if content_reader is not None:
            content = content_features(network, content_reader)
            reader = keras.Model(network.image_input(content_reader.branch), content)
            if content_reader.branch in self.modalities and not checks_other_images:
                outputs.append(content)  # its own image goes through that backbone anyway
        trunk = keras.Model([network.image_input(m) for m in self.modalities], outputs)
        heads = {head: network.logits(head) for head in self.answering}
        if whole and network.config.is_concatenated:
            heads |= {m: network.logits(m) for m in self.modalities}
        # from the feature maps on: the only part that gradients pass through
        tail = keras.Model(evidence_maps, heads)
        enlarge = [
            tuple(tf.constant(interpolation_matrix(side, feature_map.shape[axis])) for axis in (1, 2))
            for feature_map in trunk.outputs[: len(self.modalities)]
        ]
        image = tf.TensorSpec((None, side, side, CHANNELS), tf.float32)
        checked = self.modalities if self._checks_other_images else ()
        signature = (
            {m: image for m in self.modalities},
            {m: image for m in checked},
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((2,), tf.int32),
        )
        self._method: PassMethod = method
        self._check_method(method)

        @tf.function(input_signature=signature, autograph=False)
        def explain(
            images: dict[str, Any], other: dict[str, Any], classes: Any, methods: Any
        ) -> tuple[Any, Any, Any, Any, Any]:
            values = tf.nest.flatten(trunk([images[m] for m in self.modalities], training=False))
            maps = values[: len(self.modalities)]
            attention = values[len(maps) : 2 * len(maps)] if self._attends else [None] * len(maps)
            contents = {}
            if reader is not None:
                contents = {
                    m: values[-1]
                    if content_reader is not None and m == content_reader.branch and not other
                    else reader((other or images)[m], training=False)
                    for m in self.modalities
                }
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(maps)
                logits = tail(maps, training=False)
                score = tf.add_n([logits[head] for head in self.answering])
                margins = [shares[head] * find_margins(logits[head]) for head in self.answering]
                positive = tf.add_n(margins) >= positive_margin
                predicted = tf.where(positive, POSITIVE, 1 - POSITIVE)
                chosen_class = tf.where(classes == PREDICTED, predicted, classes)
                chosen_score = tf.gather(score, chosen_class, batch_dims=1)
            gradients = tape.gradient(chosen_score, maps)
            evidence: dict[Modality, Any] = {}
            second: dict[Modality, Any] = {}
            for modality, feature_map, gradient, attended, (rows, columns) in zip(
                self.modalities, maps, gradients, attention, enlarge, strict=True
            ):
                ways = [partial(weigh_channels, name, feature_map, gradient) for name in GRADIENT_METHODS]
                if attended is not None:
                    ways.append(partial(tf.sigmoid, attended[..., 0]))
                for number, result in enumerate((evidence, second)):
                    cells = tf.switch_case(methods[number], ways)
                    result[modality] = tf.einsum("yh,nhw,xw->nyx", rows, cells, columns)
            return logits, chosen_class, evidence, second, contents

        self._explain = explain.get_concrete_function()

    def explain(
        self,
        images: Mapping[Modality, NDArray[np.float32]],
        classes: NDArray[np.int32],
        content_images: Mapping[Modality, NDArray[np.float32]] | None = None,
        *,
        method: PassMethod | None = None,
    ) -> Explained:
        """Logits and evidence of n studies; any n, without tracing anew. Safe to call from any thread.

        images: modality -> float32 (n, side, side, 3), 0..255. classes: (n,), PREDICTED or an index.
        content_images: as images, what the content check reads where it reads others.
        method: of the evidence; the function's own without it.
        """
        other = content_images if self._checks_other_images else {}
        if other is None:
            raise UsageError("This function checks other images than it explains; give content_images.")
        first = method or self._method
        self._check_method(first)
        logits, chosen, evidence, second, contents = self._explain(
            {m: tf.constant(images[m], tf.float32) for m in self.modalities},
            {m: tf.constant(other[m], tf.float32) for m in self.modalities if m in other},
            tf.constant(classes, tf.int32),
            tf.constant([PASS_METHODS.index(name) for name in (first, second_method(first))], tf.int32),
        )
        return Explained(
            logits={name: value.numpy() for name, value in logits.items()},
            classes=chosen.numpy(),
            evidence={m: evidence[m].numpy() for m in self.modalities},
            second={m: second[m].numpy() for m in self.modalities},
            contents={m: value.numpy() for m, value in contents.items()},
        )

    def _check_method(self, method: PassMethod) -> None:
        if method == ATTENTION and not self._attends:
            raise UsageError(
                "Only a network with attention pooling has a map of its attention, and only at the layer"
                f" {ATTENTION_LAYER}; choose another heatmap method."
            )
