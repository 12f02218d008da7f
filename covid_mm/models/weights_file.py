"""Weights on disk: HDF5, one group per layer, arrays only.

Written by layer name, so a file says what it holds, and read strictly: every weight must be there
with its shape, nothing else may be, and every number must be finite. Kernels may be stored as
float16 to halve the file; vectors (biases, batch-norm statistics) always stay float32.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES
from covid_mm.errors import WeightsError
from covid_mm.files import replace_file

if TYPE_CHECKING:
    import keras

    from covid_mm.models.network import Network

Shapes = dict[str, tuple[int, ...]]

MODALITY_PREFIXES = tuple(f"{modality}_" for modality in MODALITIES)
_DEPTH = 2  # layer/weight: deeper groups are foreign, and a group that holds itself has no end


def save_weights(network: Network, path: Path, *, half: bool = False) -> None:
    """Write all weights atomically. half: kernels as float16."""
    with replace_file(path) as tmp_path, h5py.File(tmp_path, "w") as file:
        for name, variable in _named_weights(network.model):
            value = np.asarray(variable)
            if half and value.ndim > 1:
                value = value.astype(np.float16)
            file.create_dataset(name, data=value)


def hash_backbones(path: Path) -> str:
    """SHA-256 over the names and numbers of all backbone layers in a weights file, heads left out.

    Raises WeightsError where it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with h5py.File(path, "r") as file:
            for layer in sorted(file):
                if layer.startswith(MODALITY_PREFIXES) and not layer.endswith("_logits"):
                    for name in sorted(file[layer]):
                        digest.update(f"{layer}/{name}".encode())
                        digest.update(np.ascontiguousarray(file[layer][name]).tobytes())
    except Exception as error:  # as in read_arrays
        raise WeightsError(
            f"The weights {path.name} cannot be read ({type(error).__name__}); put back the file it was made"
            " with."
        ) from error
    return digest.hexdigest()


def load_weights(network: Network, path: Path) -> None:
    """Read all weights into the network. Raises WeightsError unless the file fits exactly.

    Nothing is changed in the network unless everything fits.
    """
    expected = dict(_named_weights(network.model))
    values = read_arrays(path, {name: tuple(v.shape) for name, v in expected.items()}, network.config.name)
    for name, variable in expected.items():
        variable.assign(values[name])


def read_arrays(path: Path, expected: Shapes, owner: str) -> dict[str, NDArray[np.float32]]:
    """The arrays of a weights file by path, float32, exactly those expected of `owner`.

    Shapes are compared before anything is read, so a small file cannot claim all memory. Raises
    WeightsError for what is missing, foreign, damaged, linked or not finite.
    """
    try:
        with h5py.File(path, "r") as file:
            items: dict[str, Any] = {}
            _collect(file, "", items, path)
            _compare(expected, items, path, owner)
            return {name: _read_array(name, item, path) for name, item in items.items()}
    except WeightsError:
        raise
    except Exception as error:  # h5py raises nearly every built-in kind, depending on the damaged byte
        reason = "it is damaged or not HDF5" if path.exists() else "there is no such file"
        raise WeightsError(
            f"The weights {path.name} cannot be read: {reason}; put back the file it was made with."
        ) from error


def _collect(group: h5py.Group, prefix: str, items: dict[str, Any], path: Path) -> None:
    for key in group:
        name = f"{prefix}{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise WeightsError(
                f"{path.name} holds a link ({name}) where plain arrays are expected; do not use it."
            )
        item = group[key]
        if isinstance(item, h5py.Group) and name.count("/") + 1 < _DEPTH:
            _collect(item, f"{name}/", items, path)
            continue
        plain = isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual
        # chunked arrays may be compressed, or stand for more than the file holds
        if not plain or item.chunks is not None or item.dtype not in (np.float16, np.float32):
            raise WeightsError(
                f"{path.name} holds {name}, which is not a plain array of numbers; do not use it."
            )
        items[name] = item


def _compare(expected: Shapes, items: dict[str, Any], path: Path, owner: str) -> None:
    if set(items) != set(expected):
        missing, foreign = set(expected) - set(items), set(items) - set(expected)
        example = sorted(missing or foreign)[0]
        raise WeightsError(
            f"{path.name} does not hold the weights of {owner}: {len(missing)} are missing and"
            f" {len(foreign)} are foreign (for example {example}); use the file that belongs to this network."
        )
    for name, shape in expected.items():
        if items[name].shape != shape:
            raise WeightsError(
                f"{path.name}: {name} should have shape {shape} and has {items[name].shape}; use the file"
                " that belongs to this network."
            )


def _read_array(name: str, item: h5py.Dataset, path: Path) -> NDArray[np.float32]:
    value = np.asarray(item).astype(np.float32)
    if not np.isfinite(value).all():
        raise WeightsError(
            f"{path.name} holds numbers that are not finite in {name}; train again or put back the last good"
            " file."
        )
    return value


def _named_weights(model: keras.Model) -> list[tuple[str, Any]]:
    return [
        (f"{layer.name}/{variable.name}", variable) for layer in model.layers for variable in layer.weights
    ]
