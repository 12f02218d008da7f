"""Weights on disk: HDF5, one group a layer, arrays only.

Written by layer name, so a file says what it holds, and read strictly: every weight must be there
with its shape, nothing else may be, and every number must be finite. Kernels may be stored as
float16 to halve the file; vectors (biases, batch-norm statistics) always stay float32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import WeightsError
from covid_mm.models.network import Network


def save_weights(network: Network, place: Path, *, half: bool = False) -> None:
    """Write all weights atomically. half: kernels as float16."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(beside, "w") as file:
            for name, variable in _named_weights(network.model):
                value = np.asarray(variable)
                if half and value.ndim > 1:
                    value = value.astype(np.float16)
                file.create_dataset(name, data=value)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def load_weights(network: Network, place: Path) -> None:
    """Read all weights into the network. Raises WeightsError unless the file fits exactly."""
    expected = dict(_named_weights(network.model))
    values = read_arrays(place)
    if set(values) != set(expected):
        missing, foreign = set(expected) - set(values), set(values) - set(expected)
        example = sorted(missing or foreign)[0]
        raise WeightsError(
            f"{place.name} does not hold the weights of {network.config.name}: {len(missing)} are missing and"
            f" {len(foreign)} are foreign (for example {example}); use the file that belongs to this network."
        )
    for name, variable in expected.items():
        if values[name].shape != tuple(variable.shape):
            raise WeightsError(
                f"{place.name}: {name} should have shape {tuple(variable.shape)} and has"
                f" {values[name].shape}; use the file that belongs to this network."
            )
    for name, variable in expected.items():
        variable.assign(values[name].astype(np.float32))


def read_arrays(place: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a weights file by path. Raises WeightsError for links, foreign types and NaN."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with h5py.File(place, "r") as file:
            _collect(file, "", arrays, place)
    except OSError as error:
        reason = "there is no such file" if not place.exists() else "it is damaged or not HDF5"
        raise WeightsError(
            f"The weights {place.name} cannot be read: {reason}; put back the file it was made with."
        ) from error
    return arrays


def _collect(group: h5py.Group, prefix: str, arrays: dict[str, NDArray[Any]], place: Path) -> None:
    for key in group:
        link = group.get(key, getlink=True)
        name = f"{prefix}{key}"
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(
                f"{place.name} holds a link ({name}) where plain arrays are expected; do not use it."
            )
        item = group[key]
        if isinstance(item, h5py.Group):
            _collect(item, f"{name}/", arrays, place)
            continue
        if item.external or item.is_virtual or item.dtype.kind != "f":
            raise WeightsError(
                f"{place.name} holds {name}, which is not a plain array of numbers; do not use it."
            )
        value = np.asarray(item)
        if not np.isfinite(value).all():
            raise WeightsError(
                f"{place.name} holds numbers that are not finite in {name}; train again or put back the"
                " last good file."
            )
        arrays[name] = value


def _named_weights(model: keras.Model) -> list[tuple[str, Any]]:
    return [
        (f"{layer.name}/{variable.name}", variable) for layer in model.layers for variable in layer.weights
    ]
