"""Batches that a branch learns from: drawn by source and class, varied, and prepared ahead of need.

A batch depends on seed and step only, whoever prepares it: threads of this process, or processes of their own where a
GPU would wait for them. Nothing here loads Keras, so that such a process starts at once.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, POSITIVE, Modality
from covid_mm.training.appearance import MILD, NONE, AppearanceConfig, vary_crop
from covid_mm.training.bodies import place_in_body
from covid_mm.training.lesions import add_opacities

_THREADS = 2
STEPS_TOGETHER = 10  # in one call of the compiled loop
_AHEAD = 3  # batches that are prepared, per thread or process, while one is learned from

Batch = tuple[NDArray[np.generic], ...]


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
    images. exchanged: share of images whose lungs are shown in the body of another image. mild: share of images
    that vary no more than `appearance.MILD` and stay in their bodies. taught: share
    of the teachers' answer in what a branch with teachers learns, the label's is the rest.
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
    mild: float = 0.0
    taught: float = 0.7
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    augmented: bool = True
    seed: int = 0


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


def vary_batch(
    samples: BranchSamples,
    draw: Draw,
    modality: Modality,
    size: int,
    config: BranchConfig,
    key: tuple[int, ...],
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], bool]]:
    """Varied images and targets, and whether opacities were drawn on (a crop may show too little lung)."""
    varied = []
    for position, (row, has_drawn_lesions) in enumerate(zip(draw.rows, draw.drawn, strict=True)):
        rng = np.random.default_rng([config.seed, *key, position])
        crop, target = samples.crops[row], samples.targets[row]
        ill = add_opacities(crop, rng) if has_drawn_lesions else None
        crop, target = (crop, target) if ill is None else ill
        is_mild = config.mild > 0 and rng.random() < config.mild
        if not is_mild and rng.random() < config.exchanged:
            body = rng.integers(len(samples.crops))
            crop = place_in_body(crop, samples.lungs[row], samples.crops[body], samples.lungs[body])
        appearance = (MILD if is_mild else config.appearance) if config.augmented else NONE
        varied.append((*vary_crop(crop, target, modality, size, rng, appearance), ill is not None))
    return varied


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of any step. size: of the images, pixels per side. cells: rows and columns of the attention."""

    samples: BranchSamples
    config: BranchConfig
    modality: Modality
    size: int
    cells: tuple[int, ...]

    def __call__(self, step: int) -> Batch:
        """Images float32 (n, size, size) 0..255, labels int64 (n,), lesions' shares float32 (n, *cells), located
        bool (n,)."""
        samples = self.samples
        draw = draw_batch(samples, self.config, step)
        varied = vary_batch(samples, draw, self.modality, self.size, self.config, (0, step))
        targets = [
            np.minimum(1.5 * cv2.resize(target, self.cells[::-1], interpolation=cv2.INTER_AREA), 1.0)
            for _, target, _ in varied
        ]
        drawn = np.array([is_drawn for _, _, is_drawn in varied])
        return (
            np.stack([image for image, _, _ in varied]),
            np.where(drawn, POSITIVE, samples.labels[draw.rows]),
            np.stack(targets).astype(np.float32),
            samples.located[draw.rows],
        )


def prepare_batches(maker: BatchMaker, begin: int, processes: int = 0) -> Iterator[Batch]:
    """Batches from step `begin` to the last, in order, prepared ahead of need.

    processes: that prepare them; 0 for threads of this process, which are enough for a processor's own steps.
    """
    workers = _start_processes(maker, processes) if processes else _start_threads(maker)
    ahead, last = _AHEAD * (processes or _THREADS), maker.config.steps
    with workers as (pool, prepare):
        waiting = [pool.submit(prepare, step) for step in range(begin, min(begin + ahead, last))]
        try:
            for step in range(begin, last):
                batch = waiting.pop(0).result()
                if step + ahead < last:
                    waiting.append(pool.submit(prepare, step + ahead))
                yield batch
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _start_threads(maker: BatchMaker) -> Iterator[tuple[Executor, Callable[[int], Batch]]]:
    with ThreadPoolExecutor(_THREADS) as pool:
        yield pool, maker


@contextmanager
def _start_processes(maker: BatchMaker, processes: int) -> Iterator[tuple[Executor, Callable[[int], Batch]]]:
    """Processes that read the samples from files, so that all of them share one copy in memory."""
    with tempfile.TemporaryDirectory(prefix="covid-mm-samples-") as name:
        for part in fields(BranchSamples):
            np.save(Path(name) / f"{part.name}.npy", getattr(maker.samples, part.name))
        empty = {part.name: getattr(maker.samples, part.name)[:0] for part in fields(BranchSamples)}
        bare = replace(maker, samples=BranchSamples(**empty))
        with ProcessPoolExecutor(
            processes,
            multiprocessing.get_context("spawn"),  # forking would copy the locks of a runtime's threads
            initializer=_read_samples,
            initargs=(Path(name), bare),
        ) as pool:
            yield pool, _make_batch


_makers: list[BatchMaker] = []  # of a process that prepares batches: its one maker


def _read_samples(folder: Path, bare: BatchMaker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains, which ends this one
    cv2.setNumThreads(1)
    parts = {part.name: np.load(folder / f"{part.name}.npy", mmap_mode="r") for part in fields(BranchSamples)}
    _makers.append(replace(bare, samples=BranchSamples(**parts)))


def _make_batch(step: int) -> Batch:
    return _makers[0](step)
