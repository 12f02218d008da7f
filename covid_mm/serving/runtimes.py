"""What may run a network that is served, one of `config.RUNTIMES`; each is imported only where it is asked for."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from threadpoolctl import threadpool_limits

from covid_mm.config import RUNTIMES
from covid_mm.errors import UsageError
from covid_mm.models.content_classifier import ContentClassifier
from covid_mm.models.openvino_graph import OpenVinoGraph, Precision
from covid_mm.models.tensorflow_library import LibraryUnavailable
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.network_functions import NetworkFunctions
from covid_mm.serving.reading import LungFinder

if TYPE_CHECKING:
    from covid_mm.models.network import Network

Parts = tuple["Network | NetworkFunctions", Metadata, ContentClassifier | None, LungFinder | None]

OPENVINO_PRECISIONS: dict[str, Precision] = {"openvino": "f32", "openvino-bfloat16": "bf16"}

# runtimes that gain from several batches at once; OpenVINO's runs take turns, see models/openvino_graph.py
AT_ONCE = ("tensorflow",)
MOST_AT_ONCE = 4  # batches: each takes some hundred MB while it is computed
_ARENAS = -8  # M_ARENA_MAX of malloc.h

_log = logging.getLogger(__name__)


def load_parts(folder: Path, runtime: str) -> Parts:
    """All that a `Predictor` is made of.

    runtime: `tensorflow` is TensorFlow's own library on graphs without Keras, and where that does not serve, `keras`:
    the network in Keras's layers. `openvino` is OpenVINO on the same graphs, `openvino-bfloat16` the same
    with numbers of 16 bits. `onnx` is ONNX Runtime on what `python -m covid_mm export` wrote.

    Raises CheckpointError where the checkpoint is missing, damaged or not understood, UsageError for another runtime.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"Runtime {runtime!r} is not known; choose one of {', '.join(RUNTIMES)}.")
    if runtime == "onnx":
        from covid_mm.serving.onnx_functions import load_onnx

        return load_onnx(folder)
    if runtime in OPENVINO_PRECISIONS:
        return load_openvino(folder, OPENVINO_PRECISIONS[runtime])
    if runtime == "tensorflow":
        from covid_mm.serving.graph_functions import load_graphs

        try:
            return load_graphs(folder)
        except LibraryUnavailable as error:
            _log.info("Keras serves %s: %s.", folder.name, error)
    from covid_mm.serving.checkpoint import load_checkpoint, load_classifier, load_segmenter

    network, meta = load_checkpoint(folder)
    return network, meta, load_classifier(folder, network, meta), load_segmenter(folder, meta)


def count_batches(runtime: str) -> int:
    """How many batches to answer at once on this machine's processors.

    What is done for a batch beside its convolutions keeps one processor busy; the others take up the next batch.
    """
    return min(os.cpu_count() or 1, MOST_AT_ONCE) if runtime in AT_ONCE else 1


def limit_threads() -> None:
    """NumPy and OpenCV take one thread each from now on, in the whole process: for programs that only serve.

    What they do for an image is small, and their other threads, waiting busily for the next, would take the
    processors from the library that runs the network. Not done by loading a network, as the process may be another's.
    glibc, where it is, keeps what the many other threads freed in two places, not in one for each of them: 80 MB less.
    """
    threadpool_limits(1, user_api="blas")
    cv2.setNumThreads(1)
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other systems have no such function
        ctypes.CDLL(None).mallopt(_ARENAS, 2)


def load_openvino(folder: Path, precision: Precision) -> Parts:
    """All that a `Predictor` is made of. Raises UsageError where OpenVINO cannot serve this checkpoint."""
    from covid_mm.serving.graph_functions import load_graphs

    try:
        return load_graphs(folder, partial(OpenVinoGraph, precision))
    except LibraryUnavailable as error:
        raise UsageError(
            "OpenVINO can't serve checkpoint {name}: {reason}. Use the runtime tensorflow.",
            name=folder.name,
            reason=str(error),
        ) from error
