"""Grad-CAM for one network of one or two branches: answer and heatmaps from one compiled function.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, equations (1) and (2), with the logit of the chosen class as the score.
Each branch is looked into at its own last convolution, so two branches give two maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from covid_mm.config import CHANNELS, POSITIVE, Modality
from covid_mm.errors import UsageError
from covid_mm.models.judge import content_features
from covid_mm.models.network import FUSED, Network

PREDICTED = -1  # as a class index: explain the class that the answer names


@dataclass(frozen=True)
class Explained:
    """What one call gives for n studies.

    logits: head name (`fused`, or a modality's own) -> float32 (n, 2).
    classes: int32 (n,), the class whose evidence was measured.
    evidence: modality -> float32 (n, side, side) >= 0, in logit units, not yet on a fixed scale.
    contents: modality -> float32 (n, d), what the judge of image content reads; empty without one.
    """

    logits: dict[str, NDArray[np.float32]]
    classes: NDArray[np.int32]
    evidence: dict[str, NDArray[np.float32]]
    contents: dict[Modality, NDArray[np.float32]]


class GradCam:
    """The compiled forward pass with heatmaps for one set of modalities.

    With all modalities of the network the score is its (concatenated) logit; with one of two it
    is the logit of that branch's own head, and the other branch is not run at all.
    """

    def __init__(
        self,
        network: Network,
        modalities: tuple[Modality, ...] | None = None,
        *,
        positive_margin: float = 0.0,
        judging_branch: Modality | None = None,
    ) -> None:
        """Build and trace the function.

        positive_margin: logit difference from which a study is called positive, so that
        `PREDICTED` explains the class that the decision threshold names. judging_branch: the
        branch whose backbone reads every image for the judge of image content.
        """
        chosen = modalities or network.config.modalities
        unknown = set(chosen) - set(network.config.modalities)
        if unknown:
            raise UsageError(
                f"The network reads {', '.join(network.config.modalities)}, not {', '.join(sorted(unknown))}."
            )
        self.modalities: tuple[Modality, ...] = tuple(m for m in network.config.modalities if m in chosen)
        whole = self.modalities == network.config.modalities
        self.target = FUSED if whole else self.modalities[0]
        side = network.config.image_size
        places = [network.evidence(m) for m in self.modalities]
        reader = None
        if judging_branch is not None:
            content = content_features(network, judging_branch)
            reader = keras.Model(network.image_input(judging_branch), content)
            if judging_branch in self.modalities:
                places.append(content)  # its own image goes through that backbone anyway
        trunk = keras.Model([network.image_input(m) for m in self.modalities], places)
        heads = {self.target: network.logits(self.target)}
        if whole and network.config.is_concatenated:
            heads |= {m: network.logits(m) for m in self.modalities}
        # from the feature maps on: the only part that gradients pass through
        tail = keras.Model([network.evidence(m) for m in self.modalities], heads)
        enlarge = [
            (_interpolation(side, feature_map.shape[1]), _interpolation(side, feature_map.shape[2]))
            for feature_map in trunk.outputs[: len(self.modalities)]
        ]
        image = tf.TensorSpec((None, side, side, CHANNELS), tf.float32)
        signature = ({m: image for m in self.modalities}, tf.TensorSpec((None,), tf.int32))

        @tf.function(input_signature=signature, autograph=False)
        def explain(images: dict[str, Any], classes: Any) -> tuple[Any, Any, Any, Any]:
            found = tf.nest.flatten(trunk([images[m] for m in self.modalities], training=False))
            maps = found[: len(self.modalities)]
            contents = {}
            if reader is not None:
                contents = {
                    m: found[-1] if m == judging_branch else reader(images[m], training=False)
                    for m in self.modalities
                }
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(maps)
                logits = tail(maps, training=False)
                score = logits[self.target]
                positive = score[:, POSITIVE] - score[:, 1 - POSITIVE] >= positive_margin
                predicted = tf.where(positive, POSITIVE, 1 - POSITIVE)
                chosen_class = tf.where(classes == PREDICTED, predicted, classes)
                chosen_score = tf.gather(score, chosen_class, batch_dims=1)
            gradients = tape.gradient(chosen_score, maps)
            evidence = {}
            for modality, feature_map, gradient, (rows, columns) in zip(
                self.modalities, maps, gradients, enlarge, strict=True
            ):
                weights = tf.reduce_mean(gradient, axis=(1, 2))  # equation (1)
                coarse = tf.nn.relu(tf.einsum("nhwc,nc->nhw", feature_map, weights))  # equation (2)
                evidence[modality] = tf.einsum("yh,nhw,xw->nyx", rows, coarse, columns)
            return logits, chosen_class, evidence, contents

        self._explain = explain.get_concrete_function()

    def explain(self, images: dict[Modality, NDArray[np.float32]], classes: NDArray[np.int32]) -> Explained:
        """Logits and evidence of n studies; any n, without tracing anew. Safe to call from any thread.

        images: modality -> float32 (n, side, side, 3), 0..255. classes: (n,), PREDICTED or an index.
        """
        logits, chosen, evidence, contents = self._explain(
            {m: tf.constant(images[m], tf.float32) for m in self.modalities}, tf.constant(classes, tf.int32)
        )
        return Explained(
            logits={name: value.numpy() for name, value in logits.items()},
            classes=chosen.numpy(),
            evidence={m: evidence[m].numpy() for m in self.modalities},
            contents={m: value.numpy() for m, value in contents.items()},
        )


def _interpolation(length: int, cells: int) -> Any:
    """Linear interpolation from `cells` grid points to `length` pixels, ends on ends, as a matrix."""
    matrix = np.zeros((length, cells), dtype=np.float32)
    position = np.linspace(0.0, cells - 1.0, length)
    below = np.minimum(np.floor(position).astype(int), max(cells - 2, 0))
    share = (position - below).astype(np.float32)
    rows = np.arange(length)
    matrix[rows, below] += 1.0 - share
    if cells > 1:
        matrix[rows, below + 1] += share
    return tf.constant(matrix)
