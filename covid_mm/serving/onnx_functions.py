"""What serving asks of a network, run by ONNX Runtime on the files that `python -m covid_mm export` wrote.

TensorFlow and Keras are not imported. The files lie in `onnx/` of the checkpoint's folder; `onnx.json` names
the weights that they were made from and the hash of each, and nothing else is loaded.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CHANNELS, Modality, NetworkConfig
from covid_mm.errors import CheckpointError, UsageError
from covid_mm.explain.explained import AnswerFunction, Explained
from covid_mm.explain.heat_checks import second_method
from covid_mm.explain.method_table import PASS_METHODS, LayerChoice, PassMethod, list_pass_methods
from covid_mm.files import hash_file
from covid_mm.imaging import to_network_input
from covid_mm.imaging.lungs import LungRegion, find_region
from covid_mm.models.content_classifier import (
    MAX_CLASSIFIER_BYTES,
    ContentClassifier,
    ContentReader,
    read_content_classifier,
)
from covid_mm.models.heads import FUSED
from covid_mm.models.lung_segmenter import segment_images
from covid_mm.models.meta_file import CLASSIFIER_NAME, ONNX_FOLDER, find_part
from covid_mm.serving.metadata import Metadata, read_metadata
from covid_mm.serving.network_functions import SlowHeatmaps

MANIFEST_NAME = "onnx.json"
EXPORTED_LAYER: LayerChoice = "coarse"
FUSION_FILE = "fusion.onnx"

Pixels = NDArray[np.float32]


def answer_file(modalities: Sequence[Modality]) -> str:
    """The file that answers studies of these modalities."""
    return f"{'-'.join(modalities)}.onnx"


def lungs_file(modality: Modality) -> str:
    """The file that finds the lungs on images of this modality."""
    return f"lungs-{modality}.onnx"


def load_onnx(
    folder: Path,
) -> tuple[OnnxFunctions, Metadata, ContentClassifier | None, OnnxSegmenter | None]:
    """All that a predictor needs of a checkpoint folder that was exported.

    Raises CheckpointError where it was not, or of other weights, or a file is missing or another;
    UsageError where ONNX Runtime is not installed.
    """
    meta = read_metadata(folder)
    functions = OnnxFunctions(folder / ONNX_FOLDER, meta)
    classifier = None
    if meta.classifier_sha256 is not None:
        file = find_part(folder, CLASSIFIER_NAME, meta.classifier_sha256, MAX_CLASSIFIER_BYTES, meta.name)
        classifier = read_content_classifier(file, meta.network.modalities, functions.find_content_width)
    segmenter = OnnxSegmenter(functions) if meta.preprocessing == "lungs" else None
    return functions, meta, classifier, segmenter


class OnnxFunctions:
    """An exported network; each file is loaded when first needed. Safe to call from any thread."""

    def __init__(self, folder: Path, meta: Metadata) -> None:
        """Check what is there; see `load_onnx` for what is raised. folder: of the exported files."""
        import_runtime()
        self._folder = folder
        self._metadata = meta
        self._manifest = self._read_manifest()
        self._sessions: dict[str, Any] = {}
        self._loading = threading.Lock()

    @property
    def config(self) -> NetworkConfig:
        """The network's description."""
        return self._metadata.network

    @property
    def content_width(self) -> int:
        """How many features the content classifier reads; 0 where contents are not checked."""
        return int(self._manifest["content_width"])

    def find_content_width(self, reader: ContentReader) -> int:
        """The same, for a reader. Raises CheckpointError where another one was exported."""
        exported = self._manifest.get("content_reader")  # exports of before there was a choice name none
        if exported != json.loads(json.dumps(dataclasses.asdict(reader))) and (exported or reader.layers):
            raise CheckpointError(
                "The content check of checkpoint {name} was fitted anew after it was exported for ONNX Runtime; run"
                " `python -m covid_mm export` again.",
                name=self._metadata.name,
            )
        return self.content_width

    @property
    def heatmap_method(self) -> PassMethod:
        """The checkpoint's own."""
        return self._metadata.heatmap_method

    def answer(self, modalities: tuple[Modality, ...], layer: LayerChoice) -> AnswerFunction:
        """Answer and heatmaps in one pass. Raises UsageError for a layer that was not exported."""
        if layer != EXPORTED_LAYER:
            raise UsageError(
                "ONNX Runtime makes heatmaps of layer {exported} only, not {layer}; run with --runtime tensorflow for"
                " others.",
                exported=EXPORTED_LAYER,
                layer=layer,
            )
        return OnnxAnswer(self, modalities)

    def slow_heatmaps(self, modalities: tuple[Modality, ...]) -> SlowHeatmaps:
        """Not here: UsageError."""
        raise UsageError(
            "ONNX Runtime makes the heatmaps that come with the answer only ({methods}); run with --runtime tensorflow"
            " for others.",
            methods=", ".join(list_pass_methods(self.config.pooling)),
        )

    def grid(self, modality: Modality, layer: LayerChoice) -> tuple[int, int]:
        """Rows and columns of the feature map that a heatmap is made of."""
        rows, columns = self._manifest["grids"][modality]
        return int(rows), int(columns)

    def contents(self, images: Pixels) -> Pixels:
        """What the content classifier reads (n, d) of whole images (n, side, side)."""
        modality = self.config.modalities[0]
        feeds = self._fill(modality, images) | {f"content_{modality}": to_network_input(images)}
        outputs = self.run(answer_file((modality,)), feeds, [f"contents_{modality}"])
        return np.asarray(outputs[f"contents_{modality}"])

    def read_slices(self, modality: Modality, images: Pixels) -> tuple[Pixels, Pixels]:
        """A branch's own logits (n, 2) and pooled features (n, channels) of images (n, side, side)."""
        name = answer_file((modality,))
        feeds = self._fill(modality, images) | {f"image_{modality}": to_network_input(images)}
        head = modality if self.config.is_concatenated else FUSED
        outputs = self.run(name, feeds, [f"logits_{head}", f"features_{modality}"])
        return outputs[f"logits_{head}"], outputs[f"features_{modality}"]

    def fuse(self, features: list[Pixels]) -> Pixels:
        """The concatenated head's logits (n, 2) of pooled features (n, channels) by modality, in order."""
        feeds = {f"features_{m}": part for m, part in zip(self.config.modalities, features, strict=True)}
        return np.asarray(self.run(FUSION_FILE, feeds, [f"logits_{FUSED}"])[f"logits_{FUSED}"])

    def run(self, name: str, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, Any]:
        """The named outputs of one file; only what they depend on is computed."""
        session, options = self._session(name)
        taken = {entry.name.removesuffix(":0"): entry.name for entry in session.get_inputs()}
        names = [self.find_output(name, output) for output in outputs]
        given = {taken[key]: value for key, value in feeds.items() if key in taken}
        return dict(zip(outputs, session.run(names, given, options), strict=True))

    def find_output(self, name: str, output: str) -> str:
        """The name within a file of one of its outputs."""
        names = list(self._manifest["files"][name]["outputs"])
        return str(self._session(name)[0].get_outputs()[names.index(output)].name)

    def _fill(self, modality: Modality, images: Pixels) -> dict[str, NDArray[Any]]:
        """Inputs that must be there though nothing that is asked for depends on them."""
        side = self.config.image_size
        blank = np.zeros((len(images), side, side, CHANNELS), np.float32)
        return {
            f"image_{modality}": blank,
            f"content_{modality}": blank,
            "classes": np.zeros(len(images), np.int32),
            "methods": np.zeros(2, np.int32),
        }

    def _session(self, name: str) -> Any:
        runtime = import_runtime()
        with self._loading:
            if name not in self._sessions:
                options = runtime.RunOptions()
                options.only_execute_path_to_fetches = True
                settings = runtime.SessionOptions()
                settings.log_severity_level = 3
                path = self._check_file(name)
                session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
                self._sessions[name] = (session, options)
            return self._sessions[name]

    def _read_manifest(self) -> dict[str, Any]:
        name = self._metadata.name
        path = self._folder / MANIFEST_NAME
        if not path.is_file():
            raise CheckpointError(
                "Checkpoint {name} was not exported for ONNX Runtime: run `python -m covid_mm export --checkpoint"
                " {name}` first, or use the runtime tensorflow.",
                name=name,
            )
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            made_from = [manifest["weights_sha256"], manifest["lungs_sha256"]]
            _ = int(manifest["content_width"]), dict(manifest["grids"])
            files = {str(file): list(entry["outputs"]) for file, entry in manifest["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                "The {file} of checkpoint {name} cannot be read ({error}); export it again.",
                file=MANIFEST_NAME,
                name=name,
                error=type(error).__name__,
            ) from error
        if made_from != [self._metadata.sha256, self._metadata.lungs_sha256] or not files:
            raise CheckpointError(
                "The ONNX files of checkpoint {name} were made from other weights than it has now; run `python -m"
                " covid_mm export` again.",
                name=name,
            )
        result: dict[str, Any] = manifest
        return result

    def _check_file(self, name: str) -> Path:
        path = self._folder / name
        entry = self._manifest["files"].get(name)
        if entry is None or not path.is_file() or path.is_symlink() or hash_file(path) != entry["sha256"]:
            raise CheckpointError(
                "The {file} of checkpoint {name} is missing or not the file that its {manifest} describes (SHA-256"
                " differs); export it again.",
                file=name,
                name=self._metadata.name,
                manifest=MANIFEST_NAME,
            )
        return path


class OnnxAnswer:
    """Answer and heatmaps of the last convolution for one set of modalities, as `explain.grad_cam.GradCam`."""

    def __init__(self, functions: OnnxFunctions, modalities: tuple[Modality, ...]) -> None:
        """functions: of the exported network."""
        config = functions.config
        self.modalities = tuple(m for m in config.modalities if m in modalities)
        whole = self.modalities == config.modalities
        self._functions = functions
        self._heads = [FUSED] if whole else []
        if config.is_concatenated:
            self._heads += self.modalities

    def explain(
        self,
        images: Mapping[Modality, Pixels],
        classes: NDArray[np.int32],
        content_images: Mapping[Modality, Pixels] | None = None,
        *,
        method: PassMethod | None = None,
    ) -> Explained:
        """Logits and evidence of n studies, images by modality (n, side, side); else as `GradCam.explain`."""
        feeds: dict[str, NDArray[Any]] = {f"image_{m}": to_network_input(images[m]) for m in self.modalities}
        feeds |= {f"content_{m}": to_network_input((content_images or images)[m]) for m in self.modalities}
        feeds["classes"] = classes.astype(np.int32)
        chosen = method or self._functions.heatmap_method
        both = (chosen, second_method(chosen))
        feeds["methods"] = np.array([PASS_METHODS.index(name) for name in both], np.int32)
        names = [f"logits_{head}" for head in self._heads] + ["classes"]
        names += [f"{kind}_{m}" for kind in ("evidence", "second") for m in self.modalities]
        contents = [m for m in self.modalities if self._functions.content_width]
        names += [f"contents_{m}" for m in contents]
        outputs = self._functions.run(answer_file(self.modalities), feeds, names)
        return Explained(
            logits={head: outputs[f"logits_{head}"] for head in self._heads},
            classes=outputs["classes"],
            evidence={m: outputs[f"evidence_{m}"] for m in self.modalities},
            second={m: outputs[f"second_{m}"] for m in self.modalities},
            contents={m: outputs[f"contents_{m}"] for m in contents},
        )


class OnnxSegmenter:
    """Finds the lungs, as `models.lung_segmenter.LungSegmenter`."""

    def __init__(self, functions: OnnxFunctions) -> None:
        """functions: of the exported network."""
        self._functions = functions

    def find(self, images: Sequence[Pixels], modality: Modality) -> list[LungRegion | None]:
        """The lungs of whole grey images (h, w), 0..255, of any size; None where an image shows none."""
        return [find_region(row, modality) for row in self.probabilities(images, modality)]

    def probabilities(self, images: Sequence[Pixels], modality: Modality) -> Pixels:
        """Probability of lung, float32 (n, 64, 64), over each whole image."""
        run = self._functions.run
        return segment_images(
            lambda batch: run(lungs_file(modality), {"images": batch}, ["lungs"])["lungs"], images
        )


def import_runtime() -> Any:
    """The module onnxruntime. Raises UsageError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "ONNX Runtime is not installed; install it with `pip install covid-mm[onnx]`, or use the runtime"
            " tensorflow."
        ) from error
    return onnxruntime
