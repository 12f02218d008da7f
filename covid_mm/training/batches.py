"""Batches that depend only on (seed, epoch, step), so that a resumed run sees the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, MODALITIES, FineTune, Modality, TrainingConfig
from covid_mm.datasets.pairs import training_pairs, validation_pairs
from covid_mm.errors import TrainingError
from covid_mm.imaging import to_network_input
from covid_mm.models.network import Network
from covid_mm.training.augmentation import augment_images
from covid_mm.training.features import GreyImages, Progress, compute_features


@dataclass(frozen=True)
class ModalitySamples:
    """The images of one modality on one side of the split.

    images: (n, side, side) float32 0..255 grey. labels: (n,) int, indices into CLASSES.
    """

    images: GreyImages
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class BottleneckSamples:
    """What the trained part reads: features (copies, n, ...), or images where nothing is frozen."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    are_images: bool


def prepare_bottleneck(
    network: Network,
    modality: Modality,
    samples: ModalitySamples,
    *,
    fine_tune: FineTune,
    copies: int,
    seed: int,
    strength: float = 1.0,
    cache: Any = None,
    progress: Progress | None = None,
) -> BottleneckSamples:
    """Cut a branch at its boundary: compute the frozen part's output, or keep the images.

    Raises TrainingError for pixels that are no numbers, which a network's ReLU layers would hide.
    """
    if not np.isfinite(samples.images).all():
        raise TrainingError(
            f"The {MODALITIES[modality].title} images hold pixels that are not numbers; read them with"
            " covid_mm.imaging, which refuses such images."
        )
    if fine_tune == "full":
        return BottleneckSamples(samples.images[None], samples.labels, are_images=True)
    features = compute_features(
        network,
        modality,
        samples.images,
        fine_tune=fine_tune,
        copies=copies,
        seed=seed,
        strength=strength,
        cache=cache,
        progress=progress,
    )
    return BottleneckSamples(features, samples.labels, are_images=False)


def draw_order(
    labels: dict[Modality, NDArray[np.int64]], count: int, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Row indices (count, branches) for one epoch: whole shuffled passes, one after the other.

    Several modalities are joined within a class, anew each pass.
    """
    passes: list[NDArray[np.int64]] = []
    drawn = 0
    while drawn < count:
        turn = epoch * 1000 + len(passes)
        if len(labels) > 1:
            rows = training_pairs(labels, seed=seed, epoch=turn)
        else:
            (only,) = labels.values()
            rows = np.random.default_rng([seed, turn]).permutation(len(only))[:, None]
        passes.append(rows)
        drawn += len(rows)
    return np.concatenate(passes)[:count]


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels (n,) as (n, 2) float32."""
    return np.eye(len(CLASSES), dtype=np.float32)[labels]


class TrainingBatches(keras.utils.PyDataset):
    """One epoch's batches: (values in order of modality, one-hot labels)."""

    def __init__(
        self, samples: dict[Modality, BottleneckSamples], config: TrainingConfig, epoch: int = 0
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.samples = samples
        self.config = config
        self.begin_epoch(epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch."""
        self.epoch = epoch
        self.order = draw_order(
            {modality: part.labels for modality, part in self.samples.items()},
            self.config.steps_per_epoch * self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
        )

    def on_epoch_end(self) -> None:
        """Keras calls this after each epoch."""
        self.begin_epoch(self.epoch + 1)

    def __len__(self) -> int:
        return self.config.steps_per_epoch

    def __getitem__(self, step: int) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]:
        rows = self.order[step * self.config.batch_size : (step + 1) * self.config.batch_size]
        inputs: list[NDArray[np.float32]] = []
        for column, (modality, part) in enumerate(self.samples.items()):
            chosen = rows[:, column]
            key = (self.config.seed, self.epoch, step, column)
            if part.are_images:
                images = part.values[0, chosen]
                if self.config.augmentation > 0:
                    images = augment_images(images, modality, seed=key, strength=self.config.augmentation)
                inputs.append(to_network_input(images))
            else:
                copies = np.random.default_rng(key).integers(0, len(part.values), size=len(chosen))
                inputs.append(np.asarray(part.values[copies, chosen]))
        first = next(iter(self.samples.values()))
        return tuple(inputs), one_hot(first.labels[rows[:, 0]])


def validation_arrays(
    samples: dict[Modality, BottleneckSamples], seed: int
) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.int64]]:
    """All validation studies, unaugmented: (values in order of modality, labels); pairs are fixed."""
    labels = {modality: part.labels for modality, part in samples.items()}
    if len(samples) > 1:
        rows = validation_pairs(labels, seed=seed)
    else:
        (only,) = labels.values()
        rows = np.arange(len(only))[:, None]
    inputs = []
    for column, part in enumerate(samples.values()):
        values = np.asarray(part.values[0][rows[:, column]])
        inputs.append(to_network_input(values) if part.are_images else values)
    first = next(iter(labels.values()))
    return tuple(inputs), first[rows[:, 0]]
