"""What a trained branch says of every image of the collections: kept, so that measuring trains nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import Modality
from covid_mm.files import write_arrays
from covid_mm.imaging import to_network_input
from covid_mm.models.heads import find_margins
from covid_mm.models.network import Network
from covid_mm.training.crops import LungCrops

_BATCH = 64


@dataclass(frozen=True)
class BranchPredictions:
    """margins: float32 (n,), logit of positive minus logit of normal. features: float16 (n, channels)."""

    margins: NDArray[np.float32]
    features: NDArray[np.float16]


def predict_crops(
    network: Network, modality: Modality, images: NDArray[np.uint8] | NDArray[np.float32]
) -> BranchPredictions:
    """Answers for crops (n, size, size) as serving reads them."""
    model = keras.Model(network.image_input(modality), [network.logits(modality), network.features(modality)])
    margins, features = [], []
    for start in range(0, len(images), _BATCH):
        logits, pooled = model.predict_on_batch(to_network_input(images[start : start + _BATCH]))
        margins.append(find_margins(logits))
        features.append(np.asarray(pooled, np.float16))
    return BranchPredictions(np.concatenate(margins).astype(np.float32), np.concatenate(features))


def predict_collections(
    load: Callable[[], Network], modality: Modality, crops: Mapping[str, LungCrops], path: Path
) -> dict[str, BranchPredictions]:
    """Answers for all images of each collection, by name; read from `path` where those for the same crops were kept.

    load: gives the network, and is called only where it must answer.
    """
    cached = _read(path, crops)
    if cached is not None:
        return cached
    network = load()
    answers = {name: predict_crops(network, modality, part.exact) for name, part in crops.items()}
    arrays: dict[str, NDArray[Any]] = {f"{name}/margins": part.margins for name, part in answers.items()}
    arrays |= {f"{name}/features": part.features for name, part in answers.items()}
    arrays |= {f"{name}/crops": np.frombuffer(part.digest, np.uint8) for name, part in crops.items()}
    write_arrays(path, arrays)
    return answers


def _read(path: Path, crops: Mapping[str, LungCrops]) -> dict[str, BranchPredictions] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            answers = {
                name: BranchPredictions(file[f"{name}/margins"], file[f"{name}/features"]) for name in crops
            }
            fits = all(file[f"{name}/crops"].tobytes() == part.digest for name, part in crops.items())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent, damaged, foreign
        return None
    return answers if fits else None
