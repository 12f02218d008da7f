"""A small U-Net that marks the lungs on a CT slice or a frontal film, one set of weights per modality.

Ronneberger et al., "U-Net", MICCAI 2015, at a 20th of its width: 128 x 128 pixels in, a
probability of lung on 64 x 64 cells out. Trained by `training.lungs`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import CheckpointError
from covid_mm.imaging.lungs import LungRegion, find_percentiles, find_region

if TYPE_CHECKING:
    import keras

MAX_LUNGS_BYTES = 4 * 1024 * 1024
SEGMENTER_SIDE = 128  # pixels per side in
SEGMENTER_CELLS = 64  # cells per side out
SEGMENTER_WIDTHS = (12, 24, 48, 64)  # channels at 64, 32, 16 and 8 cells
_BATCH = 32


def build_segmenter(seed: int = 0) -> keras.Model:
    """The network with random weights: (n, 128, 128, 1) of 0..1 -> lung logits (n, 64, 64, 1)."""
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((SEGMENTER_SIDE, SEGMENTER_SIDE, 1), name="image")
    values = _convolve(image, SEGMENTER_WIDTHS[0], stride=2)
    levels = []
    for width in SEGMENTER_WIDTHS[1:]:
        values = _convolve(values, int(values.shape[-1]))
        levels.append(values)
        values = _convolve(values, width, stride=2)
    values = _convolve(_convolve(values, SEGMENTER_WIDTHS[-1]), SEGMENTER_WIDTHS[-1])
    for level in reversed(levels):
        width = int(level.shape[-1])
        values = keras.layers.UpSampling2D(interpolation="bilinear")(values)
        values = _convolve(keras.layers.Concatenate()([values, level]), width)
        values = _convolve(values, width)
    logits = keras.layers.Conv2D(1, 1, dtype="float32", name="lung_logits")(values)
    return keras.Model(image, logits, name="lung_segmenter")


def prepare_for_segmenter(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """A grey image (h, w) as the segmenter reads it: (128, 128) float32, its 1st to 99th percentile as 0..1."""
    small = cv2.resize(
        np.ascontiguousarray(grey, np.float32), (SEGMENTER_SIDE, SEGMENTER_SIDE), interpolation=cv2.INTER_AREA
    )
    low, high = find_percentiles(small, 1, 99)
    return np.asarray(np.clip((small - low) / max(high - low, 1e-3), 0.0, 1.0), np.float32)


def segment_images(
    function: Callable[[NDArray[np.float32]], Any], images: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Probability of lung, float32 (n, 64, 64), of whole grey images, some at a time.

    function: (n, 128, 128, 1) of 0..1 -> (n, 64, 64), whatever runs it.
    """
    rows = [np.zeros((0, SEGMENTER_CELLS, SEGMENTER_CELLS), np.float32)]
    for start in range(0, len(images), _BATCH):
        batch = np.stack([prepare_for_segmenter(grey) for grey in images[start : start + _BATCH]])
        rows.append(np.asarray(function(batch[..., None])))
    return np.concatenate(rows)


class LungSegmenter:
    """Finds the lungs; safe to call from any thread."""

    def __init__(self, networks: Mapping[Modality, keras.Model]) -> None:
        """networks: one trained `build_segmenter` per modality."""
        self.networks = dict(networks)
        self._functions = {m: _compile(network) for m, network in self.networks.items()}

    def find(self, images: Sequence[NDArray[np.float32]], modality: Modality) -> list[LungRegion | None]:
        """The lungs of whole grey images (h, w), 0..255, of any size; None where an image shows none."""
        return [find_region(row, modality) for row in self.probabilities(images, modality)]

    def probabilities(self, images: Sequence[NDArray[np.float32]], modality: Modality) -> NDArray[np.float32]:
        """Probability of lung, float32 (n, 64, 64), over each whole image."""
        return segment_images(self._functions[modality], images)

    def to_bytes(self) -> bytes:
        """All weights as .npz, in half precision."""
        arrays: dict[str, Any] = {
            f"{modality}_{number:03d}": np.asarray(weight, np.float16)
            for modality, network in self.networks.items()
            for number, weight in enumerate(network.get_weights())
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()


def read_lung_segmenter(path: Path) -> LungSegmenter:
    """The segmenter from the file that `LungSegmenter.to_bytes` made.

    Raises:
        CheckpointError: a file that is damaged, holds other arrays, or numbers that are not finite.
    """
    networks: dict[Modality, keras.Model] = {}
    try:
        for modality, weights in _read_weights(path).items():
            networks[modality] = build_segmenter()
            networks[modality].set_weights(weights)
    except Exception as error:  # a damaged archive fails in zipfile, zlib, NumPy or Keras, each its own way
        raise _refuse(path, error) from error
    return LungSegmenter(networks)


def read_segmenter_arrays(
    path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[Modality, dict[str, NDArray[np.float32]]]:
    """The same file's arrays by modality and name. shapes: by name, in the file's order.

    Raises CheckpointError as `read_lung_segmenter` does.
    """
    try:
        read = _read_weights(path)
        if any([array.shape for array in arrays] != list(shapes.values()) for arrays in read.values()):
            raise ValueError("weights of another network")
    except Exception as error:  # as above
        raise _refuse(path, error) from error
    return {modality: dict(zip(shapes, arrays, strict=True)) for modality, arrays in read.items()}


def _read_weights(path: Path) -> dict[Modality, list[NDArray[np.float32]]]:
    weights: dict[Modality, list[NDArray[np.float32]]] = {}
    with np.load(path, allow_pickle=False) as file:
        for modality in MODALITIES:
            names = sorted(name for name in file.files if name.startswith(f"{modality}_"))
            if names:
                weights[modality] = [np.asarray(file[name], np.float32) for name in names]
    if not all(np.isfinite(array).all() for arrays in weights.values() for array in arrays):
        raise ValueError("weights that are not finite")
    if not weights:
        raise ValueError("no lung segmenter in it")
    return weights


def _refuse(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The {path.name} of checkpoint {path.parent.name} cannot be read ({type(error).__name__}); put"
        " back the published one, or train again."
    )


def _convolve(values: Any, width: int, stride: int = 1) -> Any:
    import keras

    values = keras.layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(values)
    values = keras.layers.BatchNormalization(momentum=0.95)(values)
    return keras.layers.ReLU()(values)


def _compile(network: keras.Model) -> Any:
    import keras

    if keras.backend.backend() == "jax":  # where branches are trained; serving is on TensorFlow
        import jax

        return jax.jit(lambda images: keras.ops.sigmoid(network(images, training=False))[..., 0])
    import tensorflow as tf

    shape = (None, SEGMENTER_SIDE, SEGMENTER_SIDE, 1)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def run(images: Any) -> Any:
        return tf.sigmoid(network(images, training=False))[..., 0]

    return run
