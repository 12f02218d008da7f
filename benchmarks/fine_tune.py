"""One whole-network fine-tune on processors: ours beside plain Keras `fit`, and what each measure gives.

    python benchmarks/fine_tune.py [--backbone NAME] [--steps N] [--rounds N]

Plain: `keras.applications`, pooling and a head, `compile` and `fit` with Keras's defaults (which on processors
are without XLA). Ours: what `train.py --fine-tune
full` trains, by the same `fit`, one measure at a time: batch norm in one fused operation, tcmalloc
instead of glibc's allocator (where it is installed), bfloat16 arithmetic (where the processor has
it), TensorFlow's own kernels instead of oneDNN's.

The same images, batch size, optimizer and loss. Each way runs in a process of its own (the
allocator is a process's), in turn, `--rounds` times; the median counts, and the processor time per
step, which other programs on the machine disturb less, stands beside the wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.config import IMAGE_SIZE, MODALITIES, TrainingConfig

TCMALLOC = (
    "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    "/usr/lib/aarch64-linux-gnu/libtcmalloc_minimal.so.4",
)
PLAIN = "Keras fit"
OURS = "ours"


def list_ways() -> dict[str, dict[str, Any]]:
    """Each way by its title: network, allocator, precision, and what the environment adds."""
    allocator = next((path for path in TCMALLOC if Path(path).exists()), "")
    ways: dict[str, dict[str, Any]] = {
        PLAIN: {"network": "keras"},
        "ours, batch norm of Keras": {"network": "ours", "fused": False, "preload": allocator},
        OURS: {"network": "ours", "preload": allocator},
    }
    if allocator:
        ways["ours, glibc's allocator"] = {"network": "ours"}
    if {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()):
        ways["ours, bfloat16"] = {"network": "ours", "preload": allocator, "precision": "mixed_bfloat16"}
    ways["ours, without oneDNN"] = {
        "network": "ours",
        "preload": allocator,
        "environment": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    }
    return ways


def measure(options: argparse.Namespace) -> int:
    """Run every way in turn and print the table."""
    ways = list_ways()
    wall: dict[str, list[float]] = {title: [] for title in ways}
    processor: dict[str, list[float]] = {title: [] for title in ways}
    for number in range(options.rounds):
        for title, way in ways.items():
            result = run_child(way, options)
            wall[title].append(result["wall"])
            processor[title].append(result["processor"])
            print(f"round {number + 1}: {title}: {options.batch / result['wall']:.1f} images/s", flush=True)
    images = {title: options.batch / statistics.median(seconds) for title, seconds in wall.items()}
    print(
        f"\n{options.backbone}, whole, {options.steps} steps of {options.batch},"
        f" {options.rounds} rounds, {os.cpu_count()} cores:"
    )
    print(f"{'':28s} {'images/s':>9s} {'to Keras':>9s} {'CPU s/step':>11s} {'to Keras':>9s}")
    used = {title: statistics.median(seconds) for title, seconds in processor.items()}
    for title in ways:
        print(
            f"{title:28s} {images[title]:9.1f} {images[title] / images[PLAIN]:9.2f}"
            f" {used[title]:11.2f} {used[PLAIN] / used[title]:9.2f}"
        )
    return 0


def run_child(way: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """Seconds per step of one way, wall and processor, from a process of its own."""
    environment = {
        **os.environ,
        **way.get("environment", {}),
        "LD_PRELOAD": way.get("preload", ""),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    words = [sys.executable, __file__, "--child", json.dumps(way), "--backbone", options.backbone]
    words += ["--steps", str(options.steps), "--batch", str(options.batch)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def train_child(way: dict[str, Any], options: argparse.Namespace) -> int:
    """Train one way for the steps and print its seconds per step."""
    import keras
    import numpy as np

    config = TrainingConfig(fine_tune="full", augmentation=0.0, batch_size=options.batch, epochs=1)
    rng = np.random.default_rng(0)
    images = rng.random((options.batch * 4, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32) * 255.0
    labels = np.eye(2, dtype=np.float32)[np.arange(len(images)) % 2]
    keras.config.set_dtype_policy(way.get("precision", "float32"))
    keras.utils.set_random_seed(0)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    jit: Any = "auto" if way["network"] == "keras" else False
    model = (
        build_plain(options.backbone)
        if way["network"] == "keras"
        else build_ours(options.backbone, config, way)
    )
    model.compile(keras.optimizers.Adam(config.learning_rate), loss, metrics=["accuracy"], jit_compile=jit)
    model.fit(images, labels, batch_size=options.batch, steps_per_epoch=2, verbose=0)  # traces
    steps = -(-options.steps // 4) * 4
    began, used = time.perf_counter(), time.process_time()
    model.fit(images, labels, batch_size=options.batch, epochs=steps // 4, verbose=0)
    wall, processor = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"wall": wall / steps, "processor": processor / steps}))
    return 0


def build_plain(name: str) -> Any:
    """The backbone of keras.applications with pooling, 256 units, and logits."""
    import keras

    from covid_mm.models.backbones import find_backbone, scale_pixels

    backbone = find_backbone(name)
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3))
    scaled = scale_pixels(inputs, backbone.scaling, "plain_")
    base = backbone.build(include_top=False, weights=None, input_tensor=scaled, pooling="avg")
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(256, activation="relu")(base.output))
    return keras.Model(base.inputs, keras.layers.Dense(2, dtype="float32")(hidden))


def build_ours(name: str, config: TrainingConfig, way: dict[str, Any]) -> Any:
    """The part that `train.py --fine-tune full` trains of the single network of this backbone."""
    import keras

    from covid_mm.config import NetworkConfig
    from covid_mm.models.network import build_network
    from covid_mm.training.fit import trained_part

    modality = next(m for m, info in MODALITIES.items() if name in info.paper_backbones)
    network = build_network(NetworkConfig.single(name, modality))
    part = trained_part(network, config)
    if not way.get("fused", True):
        for layer in part.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.__class__ = keras.layers.BatchNormalization
    return part


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mobilenet", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=12, help="that are timed; default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="images per step; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.exit(train_child(json.loads(given.child), given) if given.child else measure(given))
