"""What a trained network is worth and how it is to be read: reports, temperatures, heatmap scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import POSITIVE, Modality
from covid_mm.datasets import training_pairs, validation_pairs
from covid_mm.datasets.pairs import possibility_pairs
from covid_mm.evaluation.calibration import fit_temperature, softmax_with_temperature
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.operating_points import count_operating_points
from covid_mm.evaluation.report import BinaryReport, evaluate_binary
from covid_mm.evaluation.results import POSSIBILITY_LABELS, Possibility
from covid_mm.explain.explained import PREDICTED
from covid_mm.explain.grad_cam import GradCam
from covid_mm.explain.method_table import ATTENTION, FixedScaleMethod, LayerChoice
from covid_mm.imaging import to_network_input
from covid_mm.models.heads import FUSED
from covid_mm.models.network import Network
from covid_mm.training.batches import ModalitySamples
from covid_mm.training.features import compute_features

THRESHOLD = 0.5  # not tuned: the likelier class, as in the paper
SCALE_PERCENTILE = 99.0
SCALE_STUDIES = 200  # training studies that the heatmap scale is measured on
_BATCH = 32

Features = dict[Modality, NDArray[np.float32]]  # pooled, (n, channels) by modality


@dataclass(frozen=True)
class HeadOutputs:
    """One head's logits (n, 2) and the labels (n,) of the studies they answer."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def shifted(self, offset: float) -> HeadOutputs:
        """The same with the calibration's offset taken from the positive logit."""
        return HeadOutputs(self.logits - offset * np.eye(2, dtype=np.float32)[POSITIVE], self.labels)

    def positive_probability(self, temperature: float) -> NDArray[np.float64]:
        """Calibrated probability (n,) of covid19_pneumonia."""
        shares: NDArray[np.float64] = softmax_with_temperature(self.logits, temperature)[:, POSITIVE]
        return shares


def predict_heads(
    network: Network,
    samples: dict[Modality, ModalitySamples],
    *,
    seed: int,
    features: Features | None = None,
) -> dict[str, HeadOutputs]:
    """Outputs of every head that the samples allow: branch heads on all images of their modality,
    the fused one on fixed pairs (triples of three) where all modalities are there.

    Each image goes through its backbone once, or not at all where `features` holds what came of
    it. Keys as in meta.json: `fused` and each modality; a single network's only head has its
    modality's name.
    """
    pooled = features or compute_pooled(network, samples)
    outputs: dict[str, HeadOutputs] = {}
    if len(pooled) > 1 and tuple(pooled) == network.config.modalities:
        rows = validation_pairs({m: samples[m].labels for m in pooled}, seed=seed)
        first = samples[network.config.modalities[0]].labels[rows[:, 0]]
        outputs[FUSED] = HeadOutputs(predict_pairs(network, pooled, rows), first)
    for modality, values in pooled.items():
        outputs[modality] = HeadOutputs(predict_branch(network, modality, values), samples[modality].labels)
    return outputs


def compute_pooled(
    network: Network, samples: dict[Modality, ModalitySamples], cache: Path | None = None
) -> Features:
    """Pooled features (n, channels) of each modality that the network reads and the samples have."""
    return {
        modality: compute_features(
            network, modality, samples[modality].images, fine_tune="frozen", cache=cache
        )[0]
        for modality in network.config.modalities
        if modality in samples
    }


def predict_branch(
    network: Network, modality: Modality, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits (n, 2) of a modality's own head, or of a single network's only one, for pooled features."""
    head = keras.Model(network.features(modality), network.logits(modality))
    logits: NDArray[np.float32] = head.predict(features, batch_size=_BATCH, verbose=0)
    return logits


def predict_pairs(network: Network, features: Features, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The concatenated head's logits (n, 2): rows (n, modalities) into each modality's features."""
    modalities = network.config.modalities
    head = keras.Model([network.features(m) for m in modalities], network.logits(FUSED))
    paired = [features[m][rows[:, column]] for column, m in enumerate(modalities)]
    logits: NDArray[np.float32] = head.predict(paired, batch_size=_BATCH, verbose=0)
    return logits


def measure_possibilities(
    network: Network,
    features: Features,
    labels: dict[Modality, NDArray[np.int64]],
    temperature: dict[str, float],
    threshold: dict[str, float],
    *,
    seed: int,
) -> tuple[Possibility, ...]:
    """The paper's "four possibilities" on validation images: what is called positive, by whom.

    Agreeing and disagreeing pairs are drawn the same way, each image at most once per kind; a kind
    without images is left out. A network of other modalities than the paper's two has none.
    """
    alone = {m: predict_branch(network, m, values) for m, values in features.items()}
    possibilities = []
    for kind, chosen in POSSIBILITY_LABELS.items():
        if tuple(chosen) != network.config.modalities:
            continue
        rows = possibility_pairs({m: labels[m] for m in chosen}, chosen, seed=seed)
        if not len(rows):
            continue
        logits = {FUSED: predict_pairs(network, features, rows)}
        logits |= {m: alone[m][rows[:, column]] for column, m in enumerate(chosen)}
        called = {
            head: Proportion.of(_count_positive(values, temperature[head], threshold[head]), len(rows))
            for head, values in logits.items()
        }
        possibilities.append(Possibility(kind, len(rows), called[FUSED], *(called[m] for m in chosen)))
    return tuple(possibilities)


def summarise_predictions(
    network: Network,
    samples: dict[Modality, ModalitySamples],
    features: Features,
    outputs: dict[str, HeadOutputs],
    temperature: dict[str, float],
    threshold: dict[str, float],
    *,
    seed: int,
) -> dict[str, Any]:
    """What meta.json says of the answers beside the metrics: operating points, possibilities.

    samples: the validation images that features and outputs came of.
    """
    labels = {m: part.labels for m, part in samples.items()}
    possibilities: tuple[Possibility, ...] = ()
    if FUSED in outputs:
        possibilities = measure_possibilities(network, features, labels, temperature, threshold, seed=seed)
    return {
        "operating_points": {
            head: count_operating_points(part.positive_probability(temperature[head]), part.labels).to_dict()
            for head, part in outputs.items()
        },
        "possibilities": [part.to_dict() for part in possibilities],
    }


def fit_temperatures(outputs: dict[str, HeadOutputs]) -> dict[str, float]:
    """A temperature per head, from validation studies; never below 1."""
    return {head: fit_temperature(part.logits, part.labels) for head, part in outputs.items()}


def report_heads(
    outputs: dict[str, HeadOutputs], temperature: dict[str, float], threshold: dict[str, float]
) -> dict[str, BinaryReport]:
    """A report per head at its decision threshold."""
    return {
        head: evaluate_binary(part.positive_probability(temperature[head]), part.labels, threshold[head])
        for head, part in outputs.items()
    }


def compare_outputs(
    before: dict[str, HeadOutputs], after: dict[str, HeadOutputs], temperature: dict[str, float]
) -> dict[str, Any]:
    """What storing kernels as float16 changes: greatest change of a probability, labels that turn."""
    changes: dict[str, Any] = {}
    for head, part in before.items():
        old, new = (outputs[head].positive_probability(temperature[head]) for outputs in (before, after))
        changes[head] = {
            "studies": len(part.labels),
            "greatest_probability_change": float(np.abs(old - new).max()),
            "labels_changed": int(((old >= THRESHOLD) != (new >= THRESHOLD)).sum()),
        }
    return changes


def measure_heatmap_scale(
    network: Network,
    samples: dict[Modality, ModalitySamples],
    *,
    seed: int,
    method: FixedScaleMethod = "grad_cam",
    layer: LayerChoice = "coarse",
) -> dict[str, dict[Modality, float]]:
    """The evidence drawn as 1, by head and modality: a high percentile over training images' pixels.

    Evidence is for the class that the network itself names, as on the page. method, layer: those
    that meta.json names as heatmap_method and heatmap_layer. Attention is a probability, drawn as it is: 1.
    """
    scales: dict[str, dict[Modality, float]] = {}
    modalities = network.config.modalities
    for chosen in dict.fromkeys([modalities, *((m,) for m in modalities)]):
        head = FUSED if len(chosen) == len(modalities) > 1 else chosen[0]
        if method == ATTENTION:
            scales[head] = dict.fromkeys(chosen, 1.0)
            continue
        studies = _draw_studies({m: samples[m] for m in chosen}, seed)
        function = GradCam(network, chosen, method=method, layer=layer)
        collected: dict[Modality, list[NDArray[np.float32]]] = {m: [] for m in chosen}
        for start in range(0, len(next(iter(studies.values()))), _BATCH):
            part = {m: to_network_input(images[start : start + _BATCH]) for m, images in studies.items()}
            count = len(next(iter(part.values())))
            explained = function.explain(part, np.full(count, PREDICTED, np.int32))
            for modality in chosen:
                collected[modality].append(explained.evidence[modality])
        scales[head] = {
            m: max(float(np.percentile(np.concatenate(maps), SCALE_PERCENTILE)), 1e-6)
            for m, maps in collected.items()
        }
    return scales


def _draw_studies(samples: dict[Modality, ModalitySamples], seed: int) -> dict[Modality, NDArray[np.float32]]:
    if len(samples) > 1:
        rows = training_pairs({m: part.labels for m, part in samples.items()}, seed=seed, epoch=0)
    else:
        (only,) = samples.values()
        rows = np.random.default_rng(seed).permutation(len(only.labels))[:, None]
    return {m: part.images[rows[:SCALE_STUDIES, column]] for column, (m, part) in enumerate(samples.items())}


def _count_positive(logits: NDArray[np.float32], temperature: float, threshold: float) -> int:
    answered = HeadOutputs(logits, np.zeros(len(logits), np.int64))
    return int((answered.positive_probability(temperature) >= threshold).sum())
