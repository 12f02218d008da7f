"""Answer with both heatmaps beside bare forward passes: TensorFlow, ONNX Runtime, OpenVINO, and tf-keras-vis.

    python benchmarks/latency.py [--checkpoint DIR] [--rounds N]

All run in this one process on the same studies, in turn, at batches of 1 and 16, so that only their ratios matter.
ONNX Runtime needs `python -m covid_mm export` first, and so does OpenVINO's bare pass, which reads the same file;
what is not there is left out. Bare is the network's logits alone; ours adds both heatmaps by two methods, from that
pass. In 32 bits, but for the rows in bfloat16.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from covid_mm.commands import exit_with, load_tensorflow
from covid_mm.config import DEFAULT_CHECKPOINT
from covid_mm.datasets.phantoms import make_study

BATCHES = (1, 16)
TENSORFLOW, OURS_KERAS = "TensorFlow by Keras, bare", "TensorFlow by Keras, ours: with both heatmaps"
LIBRARY_BARE, OURS = "TensorFlow's library, bare", "TensorFlow's library, ours: with both heatmaps"
ONNX, OURS_ONNX = "ONNX Runtime, bare", "ONNX Runtime, ours"
OPENVINO, OURS_OPENVINO = "OpenVINO, bare", "OpenVINO, ours: with both heatmaps"
OPENVINO_SHORT, OURS_OPENVINO_SHORT = "OpenVINO in bfloat16, bare", "OpenVINO in bfloat16, ours"
LIBRARY = "model.predict, then tf-keras-vis per branch"

Ways = dict[str, Callable[[], Any]]


def measure(checkpoint: str | None, rounds: int) -> int:
    """Time all ways and print a table of medians and ratios."""
    load_tensorflow()
    import numpy as np

    from covid_mm.imaging import resize_grey
    from covid_mm.serving.checkpoint import load_checkpoint
    from covid_mm.serving.runtimes import limit_threads

    limit_threads()  # as every program that serves does
    folder = Path(checkpoint) if checkpoint else DEFAULT_CHECKPOINT
    network, meta = load_checkpoint(folder)
    study = make_study(1, seed=0)
    side = network.config.image_size
    print(f"checkpoint {meta.name}, {meta.network.name}, {rounds} rounds, medians")
    for batch in BATCHES:
        images: Any = {
            m: np.repeat(resize_grey(getattr(study, m), side)[None], batch, axis=0)
            for m in network.config.modalities
        }
        ways = keras_ways(network, meta, images, batch)
        ways |= library_ways(folder, images, batch) | onnx_ways(folder, meta, images, batch)
        ways |= openvino_ways(folder, images, batch)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way()  # tracing and first allocations are not what is measured
        for _ in range(rounds):
            for name, way in ways.items():
                for _ in range(1 if name == LIBRARY else 10):
                    started = time.perf_counter()
                    way()
                    times[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
        fastest = min(value for name, value in medians.items() if "bare" in name and name != OPENVINO_SHORT)
        print(f"\nbatch {batch}: {'':36s} {'ms':>9s} {'to bare Keras':>19s} {'to the fastest bare':>20s}")
        for name, value in medians.items():
            print(f"{name:45s} {value:9.1f} {value / medians[TENSORFLOW]:19.2f} {value / fastest:20.2f}")
    return 0


def keras_ways(network: Any, meta: Any, images: Any, batch: int) -> Ways:
    """The bare compiled forward pass, ours, and for one study the library."""
    import keras
    import numpy as np
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam

    from covid_mm.explain.explained import PREDICTED
    from covid_mm.explain.grad_cam import GradCam
    from covid_mm.imaging import to_network_input
    from covid_mm.models.heads import FUSED

    images = {m: to_network_input(values) for m, values in images.items()}
    side = network.config.image_size
    signature = {m: tf.TensorSpec((None, side, side, 3), tf.float32) for m in images}
    bare = tf.function(lambda inputs: network.model(inputs, training=False)).get_concrete_function(signature)
    ours = GradCam(network, method=meta.heatmap_method, layer=meta.heatmap_layer)
    classes = np.full(batch, PREDICTED, np.int32)
    ways: Ways = {
        TENSORFLOW: lambda: bare({m: tf.constant(values) for m, values in images.items()})["logits"].numpy(),
        OURS_KERAS: lambda: ours.explain(images, classes),
    }
    if batch > 1:
        return ways
    scored = keras.Model([network.image_input(m) for m in images], network.logits(FUSED))
    visualiser = Gradcam(scored, clone=False)

    def run_library() -> None:
        logits = network.model.predict(images, verbose=0)["logits"]
        index = int(np.argmax(logits[0]))
        for modality in images:
            visualiser(
                lambda output: output[:, index],
                list(images.values()),
                penultimate_layer=network.last_conv_layer(modality),
                seek_penultimate_conv_layer=False,
            )

    return ways | {LIBRARY: run_library}


def library_ways(folder: Path, images: Any, batch: int) -> Ways:
    """Those of `--runtime tensorflow`; none where Keras serves instead."""
    from covid_mm.models.tensorflow_library import LibraryUnavailable
    from covid_mm.serving.graph_functions import load_graphs

    try:
        functions, *_ = load_graphs(folder)
    except LibraryUnavailable as error:
        print(f"left out: TensorFlow's library alone ({error})")
        return {}
    bare = functions.read_slices
    return {
        LIBRARY_BARE: lambda: functions.fuse([bare(m, values)[1] for m, values in images.items()]),
        OURS: answer(functions, images, batch),
    }


def openvino_ways(folder: Path, images: Any, batch: int) -> Ways:
    """Ours of the runtimes that are OpenVINO's; none where it is not installed or does not serve this network."""
    from covid_mm.errors import CovidMMError
    from covid_mm.serving.runtimes import load_parts

    ways: Ways = {}
    for name, runtime in ((OURS_OPENVINO, "openvino"), (OURS_OPENVINO_SHORT, "openvino-bfloat16")):
        try:
            ways[name] = answer(load_parts(folder, runtime)[0], images, batch)
        except CovidMMError as error:
            print(f"left out: {error}")
    return ways


def answer(functions: Any, images: Any, batch: int) -> Callable[[], Any]:
    """An answer with two heatmaps per image; contents are not checked, as nowhere here."""
    import numpy as np

    from covid_mm.explain.explained import PREDICTED
    from covid_mm.serving.graph_functions import GRAPH_LAYER

    functions.content_reader = None
    explainer = functions.answer(functions.config.modalities, GRAPH_LAYER)
    classes = np.full(batch, PREDICTED, np.int32)
    return lambda: explainer.explain(images, classes)


def onnx_ways(folder: Path, meta: Any, images: Any, batch: int) -> Ways:
    """Those of the exported network; none where it was not exported or no runtime is installed."""
    import numpy as np

    from covid_mm.errors import CovidMMError
    from covid_mm.explain.explained import PREDICTED
    from covid_mm.explain.method_table import PASS_METHODS
    from covid_mm.imaging import to_network_input
    from covid_mm.models.heads import FUSED
    from covid_mm.models.meta_file import ONNX_FOLDER
    from covid_mm.serving.onnx_functions import OnnxFunctions, answer_file

    try:
        functions = OnnxFunctions(folder / ONNX_FOLDER, meta)
    except CovidMMError as error:
        print(f"left out: {error}")
        return {}
    images = {m: to_network_input(values) for m, values in images.items()}
    name = answer_file(tuple(images))
    feeds: dict[str, Any] = {f"image_{m}": values for m, values in images.items()}
    feeds |= {
        f"content_{m}": values for m, values in images.items()
    }  # read only where contents are asked for
    feeds |= {"classes": np.full(batch, PREDICTED, np.int32)}
    feeds |= {"methods": np.array([PASS_METHODS.index(meta.heatmap_method), 1], np.int32)}
    maps = [f"{kind}_{m}" for kind in ("evidence", "second") for m in images]
    ways: Ways = {
        ONNX: lambda: functions.run(name, feeds, [f"logits_{FUSED}"]),
        OURS_ONNX: lambda: functions.run(
            name, feeds, [f"logits_{FUSED}", *(f"logits_{m}" for m in images), "classes", *maps]
        ),
    }
    try:
        openvino: Any = importlib.import_module("openvino")
        onnx: Any = importlib.import_module("onnx.utils") and importlib.import_module("onnx")
    except ImportError:
        print("left out: OpenVINO is not installed")
        return ways
    # the heatmaps' choice of a method is more than OpenVINO reads
    whole = onnx.utils.Extractor(onnx.load(folder / ONNX_FOLDER / name))
    inputs = [f"image_{m}:0" for m in images]
    logits = whole.extract_model(inputs, [functions.find_output(name, f"logits_{FUSED}")])
    part = openvino.Core().read_model(logits.SerializeToString())
    # where a processor has bfloat16, OpenVINO takes it unless it is told otherwise
    full, short = (
        openvino.compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": name}) for name in ("f32", "bf16")
    )
    given = {f"image_{m}:0": values for m, values in images.items()}
    return ways | {OPENVINO: lambda: full(given), OPENVINO_SHORT: lambda: short(given)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", metavar="DIR", help="checkpoint folder (default: the default pair's)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    sys.exit(exit_with(lambda: measure(options.checkpoint, options.rounds)))
