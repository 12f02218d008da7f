"""Training one network: Table II's recipe on the part that is not frozen.

Resumable after a kill at any moment: the state after each whole epoch is kept, and everything
random in an epoch depends on the seed and the epoch's number only.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality, TrainingConfig
from covid_mm.errors import TrainingError
from covid_mm.models.batch_norm import fuse_batch_norm
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network
from covid_mm.models.weights_file import load_weights, save_weights
from covid_mm.training.batches import BottleneckSamples, TrainingBatches, one_hot, validation_arrays
from covid_mm.training.run import RunFolder, RunState

_EVALUATION_BATCH = 64
_STEPS_AT_ONCE = 20


@dataclass(frozen=True)
class FitResult:
    """What a training came to. history: one row per epoch. restored_epoch: whose weights the network has, from 1."""

    history: list[dict[str, float]]
    restored_epoch: int
    seconds: float


def trained_part(network: Network, config: TrainingConfig, head: str = FUSED) -> keras.Model:
    """The part behind the frozen boundary, sharing the network's weights: values per modality -> logits.

    head: the concatenated (or only) head with all branches, or one modality's own small head,
    which is always trained on frozen features so that it touches nothing else.
    """
    if head == FUSED:
        inputs = [network.bottleneck(m, config.fine_tune) for m in network.config.modalities]
    else:
        inputs = [network.features(m) for m in network.config.modalities if m == head]
    tail = keras.Model(inputs, network.logits(head), name="trained_part")
    for layer in tail.layers:
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    fuse_batch_norm(tail)
    return tail


def fit_network(
    network: Network,
    training: dict[Modality, BottleneckSamples],
    validation: dict[Modality, BottleneckSamples],
    config: TrainingConfig,
    run: RunFolder,
    *,
    head: str = FUSED,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> FitResult:
    """Fit, keep the best epoch's weights in the network and in the run folder, or the last one's.

    Best is the highest validation accuracy, ties going to the lower validation loss. Goes on from
    the run folder's state where there is one. Raises TrainingError where the loss is no longer a
    number; the last good state stays.
    """
    started = time.monotonic()
    tail = trained_part(network, config, head)
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate,
        decay_steps=max(1, config.epochs * config.steps_per_epoch),
        alpha=config.final_learning_rate / config.learning_rate,
    )
    optimizer = keras.optimizers.Adam(schedule, weight_decay=config.weight_decay or None)
    tail.compile(
        optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,
        # a head's step on cached features costs less than Keras's way from one to the next
        steps_per_execution=math.gcd(config.steps_per_epoch, _STEPS_AT_ONCE)
        if config.fine_tune == "frozen"
        else 1,
    )
    optimizer.build(tail.trainable_variables)
    state = run.load_state()
    history = list(state.history) if state else []
    if state:
        restore_state(tail, optimizer, state)
    if len(history) < config.epochs:
        keeper = _EpochKeeper(
            network, validation_arrays(validation, config.seed), config, run, history, started
        )
        tail.fit(
            TrainingBatches(training, config, epoch=len(history)),
            epochs=config.epochs,
            initial_epoch=len(history),
            shuffle=False,  # the batches are shuffled; Keras would reorder them from a state that is not kept
            verbose=0,
            callbacks=[keeper, *callbacks],
        )
    load_weights(network, run.best_weights)
    best = max(range(len(history)), key=lambda epoch: _merit(history[epoch]))
    restored_epoch = len(history) if config.restored_epoch == "last" else best + 1
    return FitResult(history, restored_epoch, time.monotonic() - started)


def capture_state(
    tail: keras.Model, optimizer: keras.Optimizer, done: int, history: list[dict[str, float]]
) -> RunState:
    """What a run folder keeps after `done` epochs or steps; `restore_state` puts it back."""
    moments = [np.asarray(variable) for variable in optimizer.variables]
    return RunState(done, tail.get_weights(), moments, history)


def restore_state(tail: keras.Model, optimizer: keras.Optimizer, state: RunState) -> None:
    """Put a run folder's state back. Raises TrainingError where it belongs to another network."""
    expected = [tuple(v.shape) for v in (*tail.weights, *optimizer.variables)]
    shapes = [array.shape for array in (*state.weights, *state.optimizer)]
    if expected != shapes:
        raise TrainingError(
            "The run to resume was started with another network or other settings than these; resume it"
            " with the options it was started with, or start a new run."
        )
    tail.set_weights(state.weights)
    for variable, value in zip(optimizer.variables, state.optimizer, strict=True):
        variable.assign(value)


def _merit(row: dict[str, float]) -> tuple[float, float]:
    return (row["val_accuracy"], -row["val_loss"])


class _EpochKeeper(keras.callbacks.Callback):
    """Validates, keeps state and best weights after each epoch, stops at NaN, seeds dropout."""

    def __init__(
        self,
        network: Network,
        validation: tuple[tuple[NDArray[np.float32], ...], NDArray[np.int64]],
        config: TrainingConfig,
        run: RunFolder,
        history: list[dict[str, float]],
        started: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.validation = validation
        self.config = config
        self.run = run
        self.history = history
        self.started = started

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        dropout = self.network.model.get_layer("dropout")
        if dropout.rate > 0:  # without dropout Keras makes no generator
            dropout.seed_generator.state.assign(np.array([self.config.seed, epoch], dtype=np.uint32))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite(float((logs or {}).get("loss", 0.0))):
            raise TrainingError(
                f"The loss became NaN or infinite in epoch {len(self.history) + 1}, step {batch + 1};"
                f" {self._describe_kept()}. Lower the learning rate or check the images, and start again."
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        inputs, labels = self.validation
        logits = self.model.predict(inputs, batch_size=_EVALUATION_BATCH, verbose=0)
        row = {
            "epoch": float(epoch + 1),
            "learning_rate": float(self.model.optimizer.learning_rate),
            **{key: float(value) for key, value in (logs or {}).items() if key in ("loss", "accuracy")},
            "val_loss": cross_entropy(logits, labels),
            "val_accuracy": float(np.mean(np.argmax(logits, axis=-1) == labels)),
            "seconds": round(time.monotonic() - self.started, 1),
        }
        best = max(map(_merit, self.history), default=None)
        weights = self.model.get_weights()
        # TensorFlow's ReLU makes 0 of NaN, so a finite loss does not show that the weights are sound
        if not math.isfinite(row["val_loss"]) or not all(np.isfinite(values).all() for values in weights):
            raise TrainingError(
                f"The weights or the validation loss became NaN or infinite in epoch {epoch + 1};"
                f" {self._describe_kept()}. Lower the learning rate or check the images, and start again."
            )
        if best is None or self.config.restored_epoch == "last" or _merit(row) > best:
            save_weights(self.network, self.run.best_weights)
        self.history.append(row)
        self.run.save_state(capture_state(self.model, self.model.optimizer, len(self.history), self.history))
        if logs is not None:
            logs.update(row)

    def _describe_kept(self) -> str:
        if not self.history:
            return "no epoch was finished, so nothing is kept"
        return f"the state after epoch {len(self.history)} is kept in {self.run.path.name}"


def cross_entropy(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Mean categorical cross-entropy of logits (n, 2), in nats."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-np.mean(np.sum(one_hot(labels) * log_probabilities, axis=-1)))
