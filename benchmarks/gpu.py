"""The network served, on one GPU: an answer with both heatmaps, by batch size, against what the card can do.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--batches 1,16,64,256] [--rounds N]

One compiled pass on Keras's JAX backend gives the fused and each image's own logits and the attention of each
branch, which is the default heatmap. Needs jax with GPU support and what training needs, but no TensorFlow; lungs
are not found here, nor files read. Weights are random: a pass costs the same whatever they are.

Latency: grey images in the processor's memory -> answers there, one batch after the other, the median. Throughput:
the same with batches handed over before the last one's answers are there. Card: what the pass would take if the
card did nothing but its multiplications at the rate of a large matrix product, or moved nothing but the bytes that
the compiler counts at the rate of a large copy, whichever is longer; both rates are measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import keras
import numpy as np

from covid_mm.config import DEFAULT_PAIR, NetworkConfig
from covid_mm.models.network import build_network
from covid_mm.training.recipe import BY_LENGTH
from covid_mm.training.served_run import served_network
from covid_mm.training.steps import to_channels

PRECISIONS = {"32 bits": "float32", "bfloat16": "mixed_bfloat16"}
CONFIG = served_network(NetworkConfig.pair(DEFAULT_PAIR), BY_LENGTH["long"])  # as the committed checkpoint


def main() -> int:
    """Print one row per precision and batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", default="1,16,64,256", help="studies at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="passes timed of each (default: %(default)s)")
    options = parser.parse_args()
    device = jax.devices()[0]
    multiply, copy = measure_card(8192 if device.platform == "gpu" else 512)
    print(
        f"{device.device_kind}: {multiply / 1e12:.0f} TFLOP/s in bfloat16, {copy / 1e12:.2f} TB/s", flush=True
    )
    columns = (
        "arithmetic",
        "batch",
        "ms a batch",
        "ms a study",
        "studies/s",
        "queued",
        "card, ms",
        "a study",
    )
    print("| " + " | ".join(columns) + " |")
    print("|---|---:|---:|---:|---:|---:|---:|---|", flush=True)
    for title, policy in PRECISIONS.items():
        keras.config.set_dtype_policy(policy)
        answer, weights = compile_network()
        for size in map(int, options.batches.split(",")):
            row = time_batch(answer, weights, size, options.rounds, multiply, copy)
            print(f"| {title} | {size} | {row}", flush=True)
    return 0


def measure_card(side: int) -> tuple[float, float]:
    """Floating-point operations a second of a bfloat16 matrix product, bytes a second of a copy."""
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    product = time_call(jax.jit(lambda x: x @ x), a)
    block = jnp.zeros(side * side * 8, jnp.float32)
    return 2 * side**3 / product, 2 * block.nbytes / time_call(jax.jit(lambda x: x + 1), block)


def time_call(function: Callable[[Any], Any], argument: Any, rounds: int = 20) -> float:
    """Seconds of one call, of many handed over together."""
    function(argument).block_until_ready()
    begin = time.perf_counter()
    for _ in range(rounds):
        result = function(argument)
    result.block_until_ready()
    return (time.perf_counter() - begin) / rounds


def compile_network() -> tuple[Any, Any]:
    """The jitted pass, weights -> grey uint8 images (2, n, s, s) -> logits and attention; and the weights."""
    network, modalities = build_network(CONFIG), CONFIG.modalities
    outputs = [network.logits(), *map(network.logits, modalities), *map(network.attention, modalities)]
    model = keras.Model([network.image_input(m) for m in modalities], outputs)

    def answer(weights: Any, images: Any) -> Any:
        return model.stateless_call(*weights, list(to_channels(images.astype(jnp.float32))), training=False)[
            0
        ]

    groups = (model.trainable_variables, model.non_trainable_variables)
    return jax.jit(answer), [[jnp.asarray(v.value) for v in group] for group in groups]


def time_batch(answer: Any, weights: Any, size: int, rounds: int, multiply: float, copy: float) -> str:
    """One row's figures."""
    images = np.random.default_rng(0).integers(
        0, 256, (2, size, CONFIG.image_size, CONFIG.image_size), np.uint8
    )
    lowered = answer.lower(weights, images)
    compiled = lowered.compile()
    jax.device_get(compiled(weights, images))
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.device_get(compiled(weights, images))
        times.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    waiting = None
    for _ in range(rounds):
        ahead = compiled(weights, images)
        if waiting is not None:
            jax.device_get(waiting)
        waiting = ahead
    jax.device_get(waiting)
    queued = rounds * size / (time.perf_counter() - begin)
    flops = lowered.cost_analysis()["flops"]  # of the compiled pass, cuDNN's convolutions are not counted
    moved = compiled.cost_analysis()["bytes accessed"]
    limit = max(flops / multiply, moved / copy)
    one = statistics.median(times)
    return (
        f"{1e3 * one:.2f} | {1e3 * one / size:.3f} | {size / one:,.0f} | {queued:,.0f} | {1e3 * limit:.2f} |"
        f" {flops / size / 1e9:.2f} GFLOP, {moved / size / 1e6:.0f} MB |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
