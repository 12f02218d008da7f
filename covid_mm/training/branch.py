"""Training one branch on several collections, so that it reads lungs and not hospitals.

Every batch is balanced by source and by class within the source. Attention logits learn from
radiologists' boxes and lesion masks where there are any (a hint on where the evidence lies), are
held down on normal images, and must rise somewhere on positive ones. Batch norm statistics are
re-estimated once and then frozen; the weights that are kept are an exponential average over steps.
Resumable after a kill at any moment, to the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from covid_mm.config import CLASSES, POSITIVE, Modality
from covid_mm.errors import TrainingError
from covid_mm.models.network import Network
from covid_mm.training.appearance import NONE, AppearanceConfig, vary_crop
from covid_mm.training.bodies import place_in_body
from covid_mm.training.fit import capture_state, restore_state
from covid_mm.training.lesions import add_opacities
from covid_mm.training.run import RunFolder
from covid_mm.training.steps import compile_steps, cosine_rate, observe_batches

_AHEAD = 6  # batches that are prepared while one is learned from
_WARM_UP = 100  # steps until the learning rate is reached
_STATISTICS = 25  # batches from which batch norm's statistics are re-estimated
_TOGETHER = 10  # steps in one call, a divisor of _SAVED_EVERY
_SAVED_EVERY = 200  # steps between two states on disk


@dataclass(frozen=True)
class BranchSamples:
    """Lung crops of one modality to learn from.

    crops: uint8 (n, s, s), cut with `appearance.ROOM`. lungs: uint8 (n, s, s), 255 on the lungs, all 0
    where not known. labels: int64 (n,). sources: int64 (n,), which scanner or hospital. targets:
    uint8 (n, s, s), 255 where there is a lesion. located:
    bool (n,), whether the targets are known (always so for normal images, where they are empty).
    hosts: bool (n,), normal images that opacities may be drawn on; such a copy is positive.
    """

    crops: NDArray[np.uint8]
    lungs: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    targets: NDArray[np.uint8]
    located: NDArray[np.bool_]
    hosts: NDArray[np.bool_]


@dataclass(frozen=True)
class BranchConfig:
    """The recipe.

    frozen_until: a layer of the backbone, without its prefix; it and all before it stay as they
    started. balance: power of a source's size in its share of the batches, 0 for equal shares and
    1 for plain sampling. hint: weight of the loss on where the evidence lies. averaging: momentum
    of the weights' average. drawn: share of opacities drawn on normal lungs among a source's positive
    images. exchanged: share of images whose lungs are shown in the body of another image.
    """

    steps: int = 1200
    batch_size: int = 32
    learning_rate: float = 8e-4
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05
    frozen_until: str | None = None
    balance: float = 0.5
    hint: float = 0.5
    averaging: float = 0.995
    drawn: float = 0.15
    exchanged: float = 0.3
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    augmented: bool = True
    seed: int = 0


FROZEN_UNTIL = {
    "mobilenet": "conv_pw_3_relu",
    "densenet121": "pool3_pool",
}  # the first blocks: edges, textures


@dataclass(frozen=True)
class Draw:
    """The images of one step. rows: int64 (batch,). drawn: bool (batch,), with opacities drawn on: positive."""

    rows: NDArray[np.int64]
    drawn: NDArray[np.bool_]


def draw_batch(samples: BranchSamples, config: BranchConfig, step: int) -> Draw:
    """A source, a class in it, an image, for each place of one step's batch; the same for seed and step."""
    rng = np.random.default_rng([config.seed, step, 1])
    sources, sizes = np.unique(samples.sources, return_counts=True)
    drawn = np.zeros(config.batch_size, np.bool_)
    if config.balance >= 1:
        return Draw(rng.integers(0, len(samples.labels), config.batch_size), drawn)
    shares = sizes.astype(np.float64) ** config.balance
    chosen = rng.choice(sources, config.batch_size, p=shares / shares.sum())
    classes = rng.permutation(np.arange(config.batch_size) % len(CLASSES))
    rows = np.empty(config.batch_size, np.int64)
    for position, (source, label) in enumerate(zip(chosen, classes, strict=True)):
        pool = np.flatnonzero((samples.sources == source) & (samples.labels == label))
        hosts = np.flatnonzero((samples.sources == source) & samples.hosts)
        if label == POSITIVE and len(hosts) and (not len(pool) or rng.random() < config.drawn):
            pool, drawn[position] = hosts, True
        if not len(pool):  # a source without this class never stands for it: another image of the class
            pool = np.flatnonzero(samples.labels == label)
        rows[position] = rng.choice(pool)
    return Draw(rows, drawn)


def fit_branch(
    network: Network,
    modality: Modality,
    samples: BranchSamples,
    config: BranchConfig,
    run: RunFolder,
    progress: Callable[[int, float], None] | None = None,
) -> list[dict[str, float]]:
    """Train a branch and its own head in place; returns the history, one row per 50 steps.

    progress(step, loss) is called after every 50 steps. Goes on from the run folder's state.

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
    if state is None:
        estimate_statistics(branch, samples, config, modality, size)
    else:
        restore_state(branch, optimizer, state)
    smoothing = config.label_smoothing

    def loss(outputs: list[Any], labels: Any, targets: Any, located: Any) -> Any:
        smoothed = ops.one_hot(labels, len(CLASSES)) * (1.0 - smoothing) + smoothing / len(CLASSES)
        value = ops.mean(ops.categorical_crossentropy(smoothed, outputs[0], from_logits=True))
        if attends and config.hint:
            value += config.hint * _hint_loss(outputs[1][..., 0], labels, targets, located)
        return value

    steps = compile_steps(branch, optimizer, loss)
    started, losses = time.monotonic(), []
    batches = _prepare_batches(samples, config, modality, size, cells, begin)
    for first in range(begin, config.steps, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, config.steps))
        parts = zip(*(next(batches) for _ in numbers), strict=True)
        rates = np.array(
            [cosine_rate(n, config.steps, config.learning_rate, _WARM_UP) for n in numbers], np.float32
        )
        losses.append(steps.run(rates, tuple(np.stack(part) for part in parts)))
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
            np.stack([image for image, _, _ in _vary_batch(samples, draw, modality, size, config, (2, step))])
            for step, draw in enumerate(draws)
        ),
    )
    for layer, (momentum, trainable) in zip(normalising, before, strict=True):
        layer.momentum, layer.trainable = momentum, trainable


def _hint_loss(attention: Any, labels: Any, targets: Any, located: Any) -> Any:
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


def _prepare_batches(
    samples: BranchSamples,
    config: BranchConfig,
    modality: Modality,
    size: int,
    cells: tuple[int, ...],
    begin: int,
) -> Iterator[tuple[NDArray[np.generic], ...]]:
    """Batches from step `begin` on, prepared in threads ahead of need, in order."""

    def prepare(step: int) -> tuple[NDArray[np.generic], ...]:
        draw = draw_batch(samples, config, step)
        varied = _vary_batch(samples, draw, modality, size, config, (0, step))
        targets = [
            np.minimum(1.5 * cv2.resize(target, cells[::-1], interpolation=cv2.INTER_AREA), 1.0)
            for _, target, _ in varied
        ]
        drawn = np.array([is_drawn for _, _, is_drawn in varied])
        return (
            np.stack([image for image, _, _ in varied]),
            np.where(drawn, POSITIVE, samples.labels[draw.rows]),
            np.stack(targets).astype(np.float32),
            samples.located[draw.rows],
        )

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(prepare, step) for step in range(begin, min(begin + _AHEAD, config.steps))]
        for step in range(begin, config.steps):
            batch = waiting.pop(0).result()
            if step + _AHEAD < config.steps:
                waiting.append(pool.submit(prepare, step + _AHEAD))
            yield batch


def _vary_batch(
    samples: BranchSamples,
    draw: Draw,
    modality: Modality,
    size: int,
    config: BranchConfig,
    key: tuple[int, ...],
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], bool]]:
    """Varied images and targets, and whether opacities were drawn on (a crop may show too little lung)."""
    appearance = config.appearance if config.augmented else NONE
    varied = []
    for position, (row, has_drawn_lesions) in enumerate(zip(draw.rows, draw.drawn, strict=True)):
        rng = np.random.default_rng([config.seed, *key, position])
        crop, target = samples.crops[row], samples.targets[row]
        ill = add_opacities(crop, rng) if has_drawn_lesions else None
        crop, target = (crop, target) if ill is None else ill
        if rng.random() < config.exchanged:
            body = rng.integers(len(samples.crops))
            crop = place_in_body(crop, samples.lungs[row], samples.crops[body], samples.lungs[body])
        varied.append((*vary_crop(crop, target, modality, size, rng, appearance), ill is not None))
    return varied
