"""What serving asks of a network, compiled by TensorFlow: traced when first needed, then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from covid_mm.config import CHANNELS, Modality, NetworkConfig
from covid_mm.explain.explained import AnswerFunction, Explained, Progress
from covid_mm.explain.grad_cam import GradCam, find_layer
from covid_mm.explain.method_table import ATTENTION, ATTENTION_LAYER, LayerChoice, MethodName, PassMethod
from covid_mm.explain.methods import BranchExplainer
from covid_mm.imaging import to_network_input
from covid_mm.models.content_classifier import ContentReader, content_features
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network
from covid_mm.serving.answers import weigh_outputs
from covid_mm.serving.heatmap_request import STAND_IN
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.network_functions import SlowHeatmaps

Pixels = NDArray[np.float32]


class TensorFlowFunctions:
    """A loaded network's compiled functions; safe to call from any thread."""

    def __init__(
        self, network: Network, meta: Metadata, content_reader: ContentReader | None, *, reads_lungs: bool
    ) -> None:
        """Trace nothing yet.

        content_reader: of the content classifier, None where contents are not checked.
        reads_lungs: the network reads crops, the content classifier the whole images.
        """
        self._network = network
        self._metadata = meta
        self._content_reader = content_reader
        self._reads_lungs = reads_lungs
        self._compiled: dict[Any, Any] = {}
        self._tracing = threading.Lock()  # two threads must not trace the same function at once

    @property
    def config(self) -> NetworkConfig:
        """The network's description."""
        return self._network.config

    def answer(self, modalities: tuple[Modality, ...], layer: LayerChoice) -> AnswerFunction:
        """Answer and heatmaps of that layer in one pass, for studies of these modalities."""

        def build() -> KerasAnswer:
            meta = self._metadata
            weights, margin = weigh_outputs(meta, modalities)
            unattended = meta.heatmap_method == ATTENTION and layer != ATTENTION_LAYER
            return KerasAnswer(
                GradCam(
                    self._network,
                    modalities,
                    positive_margin=margin,
                    weights=weights,
                    content_reader=self._content_reader,
                    checks_other_images=self._content_reader is not None and self._reads_lungs,
                    method=STAND_IN if unattended else meta.heatmap_method,
                    layer=layer,
                )
            )

        function: AnswerFunction = self._keep(("answer", modalities, layer), build)
        return function

    def slow_heatmaps(self, modalities: tuple[Modality, ...]) -> SlowHeatmaps:
        """Heatmaps of any method, apart from the pass that answers."""
        explainer: SlowHeatmaps = self._keep(
            ("slow", modalities), lambda: KerasHeatmaps(BranchExplainer(self._network, modalities))
        )
        return explainer

    def grid(self, modality: Modality, layer: LayerChoice) -> tuple[int, int]:
        """Rows and columns of the feature map that a heatmap of that layer is made of."""

        def find() -> tuple[int, int]:
            _, rows, columns, _ = self._network.tensor(find_layer(self._network, modality, layer)).shape
            return int(rows), int(columns)

        cells: tuple[int, int] = self._keep(("grid", modality, layer), find)
        return cells

    def contents(self, images: Pixels) -> Pixels:
        """What the content classifier reads (n, d) of whole images (n, side, side)."""
        return np.asarray(self._keep("contents", self._compile_contents)(to_network_input(images)))

    def read_slices(self, modality: Modality, images: Pixels) -> tuple[Pixels, Pixels]:
        """A branch's own logits (n, 2) and pooled features (n, channels) of images (n, side, side)."""

        def build() -> Any:
            network = self._network
            outputs = [network.logits(modality), network.features(modality)]
            return self._compile(keras.Model(network.image_input(modality), outputs))

        logits, features = self._keep(("slices", modality), build)(to_network_input(images))
        return np.asarray(logits), np.asarray(features)

    def fuse(self, features: list[Pixels]) -> Pixels:
        """The concatenated head's logits (n, 2) of pooled features (n, channels) by modality, in order."""

        def build() -> Any:
            parts = [self._network.features(m) for m in self.config.modalities]
            model = keras.Model(parts, self._network.logits(FUSED))
            return self._compile(
                model, [tf.TensorSpec((None, int(part.shape[-1])), tf.float32) for part in parts]
            )

        return np.asarray(self._keep("fuse", build)(features))

    def _compile_contents(self) -> Any:
        assert self._content_reader is not None, "asked for only where contents are checked"
        reader = self._content_reader
        return self._compile(
            keras.Model(self._network.image_input(reader.branch), content_features(self._network, reader))
        )

    def _compile(self, model: keras.Model, signature: Any = None) -> Any:
        side = self.config.image_size
        images = tf.TensorSpec((None, side, side, CHANNELS), tf.float32)

        @tf.function(input_signature=[signature or images], autograph=False)
        def run(values: Any) -> Any:
            return model(values, training=False)

        return run

    def _keep(self, key: Any, build: Callable[[], Any]) -> Any:
        with self._tracing:
            if key not in self._compiled:
                self._compiled[key] = build()
            return self._compiled[key]


class KerasAnswer:
    """`explain.grad_cam.GradCam` of grey images."""

    def __init__(self, function: GradCam) -> None:
        """function: reads three channels."""
        self._function = function
        self.modalities = function.modalities

    def explain(
        self,
        images: Mapping[Modality, Pixels],
        classes: NDArray[np.int32],
        content_images: Mapping[Modality, Pixels] | None = None,
        *,
        method: PassMethod | None = None,
    ) -> Explained:
        """Logits and evidence of n studies, images by modality (n, side, side); else as `GradCam.explain`."""
        other = None if content_images is None else _to_channels(content_images)
        return self._function.explain(_to_channels(images), classes, other, method=method)


class KerasHeatmaps:
    """`explain.methods.BranchExplainer` of grey images."""

    def __init__(self, explainer: BranchExplainer) -> None:
        """explainer: reads three channels."""
        self._explainer = explainer

    def explain(
        self,
        images: Mapping[Modality, Pixels],
        class_index: int,
        *,
        method: MethodName,
        layer: LayerChoice,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[Modality, Pixels]:
        """Maps (side, side) of one study's images (side, side), each 0..1 of its own highest value."""
        return self._explainer.explain(
            {m: to_network_input(image[np.newaxis]) for m, image in images.items()},
            class_index,
            method=method,
            layer=layer,
            progress=progress,
            cancelled=cancelled,
        )


def _to_channels(images: Mapping[Modality, Pixels]) -> dict[Modality, Pixels]:
    return {m: to_network_input(part) for m, part in images.items()}
