"""Training the concatenated head so that it is right about disagreeing pairs.

Pairs drawn within a class would teach it that two images always agree. Here it learns, for any two
images, what two independent looks at one patient say together: the sum of the branches' calibrated
logits (Bayes' rule for conditionally independent evidence at even prior odds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from covid_mm.config import POSITIVE, Modality
from covid_mm.models.heads import FUSED, find_margins
from covid_mm.models.network import Network

_BATCH = 256
_WIDEST = 10.0  # logits: targets beyond are as certain as any page shows


ToLogits = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]


def branch_direction(network: Network, modality: Modality) -> tuple[NDArray[np.float32], float]:
    """A branch's own head as one linear function: margin = features @ direction (channels,) + constant."""
    kernel, bias = (np.asarray(v, np.float32) for v in network.model.get_layer(f"{modality}_logits").weights)
    normal = 1 - POSITIVE
    return kernel[:, POSITIVE] - kernel[:, normal], float(bias[POSITIVE] - bias[normal])


def fit_fused_head(
    network: Network,
    features: Mapping[Modality, NDArray[np.float32]],
    calibrations: Mapping[Modality, ToLogits],
    *,
    steps: int = 2000,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> float:
    """Train the concatenated head in place on pooled features of training images; the branches stay.

    Images of the two modalities are paired at random, whatever their labels, and mixed within a
    modality, so that the head is also right between the classes, where unseen images fall.

    Args:
        features: by modality, (n, channels).
        calibrations: by modality, margins (n,) to calibrated logits (n,), fitted on left-out predictions.

    Returns:
        Mean absolute difference, in logits, of the head from the sum it learns, on pairs not learned from.
    """
    modalities = network.config.modalities
    head = keras.Model([network.features(m) for m in modalities], network.logits(FUSED))
    for layer in network.head_layers():
        layer.trainable = True
    variables = [v for layer in network.head_layers() for v in layer.trainable_variables]
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.01)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(variables)
    rng = np.random.default_rng([seed, 11])

    directions = {m: branch_direction(network, m) for m in modalities}

    def draw() -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
        mixed = [_mix(features[m], rng) for m in modalities]
        total = np.zeros(_BATCH, np.float32)
        for modality, part in zip(modalities, mixed, strict=True):
            direction, constant = directions[modality]
            total += calibrations[modality](part @ direction + constant)
        return mixed, np.clip(total, -_WIDEST, _WIDEST)

    def margin(values: list[tf.Tensor]) -> tf.Tensor:
        logits = head(values, training=False)
        return find_margins(logits)

    @tf.function(autograph=False)
    def step(values: list[tf.Tensor], target: tf.Tensor) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])  # Keras's own kind is not known to it
            difference = margin(values) - target
            loss = tf.reduce_mean(tf.minimum(tf.square(difference), 2.0 * tf.abs(difference)))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(steps):
        mixed, target = draw()
        step([tf.constant(part) for part in mixed], tf.constant(target))
    errors = []
    for _ in range(20):
        mixed, target = draw()
        errors.append(np.abs(np.asarray(margin([tf.constant(part) for part in mixed])) - target).mean())
    return float(np.mean(errors))


def _mix(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    first, second = rng.integers(0, len(features), (2, _BATCH))
    share = np.where(rng.random(_BATCH) < 0.5, 1.0, rng.random(_BATCH)).astype(np.float32)[:, None]
    return np.asarray(share * features[first] + (1.0 - share) * features[second], np.float32)
