"""What a concatenated network costs beside its two single ones: training and inference.

Paper, section III: the two single networks' computing time together is nearly that of their
concatenation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from covid_mm.config import CHANNELS, NetworkConfig
from covid_mm.evaluation.results import Costs, InferenceCost, NetworkResult, TrainingCost
from covid_mm.models.network import build_network
from covid_mm.training.run import RunFolder

FEATURE_TIMES = "features.json"  # {backbone: {side of the split: seconds}}
ROUNDS = 15  # timed rounds, the networks of a pair taking turns in each


def measure_costs(folder: RunFolder, results: dict[str, NetworkResult], image_size: int) -> Costs:
    """Seconds of training and milliseconds per study, pairs next to their two single networks.

    Training: the backbones' features (which both ways need once) and the fits. Inference: the
    compiled forward pass of one study on this machine, the median of ROUNDS; weights do not
    matter to it, so random ones are timed. Kept in the run folder.
    """
    features = folder.read_json(FEATURE_TIMES) if (folder.path / FEATURE_TIMES).exists() else {}
    training: list[TrainingCost] = []
    inference: list[InferenceCost] = []
    cached = folder.read_json("inference.json") if (folder.path / "inference.json").exists() else {}
    for name, result in results.items():
        config = NetworkConfig(result.branches, image_size=image_size)  # type: ignore[arg-type]
        if not config.is_concatenated:
            continue
        singles = [NetworkConfig((branch,), image_size=image_size) for branch in config.branches]
        shared = sum(sum(features.get(backbone, {}).values()) for _, backbone in config.branches)
        fits = sum(results[single.name].seconds for single in singles)
        training.append(
            {
                "pair": name,
                "features_seconds": round(shared, 1),
                "pair_seconds": round(shared + result.seconds, 1),
                "singles_seconds": round(shared + fits, 1),
            }
        )
        if name not in cached:
            pair_ms, *single_ms = time_forward_passes([config, *singles])
            cached[name] = {"pair_ms": round(pair_ms, 2), "singles_ms": round(sum(single_ms), 2)}
            folder.write_json("inference.json", cached)
        pair_ms, singles_ms = cached[name]["pair_ms"], cached[name]["singles_ms"]
        inference.append({"pair": name, "pair_ms": pair_ms, "singles_ms": singles_ms})
    return {"training": training, "inference": inference}


def time_forward_passes(configs: list[NetworkConfig]) -> list[float]:
    """Milliseconds of one study through each network's compiled forward pass, taken in turns."""
    calls: list[Callable[[], Any]] = []
    for config in configs:
        network = build_network(config)
        forward = tf.function(network.model, jit_compile=False)
        shape = (1, config.image_size, config.image_size, CHANNELS)
        study = {m: tf.zeros(shape) for m in config.modalities}
        calls.append(lambda forward=forward, study=study: forward(study, training=False)["logits"].numpy())  # type: ignore[misc]
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS + 2):
        for call, measured in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            if turn >= 2:  # the first two trace and warm up
                measured.append(1000.0 * (time.perf_counter() - began))
    keras.backend.clear_session()
    return [statistics.median(measured) for measured in times]
