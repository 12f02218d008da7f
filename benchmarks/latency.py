"""Answer with both heatmaps: ours beside the bare forward pass and beside Keras with tf-keras-vis.

    python benchmarks/latency.py [--checkpoint DIR] [--rounds N]

All three run in this one process on the same study, in turn, so that only their ratios matter.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT, MODALITIES
from covid_mm.datasets.phantoms import make_study


def measure(checkpoint: str | None, rounds: int) -> int:
    """Time the three ways and print a table of medians and ratios."""
    load_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam

    from covid_mm.explain.explained import PREDICTED
    from covid_mm.explain.grad_cam import GradCam
    from covid_mm.imaging import read_image
    from covid_mm.models.heads import FUSED
    from covid_mm.serving.checkpoint import load_checkpoint

    network, meta = load_checkpoint(Path(checkpoint) if checkpoint else DEFAULT_CHECKPOINT)
    study = make_study(1, seed=0)
    images: Any = {m: read_image(getattr(study, m))[None] for m in MODALITIES}
    predicted = np.full(1, PREDICTED, np.int32)

    side = network.config.image_size
    signature = {m: tf.TensorSpec((None, side, side, 3), tf.float32) for m in MODALITIES}
    bare = tf.function(lambda inputs: network.model(inputs, training=False)).get_concrete_function(signature)
    grad_cam = GradCam(network)
    scored = keras.Model([network.image_input(m) for m in MODALITIES], network.logits(FUSED))
    visualiser = Gradcam(scored, clone=False)

    def run_bare() -> None:
        outputs = bare({m: tf.constant(images[m]) for m in MODALITIES})
        outputs["probabilities"].numpy()

    def run_ours() -> None:
        grad_cam.explain(images, predicted)

    def run_library() -> None:
        logits = network.model.predict(images, verbose=0)["logits"]
        index = int(np.argmax(logits[0]))
        for modality in MODALITIES:
            visualiser(
                lambda output: output[:, index],
                [images[m] for m in MODALITIES],
                penultimate_layer=network.last_conv_layer(modality),
                seek_penultimate_conv_layer=False,
            )

    ways: dict[str, tuple[Callable[[], None], int]] = {
        "bare forward pass, compiled": (run_bare, 10),
        "ours: answer and both heatmaps": (run_ours, 10),
        "model.predict, then tf-keras-vis twice": (run_library, 1),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way, _ in ways.values():
        way()  # tracing and first allocations are not what is measured
    for _ in range(rounds):
        for name, (way, repeats) in ways.items():
            for _ in range(repeats):
                started = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    first, ours, library = medians.values()
    print(f"checkpoint {meta.name}, {meta.network.name}, one study, {rounds} rounds, medians\n")
    for name, median in medians.items():
        print(f"{name:40s} {median:9.1f} ms")
    print(f"\nours / bare    = {ours / first:.2f}   (aim: at most 1.15)")
    print(f"library / ours = {library / ours:.1f}   (aim: at least 30)")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    sys.exit(exit_with(lambda: measure(options.checkpoint, options.rounds)))
