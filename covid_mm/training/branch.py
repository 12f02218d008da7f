"""Training one branch on several collections, so that it reads lungs and not hospitals.

Every batch is balanced by source and by class within the source. Attention logits learn from
radiologists' boxes and lesion masks where there are any (a hint on where the evidence lies), are
held down on normal images, and must rise somewhere on positive ones. Batch norm statistics are
re-estimated once and then frozen; the weights that are kept are an exponential average over steps.
A branch may have teachers: trained ones, whose answer to each varied image it learns beside the label
(Hinton et al., Distilling the knowledge in a neural network, 2015, at temperature 1).
Resumable after a kill at any moment, to the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.special import softmax

from covid_mm.config import CLASSES, POSITIVE, Modality
from covid_mm.errors import TrainingError
from covid_mm.models.network import Network
from covid_mm.training.branch_batches import (
    STEPS_TOGETHER,
    BatchMaker,
    BranchConfig,
    BranchSamples,
    draw_batch,
    prepare_batches,
    vary_batch,
)
from covid_mm.training.fit import capture_state, restore_state
from covid_mm.training.run import RunFolder
from covid_mm.training.steps import compile_answers, compile_steps, cosine_rate, observe_batches

_WARM_UP = 100  # steps until the learning rate is reached
_STATISTICS = 25  # batches from which batch norm's statistics are re-estimated
_TOGETHER = STEPS_TOGETHER  # in one call, a divisor of _SAVED_EVERY
_SAVED_EVERY = 200  # steps between two states on disk


def fit_branch(
    network: Network,
    modality: Modality,
    samples: BranchSamples,
    config: BranchConfig,
    run: RunFolder,
    progress: Callable[[int, float], None] | None = None,
    *,
    processes: int = 0,
    teachers: Sequence[keras.Model] = (),
    start: Sequence[NDArray[Any]] | None = None,
) -> list[dict[str, float]]:
    """Train a branch and its own head in place; returns the history, one row per 50 steps.

    progress(step, loss) is called after every 50 steps. Goes on from the run folder's state.
    processes: that prepare batches, see `prepare_batches`. teachers: as `trained_model` gives them,
    for images of the same size. start: weights of `trained_model` to go on from, batch norm's statistics among
    them, which are then not estimated anew.

    Raises:
        TrainingError: the loss is no longer a number, or the state belongs to another training.
    """
    attends = network.config.pooling == "attention"
    branch = trained_model(network, modality)
    freeze_until(network, modality, config.frozen_until)
    size = network.config.image_size
    cells = tuple(int(side) for side in network.evidence(modality).shape[1:3])
    optimizer = keras.optimizers.AdamW(
        config.learning_rate,
        weight_decay=config.weight_decay,
        use_ema=True,
        ema_momentum=config.averaging,
        global_clipnorm=1.0,
    )
    variables = branch.trainable_variables
    optimizer.build(variables)
    state = run.load_state()
    history = list(state.history) if state else []
    begin = state.epochs if state else 0
    if state is not None:
        restore_state(branch, optimizer, state)
    elif start is not None:
        branch.set_weights(list(start))
    else:
        estimate_statistics(branch, samples, config, modality, size)

    def loss(outputs: list[Any], goals: Any, labels: Any, targets: Any, located: Any) -> Any:
        value = ops.mean(ops.categorical_crossentropy(goals, outputs[0], from_logits=True))
        if attends and config.hint:
            value += config.hint * hint_loss(outputs[1][..., 0], labels, targets, located)
        return value

    steps = compile_steps(branch, optimizer, loss)
    ask = [compile_answers(teacher) for teacher in teachers]
    started, losses = time.monotonic(), []
    maker = BatchMaker(samples, config, modality, size, cells)
    batches = prepare_batches(maker, begin, processes)
    for first in range(begin, config.steps, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, config.steps))
        images, labels, *rest = (
            np.stack(part) for part in zip(*(next(batches) for _ in numbers), strict=True)
        )
        goals = make_goals(images, labels, config, ask)
        rates = np.array(
            [cosine_rate(n, config.steps, config.learning_rate, _WARM_UP) for n in numbers], np.float32
        )
        losses.append(steps.run(rates, (images, goals, labels, *rest)))
        done = numbers.stop
        if done % 50 == 0 or done == config.steps:
            mean = float(np.concatenate(losses).mean())
            losses.clear()
            if not np.isfinite(mean):
                raise TrainingError(
                    f"The loss became NaN or infinite before step {done}; lower the learning rate or check the"
                    " images, and start again."
                )
            history.append(
                {"step": float(done), "loss": mean, "seconds": round(time.monotonic() - started, 1)}
            )
            if progress is not None:
                progress(done, mean)
        if done % _SAVED_EVERY == 0 and done < config.steps:
            steps.write()
            run.save_state(capture_state(branch, optimizer, done, history))
    if begin < config.steps:
        steps.write()
        optimizer.finalize_variable_values(variables)
        run.save_state(capture_state(branch, optimizer, config.steps, history))
    return history


def make_goals(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    config: BranchConfig,
    teachers: Sequence[Callable[[NDArray[np.float32]], NDArray[np.float32]]],
) -> NDArray[np.float32]:
    """Probabilities (..., 2) to learn: smoothed labels, mixed with what the teachers' mean logits say.

    images: (..., s, s). labels: (...). teachers: images (n, s, s) -> logits (n, 2).
    """
    smoothing = config.label_smoothing
    goals = np.eye(len(CLASSES), dtype=np.float32)[labels] * (1.0 - smoothing) + smoothing / len(CLASSES)
    if teachers:
        flat = images.reshape(-1, *images.shape[-2:])
        logits = np.mean([teacher(flat) for teacher in teachers], axis=0, dtype=np.float64)
        answers = softmax(logits, axis=-1).reshape(goals.shape)
        goals = (1.0 - config.taught) * goals + config.taught * answers
    return goals.astype(np.float32)


def trained_model(network: Network, modality: Modality) -> keras.Model:
    """Image -> logits, and attention logits where there are any: the part whose weights a run folder keeps."""
    attends = network.config.pooling == "attention"
    outputs = [network.logits(modality)] + ([network.attention(modality)] if attends else [])
    return keras.Model(network.image_input(modality), outputs)


def freeze_until(network: Network, modality: Modality, layer_name: str | None) -> None:
    """Freeze a branch's layers up to and including this one, and all batch norm: its gradients cost most.

    Raises TrainingError for a layer that the backbone does not have.
    """
    frozen = layer_name is not None
    for layer in network.model.layers:
        if not layer.name.startswith(f"{modality}_"):
            continue
        layer.trainable = not frozen and not isinstance(layer, keras.layers.BatchNormalization)
        if layer.name == f"{modality}_{layer_name}":
            frozen = False
    if frozen:
        raise TrainingError(
            f"The {modality} backbone has no layer {layer_name}, after which it was to learn; name one of its own."
        )


def estimate_statistics(
    branch: keras.Model, samples: BranchSamples, config: BranchConfig, modality: Modality, size: int
) -> None:
    """Batch norm's means and variances anew, from training batches, over the whole branch."""
    normalising = [layer for layer in branch.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [(layer.momentum, layer.trainable) for layer in normalising]
    for layer in normalising:
        layer.momentum, layer.trainable = 0.9, True

    draws = [draw_batch(samples, config, 1_000_000 + step) for step in range(_STATISTICS)]
    observe_batches(
        branch,
        (
            np.stack([image for image, _, _ in vary_batch(samples, draw, modality, size, config, (2, step))])
            for step, draw in enumerate(draws)
        ),
    )
    for layer, (momentum, trainable) in zip(normalising, before, strict=True):
        layer.momentum, layer.trainable = momentum, trainable


def hint_loss(attention: Any, labels: Any, targets: Any, located: Any) -> Any:
    """Attention logits (n, rows, columns) against lesions: cell by cell where they are known, else somewhere.

    A positive image without annotation must have four cells that attend (multiple-instance learning).
    """
    by_cell = ops.mean(
        ops.binary_crossentropy(ops.cast(targets, attention.dtype), attention, from_logits=True), axis=(1, 2)
    )
    cells = ops.reshape(attention, (ops.shape(attention)[0], -1))
    highest = ops.mean(ops.top_k(cells, 4)[0], axis=1)
    somewhere = ops.softplus(-highest)
    positive = ops.cast(ops.equal(labels, POSITIVE), attention.dtype)
    known = ops.cast(located, attention.dtype)
    return ops.mean(known * by_cell + (1.0 - known) * positive * 0.3 * somewhere)
