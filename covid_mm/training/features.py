"""What the frozen part of a branch puts out, computed once and kept.

A frozen layer gives the same output for the same image in every epoch, so the network is cut at
the boundary between its frozen and its trained part, and training reads the boundary's values
from an array. Augmentation survives as a fixed number of varied copies of each image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import FineTune, Modality
from covid_mm.files import write_array
from covid_mm.imaging import to_network_input
from covid_mm.models.network import Network
from covid_mm.training.augmentation import augment_images

GreyImages = NDArray[np.float32]
Progress = Callable[[int, int], None]
_BATCH = 64
_CHUNK = 256  # images augmented and held as network input at a time


def compute_features(
    network: Network,
    modality: Modality,
    images: GreyImages,
    *,
    fine_tune: FineTune,
    copies: int = 1,
    seed: int = 0,
    strength: float = 1.0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """The boundary's values for each copy of each image: (copies, n, ...) float32.

    Copy 0 is the image itself, the others are augmented copies of that strength seeded by (seed, copy). With
    `cache`, a folder, the array is kept there under a hash of the backbone, its frozen weights, the images
    and the copies, and read back instead of computed. Pooled features start from the last block's input
    where that is kept: the many trainings of a last block share what lies before it.
    """
    trunk = keras.Model(network.image_input(modality), network.bottleneck(modality, fine_tune))
    path = None
    shape = (copies, len(images), *(int(side) for side in trunk.output_shape[1:]))
    if cache is not None:
        if copies == 1:  # no augmentation, so neither its seed nor its strength matters
            seed, strength = 0, 0.0
        settings = f"{copies} {seed} {strength}"
        path = _cache_path(cache, network, modality, trunk, images, fine_tune, settings)
        if (cached := _read_cached(path, shape)) is not None:
            return cached
    features = np.empty(shape, dtype=np.float32)
    blocks = [] if cache is None or fine_tune != "frozen" else [*cache.glob(f"{modality}-last-block-*.npy")]
    if cache is not None and blocks:
        block = network.bottleneck(modality, "last-block")
        before = keras.Model(network.image_input(modality), block)
        known = _cache_path(cache, network, modality, before, images, "last-block", settings)
        inputs = _read_cached(known, (copies, len(images), *(int(side) for side in before.output_shape[1:])))
        if inputs is not None and path is not None:
            rest = keras.Model(block, network.features(modality))
            for copy in range(copies):
                for rows in _chunks(len(images)):
                    features[copy, rows] = rest.predict(
                        np.asarray(inputs[copy, rows]), batch_size=_BATCH, verbose=0
                    )
            write_array(path, features)
            return features
    done, total = 0, copies * len(images)
    for copy in range(copies):
        for rows in _chunks(len(images)):
            chunk = images[rows]
            if copy:
                chunk = augment_images(chunk, modality, seed=(seed, copy, rows.start), strength=strength)
            # not predict_on_batch, which gives each replica of a distribution strategy the whole batch
            features[copy, rows] = trunk.predict(to_network_input(chunk), batch_size=_BATCH, verbose=0)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if path is not None:
        write_array(path, features)
    return features


def _cache_path(
    cache: Path,
    network: Network,
    modality: Modality,
    trunk: keras.Model,
    images: GreyImages,
    fine_tune: FineTune,
    settings: str,
) -> Path:
    """The file of what a frozen part puts out, told by all that it depends on."""
    name = network.backbone(modality).name  # not its layers' names: Keras numbers some through a process
    key = _fingerprint(trunk, images, f"{name} {fine_tune} {settings}")
    return cache / f"{modality}-{fine_tune}-{key[:20]}.npy"


def _read_cached(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """The array kept there; None where there is none, or a damaged one, which is then computed anew."""
    try:
        cached: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return cached if cached.shape == shape and cached.dtype == np.float32 else None


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))


def _fingerprint(trunk: keras.Model, images: GreyImages, settings: str) -> str:
    digest = hashlib.sha256(f"{settings} {images.shape}".encode())
    for weight in trunk.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()
