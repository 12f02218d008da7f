"""What serving asks of a network, whatever runs it: TensorFlow's library, OpenVINO, ONNX Runtime, Keras.

All images are grey, 0..255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality, NetworkConfig
from covid_mm.explain.explained import AnswerFunction, Progress
from covid_mm.explain.method_table import LayerChoice, MethodName

Pixels = NDArray[np.float32]


@runtime_checkable
class NetworkFunctions(Protocol):
    """What serving asks of a network, whatever runs it: `serving.graph_functions` and its like."""

    @property
    def config(self) -> NetworkConfig:
        """The network's description."""

    def answer(self, modalities: tuple[Modality, ...], layer: LayerChoice) -> AnswerFunction:
        """Answer and heatmaps of that layer in one pass, for studies of these modalities."""

    def slow_heatmaps(self, modalities: tuple[Modality, ...]) -> SlowHeatmaps:
        """Heatmaps of any method, apart from the pass that answers."""

    def grid(self, modality: Modality, layer: LayerChoice) -> tuple[int, int]:
        """Rows and columns of the feature map that a heatmap of that layer is made of."""

    def contents(self, images: Pixels) -> Pixels:
        """What the content classifier reads (n, d) of whole images (n, side, side)."""

    def read_slices(self, modality: Modality, images: Pixels) -> tuple[Pixels, Pixels]:
        """A branch's own logits (n, 2) and pooled features (n, channels) of images (n, side, side)."""

    def fuse(self, features: list[Pixels]) -> Pixels:
        """The concatenated head's logits (n, 2) of pooled features (n, channels) by modality, in order."""


class SlowHeatmaps(Protocol):
    """Heatmaps of any method, as `explain.methods.BranchExplainer`."""

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
