"""A checkpoint for ONNX Runtime: the network with its heatmaps and the lung segmenter, checked against TensorFlow.

Written into `onnx/` of the checkpoint's folder, whole or not at all: one file per combination of images, one for the
concatenated head, one per modality that finds lungs, and `onnx.json` last.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from covid_mm.config import CLASSES, MODALITIES, Modality
from covid_mm.datasets.phantoms import make_study
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.closed_form import AnswerGraph
from covid_mm.explain.explained import PREDICTED, AnswerFunction
from covid_mm.explain.grad_cam import find_layer
from covid_mm.explain.method_table import list_pass_methods
from covid_mm.files import hash_file, write_atomically
from covid_mm.imaging import resize_grey
from covid_mm.models.content_classifier import content_width
from covid_mm.models.heads import FUSED
from covid_mm.models.lung_segmenter import SEGMENTER_SIDE
from covid_mm.models.meta_file import ONNX_FOLDER
from covid_mm.models.network import Network
from covid_mm.serving.answers import weigh_outputs
from covid_mm.serving.checkpoint import load_checkpoint, load_classifier, load_segmenter
from covid_mm.serving.onnx_functions import (
    EXPORTED_LAYER,
    FUSION_FILE,
    MANIFEST_NAME,
    OnnxFunctions,
    answer_file,
    import_runtime,
    lungs_file,
)
from covid_mm.serving.tensorflow_functions import TensorFlowFunctions

OPSET = 18
TOLERANCE = 1e-4  # of logits and maps, and of features as a share of their highest value
_CHECKED = 3  # phantoms that both runtimes read


def export_onnx(folder: Path, *, progress: Callable[[str], None] = print) -> dict[str, float]:
    """Write the files of a checkpoint folder; the greatest difference to TensorFlow by output.

    progress: is told each file's name.

    Raises:
        UsageError: tf2onnx or ONNX Runtime is not installed, or the network's last convolution is not
            followed by pooling alone. CheckpointError: the checkpoint can't be loaded, or ONNX Runtime's
            answers differ from TensorFlow's by more than 1e-4; what was exported before stays then.
    """
    convert = import_converter()
    import_runtime()
    folder = Path(os.path.abspath(folder))
    network, meta = load_checkpoint(folder)
    classifier, segmenter = load_classifier(folder, network, meta), load_segmenter(folder, meta)
    reader = None if classifier is None else classifier.reader
    config = network.config
    tmp_path = Path(tempfile.mkdtemp(prefix=f".{folder.name}.{ONNX_FOLDER}-", dir=folder.parent))
    files: dict[str, dict[str, Any]] = {}

    def write(name: str, run: Callable[..., dict[str, Any]], inputs: Mapping[str, tf.TensorSpec]) -> None:
        progress(name)
        outputs, data = convert_graph(convert, run, inputs)
        write_atomically(tmp_path / name, data)
        files[name] = {"outputs": outputs, "sha256": hash_file(tmp_path / name), "bytes": len(data)}

    try:
        for modalities in list_combinations(network):
            weights, margin = weigh_outputs(meta, modalities)
            graph = AnswerGraph(
                network, modalities, positive_margin=margin, weights=weights, content_reader=reader
            )
            write(answer_file(modalities), graph, graph.inputs)
        if config.is_concatenated:
            write(FUSION_FILE, *fusion_graph(network))
        if segmenter is not None:
            for modality in config.modalities:
                write(lungs_file(modality), *lungs_graph(segmenter.networks[modality]))
        manifest = {
            "weights_sha256": meta.sha256,
            "lungs_sha256": meta.lungs_sha256,
            "content_width": 0 if reader is None else content_width(network, reader),
            "content_reader": None if reader is None else dataclasses.asdict(reader),
            "layer": EXPORTED_LAYER,
            "grids": {
                m: network.tensor(find_layer(network, m, EXPORTED_LAYER)).shape[1:3]
                for m in config.modalities
            },
            "opset": OPSET,
            "files": files,
        }
        write_atomically(tmp_path / MANIFEST_NAME, json.dumps(manifest, indent=1).encode())
        ours = TensorFlowFunctions(network, meta, reader, reads_lungs=segmenter is not None)
        differences = compare_answers(ours.answer, OnnxFunctions(tmp_path, meta).answer, network)
        if (worst := max(differences.values())) > TOLERANCE:
            raise CheckpointError(
                f"ONNX Runtime's answers of checkpoint {meta.name} differ from TensorFlow's by {worst:.1e}, and at most"
                f" {TOLERANCE:.0e} is allowed; it was not exported. Use the runtime tensorflow."
            )
        tmp_path.chmod(0o755)
        shutil.rmtree(folder / ONNX_FOLDER, ignore_errors=True)
        tmp_path.rename(folder / ONNX_FOLDER)
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)
    return differences


def convert_graph(
    convert: Any, run: Callable[..., dict[str, Any]], inputs: Mapping[str, tf.TensorSpec]
) -> tuple[list[str], bytes]:
    """Names of the outputs in the file's order, and the file."""
    order: list[str] = []

    @tf.function(input_signature=list(inputs.values()), autograph=False)
    def flat(*values: Any) -> list[Any]:
        outputs = run(**dict(zip(inputs, values, strict=True)))
        order[:] = sorted(outputs)
        return [tf.identity(outputs[name]) for name in order]

    concrete = flat.get_concrete_function()
    graph = freeze(concrete)
    names = [f"{tensor.name}:0" for tensor in inputs.values()]
    model, _ = convert.from_graph_def(
        graph,
        input_names=[name for name in names if name.removesuffix(":0") in {node.name for node in graph.node}],
        output_names=[tensor.name for tensor in concrete.outputs],
        opset=OPSET,
    )
    data: bytes = model.SerializeToString()
    return order, data


def freeze(function: Any) -> Any:
    """The graph of a concrete function with its variables and captured constants in it."""
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    constants = {
        inner.op.name: outer for outer, inner in function.graph.captures if outer.dtype != tf.resource
    }
    for node in graph.node:
        if node.op == "Placeholder" and node.name in constants:
            value = constants[node.name].numpy()
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return graph


def fusion_graph(network: Network) -> tuple[Callable[..., dict[str, Any]], dict[str, tf.TensorSpec]]:
    """The concatenated head on pooled features."""
    parts = {f"features_{m}": network.features(m) for m in network.config.modalities}
    model = keras.Model(list(parts.values()), network.logits(FUSED))
    inputs = {
        name: tf.TensorSpec((None, int(part.shape[-1])), tf.float32, name=name)
        for name, part in parts.items()
    }
    return lambda **given: {f"logits_{FUSED}": model([given[name] for name in parts], training=False)}, inputs


def lungs_graph(network: keras.Model) -> tuple[Callable[..., dict[str, Any]], dict[str, tf.TensorSpec]]:
    """The lung segmenter of one modality."""
    inputs = {"images": tf.TensorSpec((None, SEGMENTER_SIDE, SEGMENTER_SIDE, 1), tf.float32, name="images")}
    return lambda images: {"lungs": tf.sigmoid(network(images, training=False))[..., 0]}, inputs


def compare_answers(
    ours: Callable[..., AnswerFunction], theirs: Callable[..., AnswerFunction], network: Network
) -> dict[str, float]:
    """The greatest difference of each output over phantoms, both classes, every method.

    In its own unit, logits or probabilities; of the content check's features relative to the greatest.
    """
    side = network.config.image_size
    studies = [make_study(number % len(CLASSES), number, size=side) for number in range(_CHECKED)]
    worst: dict[str, float] = {}
    for modalities in list_combinations(network):
        images = {
            m: np.stack([resize_grey(study.image_of(MODALITIES[m].kind), side) for study in studies])
            for m in modalities
        }
        first, second = ours(modalities, EXPORTED_LAYER), theirs(modalities, EXPORTED_LAYER)
        for method in list_pass_methods(network.config.pooling):
            for class_index in (PREDICTED, *range(len(CLASSES))):
                classes = np.full(_CHECKED, class_index, np.int32)
                a = first.explain(images, classes, images, method=method)
                b = second.explain(images, classes, images, method=method)
                for kind in ("logits", "evidence", "second", "contents"):
                    expected, got = getattr(a, kind), getattr(b, kind)
                    for name, values in expected.items():
                        scale = max(float(np.abs(values).max()), 1e-6) if kind == "contents" else 1.0
                        difference = float(np.abs(values - got[name]).max()) / scale
                        key = f"{kind} {name}"
                        worst[key] = max(worst.get(key, 0.0), difference)
    return worst


def list_combinations(network: Network) -> list[tuple[Modality, ...]]:
    """Every combination of images that a study may have, the largest first."""
    modalities = network.config.modalities
    return [
        chosen
        for count in range(len(modalities), 0, -1)
        for chosen in itertools.combinations(modalities, count)
    ]


def import_converter() -> Any:
    """The module tf2onnx.convert. Raises UsageError where it is not installed."""
    try:
        import tf2onnx.convert
    except ImportError as error:
        raise UsageError("tf2onnx is not installed; install it with `pip install covid-mm[onnx]`.") from error
    return tf2onnx.convert
