"""The classifier of image content: a chest CT slice, a frontal chest film, or neither; usual or not.

The first layers of one of the network's own backbones read every image, at half its resolution, whichever slot
the image lies in; what comes out there is classified into kinds, and its distance from the training images of that
slot is measured.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import CheckpointError
from covid_mm.imaging import to_network_input

if TYPE_CHECKING:
    from covid_mm.models.network import Network

NEITHER = "neither"
MAX_CLASSIFIER_BYTES = 16 * 1024 * 1024
_MAX_REDUCTION = 4

# name in the file -> field, in its order: published files keep the names that they were written with
_STORED = {
    "centre": "mean",
    "spread": "scale",
    "weights": "weights",
    "bias": "intercept",
    "refusal": "refusal",
}
_STORED_OUTLIERS = {"axes": "components", "origin": "mean", "deviation": "deviation", "limit": "limit"}

Features = NDArray[np.float32]


def content_kinds() -> tuple[str, ...]:
    """All kinds of content: each modality, and neither of them."""
    return (*MODALITIES, NEITHER)


@dataclass(frozen=True)
class ContentReader:
    """How a network reads images for the classifier.

    branch: the modality whose backbone reads all of them. layers: of that backbone, in `models.backbones`'s names; the
    mean and the deviation over the image of what each gives are the features. None named: what the last block
    is fed with. reduction: so many pixels a side are averaged to one before the backbone reads.
    """

    branch: Modality
    layers: tuple[str, ...] = ()
    reduction: int = 1


@dataclass(frozen=True)
class Content:
    """What one image shows.

    kind: the likeliest modality, or `neither`. probabilities: by kind, sum 1. distance: from
    the training images of the slot's modality, 1 being ordinary; `unusual` where above the limit.
    """

    kind: str
    probabilities: dict[str, float]
    distance: float
    unusual: bool


@dataclass(frozen=True)
class PcaOutlierModel:
    """Where a modality's training images lie: k principal components of d standardised features.

    components (d, k); mean, deviation (k,): mean and standard deviation along them. limit: greatest
    usual distance, the root mean square over the components of the deviations from the mean.
    """

    components: Features
    mean: Features
    deviation: Features
    limit: float

    def measure_distance(self, standard: Features) -> Features:
        """Distances (n,) of standardised features (n, d)."""
        along = (standard @ self.components - self.mean) / self.deviation
        distance: Features = np.sqrt(np.mean(along**2, axis=1))
        return distance


@dataclass(frozen=True)
class ContentClassifier:
    """The classifier of a network.

    reader: how the network reads the images. mean, scale (d,): standardise its features. weights (d, kinds),
    intercept (kinds,): logits of the kinds. refusal: probability of `neither` from which an image is taken for that.
    usual: by modality, where its training images lie. kinds: that it tells apart, `neither` last.
    """

    reader: ContentReader
    mean: Features
    scale: Features
    weights: Features
    intercept: Features
    refusal: float
    usual: dict[Modality, PcaOutlierModel]
    kinds: tuple[str, ...] = field(default_factory=content_kinds)

    def check(self, modality: Modality, features: Features) -> list[Content]:
        """What n images in a modality's slot show, from `content_features` (n, d) of them."""
        standard = self.standardise(features)
        distances = self.usual[modality].measure_distance(standard)
        return [
            Content(
                kind=self.name_kind(row),
                probabilities=dict(zip(self.kinds, map(float, row), strict=True)),
                distance=float(distance),
                unusual=not distance <= self.usual[modality].limit,  # NaN is unusual too
            )
            for row, distance in zip(self.classify(standard), distances, strict=True)
        ]

    def standardise(self, features: Features) -> Features:
        """Features (n, d) with mean 0 and deviation 1 over what the classifier was trained on."""
        standard: Features = (np.asarray(features, np.float32) - self.mean) / self.scale
        return standard

    def classify(self, standard: Features) -> Features:
        """Probabilities (n, kinds) for standardised features."""
        logits = standard @ self.weights + self.intercept
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        normalised: Features = shares / shares.sum(axis=1, keepdims=True)
        return normalised

    def name_kind(self, shares: Features) -> str:
        """The kind that probabilities (kinds,) name: `neither` from `refusal` on, else the likeliest modality."""
        if not shares[-1] < self.refusal:
            return NEITHER
        return self.kinds[int(np.argmax(shares[:-1]))]

    def to_bytes(self) -> bytes:
        """The arrays as .npz; the large matrices in half precision."""
        arrays: dict[str, NDArray[np.generic]] = {
            "branch": np.array(self.kinds.index(self.reader.branch)),
            "layers": np.array(self.reader.layers, np.str_),
            "reduction": np.array(self.reader.reduction),
            "kinds": np.array(self.kinds),
        }
        for stored, name in _STORED.items():
            arrays[stored] = np.asarray(getattr(self, name), np.float32)
        for modality, usual in self.usual.items():
            for stored, name in _STORED_OUTLIERS.items():
                value = np.asarray(getattr(usual, name), np.float32)
                arrays[f"{modality}_{stored}"] = value.astype(np.float16) if value.ndim == 2 else value
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()


def read_content_classifier(
    path: Path, modalities: tuple[Modality, ...], width: Callable[[ContentReader], int]
) -> ContentClassifier:
    """A classifier from the file that `ContentClassifier.to_bytes` made, for a network of these modalities.

    width: how many features a reader gives, see `content_width`.

    Raises CheckpointError where it is damaged, not finite, or made for another network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            classifier = _parse_classifier(file, modalities)
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"The {path.name} of checkpoint {path.parent.name} cannot be read ({type(error).__name__}); put"
            " back the published one, or train again."
        ) from error
    if not _is_readable(classifier.reader, modalities) or not _fits(classifier, width(classifier.reader)):
        raise CheckpointError(
            f"The {path.name} of checkpoint {path.parent.name} was made for another network; put back the"
            " published one, or train again."
        )
    return classifier


def content_features(network: Network, reader: ContentReader) -> Any:
    """What the classifier reads, symbolic (batch, d): of each layer the means, then the deviations, over the image."""
    import keras

    image, layers = network.image_input(reader.branch), _find_layers(network, reader)
    maps = [network.tensor(f"{reader.branch}_{layer}") for layer in layers]
    if reader.reduction > 1:
        smaller = keras.layers.AveragePooling2D(reader.reduction)(image)
        # `call`, because calling the model itself would insist on images of the usual size
        maps = keras.tree.flatten(keras.Model(image, maps).call(smaller, training=False))
    parts = []
    for one in maps:
        values = keras.ops.cast(one, "float32")
        parts += [keras.ops.mean(values, axis=(1, 2)), keras.ops.std(values, axis=(1, 2))]
    return keras.ops.concatenate(parts, axis=-1)


def content_width(network: Network, reader: ContentReader) -> int:
    """How many features the classifier reads; 0 where the backbone has no such layers for that."""
    layers = _find_layers(network, reader)
    return sum(2 * int(network.tensor(f"{reader.branch}_{layer}").shape[-1]) for layer in layers)


def compute_contents(
    network: Network, reader: ContentReader, images: NDArray[np.float32], batch_size: int = 64
) -> Features:
    """The classifier's features (n, d) of grey images (n, side, side), 0..255."""
    import keras

    model = keras.Model(network.image_input(reader.branch), content_features(network, reader))
    rows = [
        model.predict_on_batch(to_network_input(images[start : start + batch_size]))
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate([np.zeros((0, content_width(network, reader)), np.float32), *rows])


def _find_layers(network: Network, reader: ContentReader) -> tuple[str, ...]:
    """The reader's layers; none where the backbone does not offer them."""
    backbone = network.backbone(reader.branch)
    if not reader.layers:
        return (backbone.last_block_input,)
    return reader.layers if set(reader.layers) <= set(backbone.early_layers) else ()


def _parse_classifier(file: Mapping[str, Any], modalities: tuple[Modality, ...]) -> ContentClassifier:
    def read(name: str) -> Features:
        return np.asarray(file[name], np.float32)

    def read_outliers(modality: Modality) -> PcaOutlierModel:
        components, mean, deviation, limit = (read(f"{modality}_{stored}") for stored in _STORED_OUTLIERS)
        return PcaOutlierModel(components, mean, deviation, float(limit))

    intercept = read("bias")
    # files of before there was a third modality name no kinds: they tell the first ones apart
    names = file["kinds"] if "kinds" in file else [*list(MODALITIES)[: intercept.size - 1], NEITHER]
    kinds = tuple(map(str, names))
    return ContentClassifier(
        reader=ContentReader(
            kinds[int(file["branch"])],
            # files of before there was a choice of layers name none, and no reduction
            tuple(map(str, file["layers"])) if "layers" in file else (),
            int(file["reduction"]) if "reduction" in file else 1,
        ),
        mean=read("centre"),
        scale=read("spread"),
        weights=read("weights"),
        intercept=intercept,
        refusal=float(read("refusal")),
        usual={modality: read_outliers(modality) for modality in modalities},
        kinds=kinds,
    )


def _is_readable(reader: ContentReader, modalities: tuple[Modality, ...]) -> bool:
    return reader.branch in modalities and 1 <= reader.reduction <= _MAX_REDUCTION


def _fits(classifier: ContentClassifier, width: int) -> bool:
    """Whether all arrays are finite, of the right shapes, divisors positive, and kinds known."""
    count = len(classifier.kinds)
    shaped = [
        (classifier.mean, (width,)),
        (classifier.scale, (width,)),
        (classifier.weights, (width, count)),
        (classifier.intercept, (count,)),
    ]
    for usual in classifier.usual.values():
        axes = usual.mean.size
        shaped += [(usual.components, (width, axes)), (usual.mean, (axes,)), (usual.deviation, (axes,))]
    divisors = [classifier.scale, *(usual.deviation for usual in classifier.usual.values())]
    limits = [classifier.refusal, *(usual.limit for usual in classifier.usual.values())]
    return (
        all(array.shape == shape and np.isfinite(array).all() for array, shape in shaped)
        and all((array > 0).all() for array in divisors)
        and all(np.isfinite(value) and value > 0 for value in limits)
        and classifier.kinds[-1] == NEITHER
        and set(classifier.usual) <= set(classifier.kinds[:-1]) <= set(MODALITIES)
    )
