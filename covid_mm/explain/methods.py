"""Heatmaps of any method and layer, one branch at a time: most through tf-keras-vis.

Answering a study needs it for Faster Score-CAM only; `grad_cam` makes the others from the pass that answers.

tf-keras-vis resizes one layer's map onto every input, so a network with two inputs would show one
branch twice. Each branch is therefore a network of one input here; what the other image puts into
the concatenated head is held fast while it is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import Cancelled, UsageError
from covid_mm.explain.cells import enlarge_cells
from covid_mm.explain.explained import Progress, stretch_map
from covid_mm.explain.grad_cam import find_layer, weigh_channels
from covid_mm.explain.method_table import ATTENTION, GradientMethod, LayerChoice, MethodName
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network

MASKED_CHANNELS = 48  # of Faster Score-CAM: those of the feature map that vary most
# HiResCAM, which the library lacks, and Grad-CAM++, which it divides by nearly 0 where cells speak against the class
OURS: tuple[GradientMethod, ...] = ("hires_cam", "grad_cam_plus_plus")
_BATCH = 8  # masked images between two looks at `cancelled`


class BranchExplainer:
    """Heatmaps of a network's branches by any method, for one set of modalities; some of them: by their own heads."""

    def __init__(self, network: Network, modalities: tuple[Modality, ...]) -> None:
        """Cut the network into one model per branch, sharing its weights."""
        self.network = network
        self.modalities = modalities
        self._whole = modalities == network.config.modalities
        self._held = {m: HeldFeatures(int(network.features(m).shape[-1])) for m in network.config.modalities}
        self._models = {m: self._watched_model(m) for m in modalities}
        self._lock = threading.Lock()  # the held features belong to one study at a time

    def explain(
        self,
        images: Mapping[Modality, NDArray[np.float32]],
        class_index: int,
        *,
        method: MethodName,
        layer: LayerChoice,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[Modality, NDArray[np.float32]]:
        """Maps (side, side) of one study, each 0..1 of its own highest value; all zero where it has none.

        images: modality -> float32 (1, side, side, 3), 0..255. progress: is told shares 0..1.

        Raises:
            Cancelled: `cancelled` said so; it is asked at least once per branch.
            CheckpointError: the network's values are no numbers.
            UsageError: attention, which only the pass that answers gives.
        """
        if method == ATTENTION:
            raise UsageError(
                "The attention map comes from the pass that answers only; choose another method here."
            )
        watch = _Watch(len(self.modalities), progress, cancelled)
        maps: dict[Modality, NDArray[np.float32]] = {}
        with self._lock:
            for modality in self.modalities:
                watch.check()
                self._hold_others(modality, images)
                self._models[modality].watch = watch
                layer_name = find_layer(self.network, modality, layer)
                model, image = self._models[modality], images[modality]
                raw = (
                    _run_ours(model, image, class_index, method, layer_name)
                    if method in OURS
                    else _run_library(model, image, class_index, method, layer_name)
                )
                maps[modality] = stretch_map(raw, MODALITIES[modality].title)
                watch.finish_branch()
        return maps

    def _watched_model(self, modality: Modality) -> WatchedModel:
        network = self.network
        image, features = network.image_input(modality), network.features(modality)
        if not self._whole or not network.config.is_concatenated:
            return WatchedModel(image, network.logits(FUSED if self._whole else modality))
        joined = keras.layers.Concatenate()(
            [features if m == modality else self._held[m](features) for m in network.config.modalities]
        )
        hidden = network.model.get_layer("fully_connected")(joined)
        return WatchedModel(image, network.model.get_layer("logits")(hidden))

    def _hold_others(self, modality: Modality, images: Mapping[Modality, NDArray[np.float32]]) -> None:
        for other in self.modalities:
            if other != modality and self._whole:
                read = keras.Model(self.network.image_input(other), self.network.features(other))
                self._held[other].hold(np.asarray(read(images[other], training=False)))


class HeldFeatures(keras.layers.Layer):
    """The pooled features of the other image, whatever this one is; a row for each of its batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._values = self.add_weight(shape=(1, width), trainable=False, initializer="zeros")

    def hold(self, features: NDArray[np.float32]) -> None:
        """Keep features (1, channels) until others are given."""
        self._values.assign(features)

    def call(self, features: Any) -> Any:
        """A row of the kept features for each row given."""
        return keras.ops.repeat(self._values, keras.ops.shape(features)[0], axis=0)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As many rows, as many channels as are kept."""
        return (shape[0], int(self._values.shape[1]))


class _Watch:
    """Progress over the branches, and the chance to stop."""

    def __init__(
        self, branches: int, progress: Progress | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self._branches, self._done = branches, 0
        self._progress, self._cancelled = progress, cancelled

    def check(self, share: float = 0.0) -> None:
        """Tell how far this branch is, and raise Cancelled where that is wanted."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled("The heatmap was cancelled.")
        if self._progress is not None:
            self._progress((self._done + share) / self._branches)

    def finish_branch(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done / self._branches)


class WatchedModel(keras.Model):
    """A functional model whose long predictions are quiet, report progress and can be stopped."""

    watch: _Watch

    def predict(self, x: Any, batch_size: int | None = None, **_: Any) -> NDArray[np.float32]:
        """Score-CAM's forward passes, a few masked images at a time."""
        (images,) = x if isinstance(x, list) else (x,)
        rows = []
        for start in range(0, len(images), _BATCH):
            self.watch.check(start / len(images))
            rows.append(self.predict_on_batch(images[start : start + _BATCH]))
        outputs: NDArray[np.float32] = np.concatenate(rows)
        return outputs


def _run_ours(
    model: WatchedModel, image: NDArray[np.float32], class_index: int, method: GradientMethod, layer_name: str
) -> NDArray[np.float32]:
    feature_map = model.get_layer(layer_name).output
    value = keras.Model(model.inputs[0], feature_map)(image, training=False)
    tail = keras.Model(feature_map, model.outputs[0])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(value)
        score = tail(value, training=False)[:, class_index]
    cells = weigh_channels(method, value, tape.gradient(score, value)).numpy()
    (enlarged,) = enlarge_cells(cells, image.shape[1])
    return np.asarray(enlarged)


def _run_library(
    model: WatchedModel, image: NDArray[np.float32], class_index: int, method: MethodName, layer_name: str
) -> NDArray[np.float32]:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.layercam import Layercam
    from tf_keras_vis.scorecam import Scorecam

    kinds = {
        "grad_cam": Gradcam,
        "score_cam": Scorecam,
        "layer_cam": Layercam,
    }
    options: dict[str, Any] = {}
    if method == "score_cam":
        options["max_N"] = min(MASKED_CHANNELS, int(model.get_layer(layer_name).output.shape[-1]))
    maps = kinds[method](model, clone=False)(
        lambda outputs: outputs[:, class_index],
        image.astype(np.float32),
        penultimate_layer=layer_name,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        **options,
    )
    row: NDArray[np.float32] = np.asarray(maps, np.float32)[0]
    return row
